"""Local disks: the program and its unit in the image, and on the booted image what it does with
real NVMe devices.

Their model is EC2's; `local_disks.py` makes them of files and takes them away again. A machine that
has local disks of its own is asked whether they are mounted instead.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

MODEL = "Amazon EC2 NVMe Instance Storage"
SCENES = ("none", "one", "two", "half_wiped", "foreign", "taken", "moved")
ENGINES = {
    "none": [],
    "docker": ["/var/lib/docker", "/var/lib/containerd"],
    "podman": ["/var/lib/containers"],
}
MIB = 1 << 20
UNIT = "golden-instance-store.service"


@pytest.fixture(scope="module")
def has_disks(host: Any) -> bool:
    """Whether the machine has local disks of its own."""
    return bool(host.run("grep -l %s /sys/block/nvme*/device/model", MODEL).stdout)


@pytest.fixture(scope="module")
def played(run_program: Any, booted: bool, has_disks: bool) -> Any:
    """What the program did in each scene."""
    if not booted:
        pytest.skip("needs the image's own kernel: a container can have no NVMe device")
    if has_disks:
        pytest.skip("not asked: this machine has local disks of its own")
    program = (Path(__file__).parent / "local_disks.py").read_text(encoding="utf-8")
    return run_program(program, *SCENES)


def good(run: dict[str, Any]) -> bool:
    """Whether everybody can write to an xfs at the mount point."""
    return (run["status"], run["mounted"], run["type"], run["mode"], run["writable"]) == (
        0,
        True,
        "xfs",
        "0o1777",
        True,
    )


def test_unit_is_enabled_and_says_what_the_lock_says(
    host: Any, settings: Any, lock: dict[str, Any]
) -> None:
    lines = settings(f"/etc/systemd/system/{UNIT}")
    words = next(line for line in lines if line.startswith("ExecStart=")).split()
    assert words[1:5] == [
        "--mount-point",
        lock["instance_store_mount_point"],
        "--mode",
        lock["instance_store_mode"],
    ]
    bound = ENGINES[lock["instance_store_container_engine"]]
    assert words[5:] == [word for path in bound for word in ("--bind", path)]
    assert host.service(UNIT).is_enabled


def test_engine_waits_for_its_disks(host: Any, lock: dict[str, Any]) -> None:
    files = "/etc/systemd/system/*.service.d/golden-instance-store.conf"
    found = host.run(f"grep -l {UNIT} {files}").stdout.split()
    names = {path.split("/")[-2].removesuffix(".service.d") for path in found}
    wanted = {
        "none": set(),
        "docker": {"docker", "containerd"},
        "podman": {"podman", "podman-restart"},
    }
    assert names == wanted[lock["instance_store_container_engine"]], found


def test_udev_leaves_the_array_to_the_unit(settings: Any) -> None:
    """And the file is ours: the package's would have the day of the bake in it."""
    assert settings("/etc/mdadm/mdadm.conf") == [
        "HOMEHOST <ignore>",
        "MAILADDR root",
        "ARRAY <ignore> UUID=676f6c64:656e2d73:746f7265:2d617272",
    ]


def test_boot_mounted_the_disks_or_did_nothing(
    host: Any, lock: dict[str, Any], has_disks: bool, needs_boot: None, settled: str
) -> None:
    wanted = {
        "Result": "success",
        "ActiveState": "active",
        "SubState": "exited",
        "ConditionResult": "yes",
    }
    found = host.service(UNIT).systemd_properties
    assert {name: found[name] for name in wanted} == wanted
    point = lock["instance_store_mount_point"]
    if has_disks:
        assert host.mount_point(point).filesystem == "xfs"
    else:
        # On a root that is read-only the bake makes the folder, which nothing can fill.
        is_read_only = "ro" in host.mount_point("/").options
        assert host.file(point).exists == is_read_only, "a folder that would fill the root disk"


def test_without_local_disks_nothing_happens(played: dict[str, Any]) -> None:
    (run,) = played["none"]
    assert (run["status"], run["mounted"]) == (0, False) and "no local disk" in run["said"]


def test_one_disk_is_made_kept_and_made_anew(played: dict[str, Any]) -> None:
    made, again, rebooted, stopped = played["one"]
    assert all(good(run) for run in played["one"]), played["one"]
    assert ("made anew" in made["said"], made["kept"], made["arrays"]) == (True, False, {})
    assert again["kept"]
    assert (rebooted["kept"], "found on" in rebooted["said"]) == (True, True)
    assert (stopped["kept"], "made anew" in stopped["said"]) == (False, True)


def test_two_disks_are_one_striped_array(played: dict[str, Any]) -> None:
    made, again, rebooted, stopped = played["two"]["runs"]
    assert all(good(run) for run in played["two"]["runs"]), played["two"]
    assert list(made["arrays"].values()) == ["raid0"]
    assert made["bytes"] > 400 * MIB, "less than two disks"
    assert again["kept"] and rebooted["kept"] and not stopped["kept"]
    assert len(rebooted["arrays"]) == 1


def test_engine_s_data_lies_on_the_disks(played: dict[str, Any]) -> None:
    assert played["two"]["bound"]
    assert played["two"]["data"] == [False, True], (
        "before and after the program's run of a later boot"
    )


def test_half_wiped_disks_are_refused_with_the_way_out(played: dict[str, Any]) -> None:
    found = played["half_wiped"]
    assert found["refused"]["status"] == 1 and not found["refused"]["mounted"]
    assert (
        "half-wiped" in found["refused"]["said"] and len(found["refused"]["said"].splitlines()) == 1
    )
    assert found["untouched"]
    assert good(found["after"]), found


def test_a_file_system_of_others_is_left_alone(played: dict[str, Any]) -> None:
    found = played["foreign"]
    assert found["refused"]["status"] == 1 and found["untouched"]
    assert "holds ext4 'mine', which was not made here" in found["refused"]["said"]


def test_a_folder_with_files_is_never_hidden(played: dict[str, Any]) -> None:
    found = played["taken"]
    assert (
        found["refused"]["status"] == 1 and found["untouched"] and not found["refused"]["mounted"]
    )
    assert "is taken: it holds files" in found["refused"]["said"]


def test_an_engine_that_started_without_disks_gets_them_later(played: dict[str, Any]) -> None:
    """The engine works on with somebody's container, which is never hidden; a login says what to
    do for the disks."""
    found = played["moved"]
    stays, after = found["stays"], found["after"]
    assert good(stays) and found["kept"], found
    assert "is taken: it holds files" in stays["told"] and stays["told"] in stays["said"]
    assert good(after) and found["bound"] and not after["told"], found


def test_nothing_failed_and_nothing_is_left(played: dict[str, Any]) -> None:
    assert (played["failed"], played["left"]) == ("", [])
