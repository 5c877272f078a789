"""roles/instance_store's program: which disks are local, on made-up trees of /sys, and what it does
with which."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.files import write
from support.programs import load

PROGRAM = Path(__file__).resolve().parents[3] / "roles/instance_store/files/golden-instance-store"
LOCAL, EBS = "Amazon EC2 NVMe Instance Storage        ", "Amazon Elastic Block Store              "


store = load(PROGRAM, "golden_instance_store")


def block(sys_root: Path, name: str, model: str, hidden: str = "0") -> None:
    """A disk as /sys shows it; the model is padded to 40 characters, as NVMe has it."""
    files = {"device/model": f"{model}\n", "hidden": f"{hidden}\n"}
    folder = write(sys_root / "block" / name, files)
    (folder / "holders").mkdir()


def controller(
    sys_root: Path,
    slot: str,
    *,
    vendor: str = "0x1d0f",
    kind: str = "0x010802",
    driver: str = "nvme",
    disk: bool = True,
) -> None:
    """A PCI device; with `disk` its driver has found the namespace."""
    device = {"vendor": f"{vendor}\n", "class": f"{kind}\n"}
    folder = write(sys_root / "bus/pci/devices" / slot, device)
    if driver:
        (sys_root / "bus/pci/drivers" / driver).mkdir(parents=True, exist_ok=True)
        (folder / "driver").symlink_to(sys_root / "bus/pci/drivers" / driver)
    if disk:
        (folder / "nvme/nvme1/nvme1n1").mkdir(parents=True)


def test_disks_are_chosen_by_model_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    assert store.local_disks(tmp_path) == []
    block(tmp_path, "nvme0n1", EBS)
    assert store.local_disks(tmp_path) == []
    for name in ("nvme10n1", "nvme2n1", "nvme1n1"):
        block(tmp_path, name, LOCAL)
    block(tmp_path, "nvme1c1n1", LOCAL, hidden="1")
    block(tmp_path, "sda", LOCAL)
    assert store.local_disks(tmp_path) == ["nvme1n1", "nvme2n1", "nvme10n1"]


def test_udev_is_waited_for_where_there_is_a_local_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")  # so that who asks udevadm fails
    block(tmp_path, "nvme0n1", EBS)
    store.settle(tmp_path)
    block(tmp_path, "nvme1n1", LOCAL)
    with pytest.raises(FileNotFoundError, match="udevadm"):
        store.settle(tmp_path)


@pytest.mark.parametrize(
    ("shape", "waits"),
    [
        ({}, False),
        ({"disk": False}, True),
        ({"disk": False, "driver": ""}, True),
        ({"disk": False, "vendor": "0x8086"}, False),
        ({"disk": False, "kind": "0x020000"}, False),
        ({"disk": False, "driver": "vfio-pci"}, False),
    ],
)
def test_controllers_that_are_waited_for(
    tmp_path: Path, shape: dict[str, Any], waits: bool
) -> None:
    controller(tmp_path, "0000:00:1f.0", **shape)
    assert store.probing(tmp_path) == (["0000:00:1f.0"] if waits else [])


def test_the_array_that_holds_a_disk(tmp_path: Path) -> None:
    block(tmp_path, "nvme1n1", LOCAL)
    assert store.holder(tmp_path, "nvme1n1") is None
    (tmp_path / "block/nvme1n1/holders/md127").mkdir()
    assert store.holder(tmp_path, "nvme1n1") == "/dev/md127"


def blank(name: str) -> Any:
    return store.Disk(f"/dev/{name}")


def single(name: str) -> Any:
    return store.Disk(f"/dev/{name}", "xfs", "golden-store")


def member(name: str, array: str = "u1", members: int = 2) -> Any:
    return store.Disk(f"/dev/{name}", "linux_raid_member", "golden-store", array, members)


@pytest.mark.parametrize(
    ("disks", "complaint"),
    [
        (
            [blank("a"), member("b")],
            "half-wiped: /dev/a is blank, /dev/b holds linux_raid_member 'golden-store'",
        ),
        ([blank("a"), single("b")], "half-wiped: /dev/a is blank, /dev/b holds xfs"),
        ([member("a"), member("b", "u2")], "not the members of one array of 2"),
        ([member("a", members=3), member("b", members=3)], "not the members of one array of 2"),
        ([member("a")], "not the members of one array of 1"),
        ([single("a"), single("b")], "not the members of one array of 2"),
        (
            [store.Disk("/dev/a", "ext4", "mine")],
            "/dev/a holds ext4 'mine', which was not made here: back it up",
        ),
        ([store.Disk("/dev/a", "gpt")], "/dev/a holds gpt '', which was not made here"),
        (
            [store.Disk("/dev/a", "xfs", "data"), blank("b")],
            "/dev/a holds xfs 'data', which was not made here",
        ),
        (
            [store.Disk("/dev/a", "linux_raid_member", "md0", "u", 2), member("b")],
            "holds linux_raid_member 'md0', which",
        ),
    ],
)
def test_disks_that_are_left_alone(disks: list[Any], complaint: str) -> None:
    with pytest.raises(store.Refused) as caught:
        store.choose(disks)
    assert complaint in str(caught.value) and "wipefs --all /dev/" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("mounts", "fstab", "made", "complaint"),
    [
        ("/dev/b {0} ext4 rw 0 0\n", "", None, "is taken: /dev/b is mounted there"),
        ("", "UUID=1 {0} xfs defaults 0 0\n", None, "is taken: /etc/fstab has it"),
        ("", "UUID=1 {0}/ xfs defaults 0 0\n", None, "is taken: /etc/fstab has it"),
        ("", "", "folder", "is taken: it holds files"),
        ("", "", "file", "is taken: it is no folder"),
        ("", "", "link", "is taken: it is no folder"),
    ],
)
def test_a_mount_point_that_is_taken(
    tmp_path: Path,
    mounts: str,
    fstab: str,
    made: str | None,
    complaint: str,
) -> None:
    point = tmp_path / "scratch"
    if made == "folder":
        (point / "mine").mkdir(parents=True)
    elif made == "file":
        point.touch()
    elif made == "link":
        point.symlink_to(tmp_path)
    with pytest.raises(store.Refused, match=complaint) as caught:
        store.check_free(point, "/dev/a", mounts.format(point), fstab.format(point))
    assert str(caught.value).startswith(f"{point} is taken")


STARTED = (
    "engine-id",
    "buildkit/cache.db",
    "containers/",
    "image/overlay2/repositories.json",
    "image/overlay2/imagedb/content/sha256/",
    "network/files/local-kv.db",
    "overlay2/l/",
    "swarm/",
    "plugins/storage/ingest/",
    "runtimes/",
    "tmp/",
    "volumes/metadata.db",
    "tmpmounts/",
    "opt/bin/",
    "io.containerd.metadata.v1.bolt/meta.db",
    "io.containerd.content.v1.content/ingest/",
    "io.containerd.snapshotter.v1.overlayfs/metadata.db",
    "storage/overlay/l/",
    "storage/db.sql",
    "cache/x",
)
"""What engines leave where they only started; a folder ends with `/`."""


def plant(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.touch()
    return folder


def test_an_engine_s_folder_that_only_its_start_filled_is_free(tmp_path: Path) -> None:
    """It started on a type without local disks; the instance has moved to one with them."""
    folder = plant(tmp_path / "docker", *STARTED)
    assert not store.check_free(folder, "/dev/a", "", "", engine=True)
    with pytest.raises(store.Refused, match="is taken: it holds files"):
        store.check_free(folder, "/dev/a", "", "")


THEIRS = (
    "overlay2/0a/diff/",
    "containers/0a/",
    "image/overlay2/imagedb/content/sha256/0a",
    "volumes/mine/_data/",
    "swarm/docker-state.json",
    "plugins/storage/blobs/sha256/0a",
    "mine",
    "io.containerd.content.v1.content/blobs/sha256/0a",
    "io.containerd.snapshotter.v1.overlayfs/snapshots/1/",
    "opt/bin/tool",
    "storage/overlay/0a/diff/",
    "storage/volumes/mine/_data/",
)
"""What somebody made with an engine."""


def test_an_engine_s_folder_with_something_of_somebody_s_is_not(tmp_path: Path) -> None:
    for number, name in enumerate(THEIRS):
        folder = plant(tmp_path / str(number), *STARTED, name)
        with pytest.raises(store.Refused, match="is taken: it holds files"):
            store.check_free(folder, "/dev/a", "", "", engine=True)


def test_a_command_that_fails_is_named_in_one_line() -> None:
    with pytest.raises(store.Refused, match=r"^sh -c .*: second$"):
        store.run("sh", "-c", "echo first >&2; echo second >&2; exit 3")
    assert store.run("sh", "-c", "exit 2", may=(0, 2)) == ""


def test_mdadm_is_told_of_the_array_that_the_program_makes() -> None:
    template = PROGRAM.parents[1] / "templates/etc/mdadm/mdadm.conf.j2"
    assert f"ARRAY <ignore> UUID={store.UUID}" in template.read_text(encoding="utf-8").splitlines()
