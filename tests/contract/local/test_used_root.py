"""A root volume that was used, as the root of another machine: what is new there, what is kept. And
the container of a launch, on a machine of the same image.

The image is made here, with Docker and local disks' unit, and thrown away.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.builds import bakes, guest, used

pytestmark = pytest.mark.long

IMAGE = "debian-13-used"
DEFINITION = f"""image: {IMAGE}
description: Debian 13 with Docker and a place for local disks
base:
  distribution: debian
  release: trixie
kernel: cloud
disk_size_gib: 3
hardware: [c7i]
roles:
  os_updates:
  container_runtime:
    container_runtime_engine: docker
  instance_store:
    instance_store_container_engine: docker
  golden_idle:
  kernel:
  limits:
  network_tuning:
  fast_boot:
  provenance:
  seal:
publish:
  regions: [us-east-1]
"""


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The image, which no boot writes."""
    folder, files = tmp_path_factory.mktemp("used"), {f"packer/images/{IMAGE}.yml": DEFINITION}
    with bakes.baked(folder / "root", files, "--no-verify") as root:
        (found,) = root.glob(f"build/{IMAGE}/*/disk.raw")
        yield found


def played(scenario: str, disk: Path, folder: Path) -> dict[str, Any]:
    """What the machines of a scenario said."""
    (folder / "disk.raw").symlink_to(disk)
    return guest.facts(f"support.builds.{scenario}", folder)


@pytest.fixture(scope="module")
def told(disk: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return played("used", disk, tmp_path_factory.mktemp("machine"))


@pytest.fixture(scope="module")
def launched(disk: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return played("launched", disk, tmp_path_factory.mktemp("launched"))


def test_the_second_machine_is_another_one(told: dict[str, Any]) -> None:
    first, second = told["first"], told["second"]
    assert second["instance"] == used.SECOND != first["instance"]
    assert (first["launch"], second["launch"]) == ("first", "second")
    assert not set(second["host_keys"]) & set(first["host_keys"]), (
        "who has the one may be the other"
    )
    assert len(second["host_keys"]) == len(first["host_keys"]) > 1


def test_everything_works_on_it(told: dict[str, Any]) -> None:
    second = told["second"]
    assert second["state"] == "running", second["state"]
    assert "no local disk: nothing to do" in second["scratch"], second["scratch"]
    assert (told["containers"]["ran"], told["ran"]) == ("mine", "again")


def test_work_is_kept(told: dict[str, Any]) -> None:
    assert (told["mine"], told["copied"]) == ("mine", "kept")


FIRST, LATER = (f"made: 0, keep: {kept}, scratch: 1" for kept in (0, 1))
"""What a new container says: nothing that an earlier one made but in /keep, and local disks."""
ENDED = "golden-container: {} has ended after "


def test_a_container_that_cannot_run_is_one_line(launched: dict[str, Any]) -> None:
    """The machine stays up: all else that is told happened on it."""
    refused = launched["refused"]
    for ended, line in (
        (launched["absent"], "job is not on this machine: `docker images` lists what is"),
        (refused["no such image"], "none is not on this machine: `docker images` lists what is"),
        (refused["no driver"], "job wants GPUs, and no driver is loaded"),
        (refused["newer driver"], "newer asks for driver 570.26, and 550.163.01 is loaded"),
    ):
        assert ended["state"] == "failed exit-code 1", ended
        assert len(ended["lines"]) == 1 and line in ended["lines"][0], ended


def test_a_container_that_ends_says_how(launched: dict[str, Any]) -> None:
    for name, state, said, status in (
        ("at once", "inactive success 0", FIRST, 0),
        ("with an error", "failed exit-code 3", LATER, 3),
    ):
        ended = launched["refused"][name]
        assert (ended["state"], ended["lines"][0], len(ended["lines"])) == (state, said, 2), ended
        assert ended["lines"][1].startswith(ENDED.format("job"))
        assert ended["lines"][1].endswith(f"exit status {status}"), ended


def test_after_a_kill_in_the_middle_the_next_start_is_a_new_container_alone(
    launched: dict[str, Any],
) -> None:
    """Of a pull, of a start, of a run."""
    killed = launched["killed"]
    assert sorted(killed) == ["pull", "run", "start"]
    assert {name: said[1:] for name, said in killed.items()} == {key: [LATER] for key in killed}
    assert len({said[0] for said in killed.values()}) == len(killed)


def test_a_container_is_told_before_an_end_and_what_it_saves_is_kept(
    launched: dict[str, Any],
) -> None:
    """By the agent, as a job of keep.slice; by the power button, before the last copy is made."""
    assert launched["jobs"] == "1", "processes that the agent told"
    assert launched["told"]["kept"].split() == ["result", "told"]
    assert launched["clean"] and launched["kept"].split()[:2] == ["result", "told"]


def test_a_restart_runs_a_new_container_which_finds_what_another_machine_kept(
    launched: dict[str, Any],
) -> None:
    assert launched["again"][-1] == LATER, launched["again"]
    assert launched["kept"].endswith("of another machine"), launched["kept"]
    assert launched["state"] == "running", launched["state"]
