"""A root volume that was used, as the root of another machine: what is new there, what is kept.

The image is made here, with Docker and local disks' unit, and thrown away.
"""

from __future__ import annotations

from collections.abc import Iterator
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
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What both machines said."""
    folder, files = tmp_path_factory.mktemp("used"), {f"packer/images/{IMAGE}.yml": DEFINITION}
    with bakes.baked(folder / "root", files, "--no-verify") as root:
        (folder / "machine").mkdir()
        (disk,) = root.glob(f"build/{IMAGE}/*/disk.raw")
        (folder / "machine/disk.raw").symlink_to(disk)
        yield guest.facts("support.builds.used", folder / "machine")


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
