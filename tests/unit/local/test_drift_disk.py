"""Disks of instances against their bake: what a launch changes passes, and everything else is found
and named."""

from __future__ import annotations

import datetime
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from goldenami.core import shell
from goldenami.core.errors import BadInput, ExitCode
from goldenami.local.disk import disk
from goldenami.local.drift import baked_disk, disk_check, disk_records, manifest, may_differ
from goldenami.local.drift.disk_records import DiskRecord, DiskVerdict
from goldenami.local.drift.launched_with import UNKNOWN
from goldenami.model.builds import sparse_disk
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.disk_blocks import BlockMap
from goldenami.model.builds.sparse_disk import read_block
from goldenami.model.definitions import definition_file
from goldenami.model.locked import lockfile
from support.builds import builds
from support.builds.tools import need, need_disk_tools
from support.drift import plants, small_image, tampering


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> BuildFolder:
    need_disk_tools()
    need("chattr")
    return small_image.bake(tmp_path_factory.mktemp("build") / "0123456789ab")


@pytest.fixture
def image(build: BuildFolder, tmp_path: Path) -> Path:
    return small_image.copy(build, tmp_path / "disk.raw")


def named(record: DiskRecord) -> dict[str, list[str]]:
    return {row.path: row.what for row in record.drift}


def test_a_larger_volume_is_no_drift(build: BuildFolder, image: Path, tmp_path: Path) -> None:
    """As growpart and resize2fs do it at first boot."""
    os.truncate(image, small_image.LAYOUT.size_bytes + (64 << 20))
    shell.Command(
        [
            shell.require("sfdisk", "fdisk"),
            "--quiet",
            "--no-reread",
            "--no-tell-kernel",
            "-N",
            "3",
            str(image),
        ],
    ).output(stdin=", +\n")
    size = small_image.LAYOUT.root_bytes + (64 << 20)
    device = shell.output(
        [
            "losetup",
            "--find",
            "--show",
            f"--offset={disk.ROOT_OFFSET}",
            f"--sizelimit={size}",
            str(image),
        ]
    ).strip()
    try:
        shell.output([shell.require("resize2fs", "e2fsprogs"), "-f", device])
    finally:
        shell.output(["losetup", "--detach", device])
    with small_image.mounted(image, tmp_path / "mount", grown=64 << 20) as tree:
        assert os.statvfs(tree).f_blocks * 4096 > small_image.LAYOUT.root_bytes
    assert named(small_image.look(build, image)) == {}


@pytest.mark.parametrize("seed", [0])
def test_random_tampering_is_found_and_named(
    build: BuildFolder, image: Path, tmp_path: Path, seed: int
) -> None:
    """Twenty kinds a disk, after a launch: nothing is missed, nothing else is named."""
    files = [
        path
        for path, state in manifest.read(build).paths.items()
        if "/usr/share/many/" in path and state.size
    ]
    with small_image.mounted(image, tmp_path / "mount") as tree:
        tampering.launch(tree)
        made = tampering.tamper(tree, files, seed)
    found = named(small_image.look(build, image))
    assert found.keys() == {path for path, _ in made}
    assert [
        (path, said, found[path])
        for path, said in made
        if not any(line.startswith(said) for line in found[path])
    ] == []


def append(name: str, text: str) -> Callable[[Path], None]:
    def change(tree: Path) -> None:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        with (tree / name).open("a", encoding="utf-8") as file:
            file.write(text)

    return change


def link(path: str, target: str) -> Callable[[Path], None]:
    def change(tree: Path) -> None:
        shutil.rmtree(tree / path, ignore_errors=True)
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).symlink_to(target)

    return change


ATTACKS: dict[str, Callable[[Path], None]] = {
    "/etc/systemd/system/backdoor.service": append(
        "etc/systemd/system/backdoor.service", "[Service]\n"
    ),
    "/usr/lib/python3/__pycache__/tool.cpython-313.pyc": append(
        "usr/lib/python3/__pycache__/tool.cpython-313.pyc", "code"
    ),
    "/usr/lib/python3/__pycache__": lambda _: None,
    "/etc/ld.so.preload": append("etc/ld.so.preload", "/tmp/x.so\n"),
    "/usr/lib/modules/6.1/extra/nvidia.ko": append("usr/lib/modules/6.1/extra/nvidia.ko", "x"),
    "/boot/grub/grub.cfg": append("boot/grub/grub.cfg", "set x=init=/bin/sh\n"),
    "/etc/passwd": append("etc/passwd", "second:x:0:0::/:/bin/sh\n"),
    "/etc/shadow": append("etc/shadow", "second:$6$x$y:::::::\n"),
    "/home/ubuntu/.ssh": link("home/ubuntu/.ssh", "/home/debian/x"),
    "/home/ubuntu": lambda tree: os.chown(tree / "home/ubuntu", 33, 33),
    "/home/admin": link("home/admin", "/home/debian/x"),
    "/home/debian": lambda tree: (tree / "home/debian").chmod(0o777),
    "/var/log": lambda tree: (tree / "var/log").chmod(0o777),
    "/usr/bin/false": lambda tree: os.setxattr(
        tree / "usr/bin/false", "security.capability", tampering.CAPABILITY
    ),
}


def test_named_attacks(build: BuildFolder, image: Path, tmp_path: Path) -> None:
    with small_image.mounted(image, tmp_path / "mount") as tree:
        tampering.launch(tree)
        for change in ATTACKS.values():
            change(tree)
    record = small_image.look(build, image)
    assert named(record).keys() == ATTACKS.keys()
    rows = {row.path: row for row in record.drift}
    assert rows["/usr/bin/false"].package == "coreutils"
    assert rows["/home/debian"].what == ["mode: 0777, may be 0700 or 0750 or 0755"]
    assert rows["/home/ubuntu"].what == ["owner: 33:33, may be person"]
    said = list(disk_records.lines(record))
    assert all(any(line.startswith(row.path) for line in said) for row in record.drift)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> BuildFolder:
    need_disk_tools()
    return small_image.bake(tmp_path_factory.mktemp("engine") / "0123456789ab", files=plants.ENGINE)


def test_what_a_launch_and_a_day_write_is_counted_and_what_starts_by_itself_is_named(
    engine: BuildFolder, tmp_path: Path
) -> None:
    image = small_image.copy(engine, tmp_path / "disk.raw")
    with small_image.mounted(image, tmp_path / "mount") as tree:
        tampering.launch(tree)
        for plant in (*plants.WRITTEN, *plants.LISTED, *plants.RIGHTS):
            plants.put(tree, plant)
        os.mknod(tree / "var/log/disk", 0o60600, os.makedev(259, 0))
    record = small_image.look(engine, image)
    assert named(record) == {}
    assert {row.path for row in record.made} == {
        "/etc/machine-id",
        plants.NETPLAN,
        "/etc/ssh/ssh_host_ed25519_key",
        "/etc/ssh/ssh_host_ed25519_key.pub",
    }
    starts = {line.rpartition(": ")[2] for line in record.starts}
    assert {path for path in starts if not path.endswith(".keep")} == {
        plant.path for plant in plants.LISTED
    }
    rights = [line.partition(": ")[0] for area in record.data for line in area.named]
    assert sorted(rights) == sorted(["/var/log/disk", *(plant.path for plant in plants.RIGHTS)])
    counted = {area.area: area.paths for area in record.data}
    assert counted["mounts"] == 9 and counted["crontabs"] == 2
    said = "\n".join(disk_records.lines(record))
    assert "not looked at: memory, other disks of the machine" in said
    assert "starts by itself: a crontab: /var/spool/cron/crontabs/debian" in said


def test_what_is_added_outside_data_is_drift(engine: BuildFolder, tmp_path: Path) -> None:
    image = small_image.copy(engine, tmp_path / "disk.raw")
    with small_image.mounted(image, tmp_path / "mount") as tree:
        tampering.launch(tree)
        for plant in plants.DRIFT:
            plants.put(tree, plant)
    found = named(small_image.look(engine, image))
    assert [plant.path for plant in plants.DRIFT if plant.path not in found] == []
    wanted = {plant.path for plant in plants.DRIFT}
    folders = [
        path
        for path in found.keys() - wanted
        if not any(each.startswith(f"{path}/") for each in wanted)
    ]
    assert folders == []


PLACES = {
    "first sector": 100,
    "gap before the partitions": 34 * 512 + 7,
    "partition bios": disk.BIOS_BOOT[0] + 5000,
    "partition esp": disk.ESP[0] + (1 << 20),
}


def test_what_boots_the_disk(build: BuildFolder, image: Path) -> None:
    with image.open("r+b") as file:
        for offset in PLACES.values():
            file.seek(offset)
            file.write(b"\x5a\xa5")
    assert named(small_image.look(build, image)).keys() == PLACES.keys()


def test_a_definition_allows_a_path_until_a_day(
    build: BuildFolder, image: Path, tmp_path: Path
) -> None:
    root = builds.copy_definitions(tmp_path / "root")
    name = "debian-13-ml-cpu"
    path = definition_file.path_of(root, name)
    before = definition_file.load(root, path)
    with path.open("a", encoding="utf-8") as text:
        text.write("drift:\n  allow:\n    - path: /opt/agent/**\n      until: 2027-01-31\n")
        text.write("      reason: our agent updates itself\n")
    definition = definition_file.load(root, path)
    assert lockfile.digests(root, definition) == lockfile.digests(root, before), "stale"
    reason = may_differ.allowed_paths(definition, datetime.date(2027, 1, 31))
    with small_image.mounted(image, tmp_path / "mount") as tree:
        append("opt/agent/bin/agent", "new")(tree)
        append("opt/agent/code.pyc", "new")(tree)
    record = small_image.look(build, image, reason)
    assert [row.path for row in record.passed] == ["/opt/agent/bin", "/opt/agent/bin/agent"]
    assert "our agent updates itself, until 2027-01-31" in record.passed[0].rule
    assert list(named(record)) == ["/opt", "/opt/agent", "/opt/agent/code.pyc"]
    with pytest.raises(
        BadInput, match=r"allow\.1\.until: /opt/agent/\*\* was allowed to differ until 2027-01-31"
    ):
        may_differ.allowed_paths(definition, datetime.date(2027, 2, 1))


def test_what_a_definition_cannot_allow(tmp_path: Path) -> None:
    root = builds.copy_definitions(tmp_path)
    file = definition_file.path_of(root, "debian-13-ml-cpu")
    before = file.read_text(encoding="utf-8")
    for path, said in (
        ("/**", "names no place"),
        ("/etc/**", "names no place"),
        ("etc/x/y", "names no place"),
        ("/usr/../etc/x", "names no place"),
        ("/opt/agent/x.pyc", "Python runs .pyc"),
    ):
        row = f"    - path: '{path}'\n      reason: because of this\n      until: 2027-01-31\n"
        file.write_text(f"{before}drift:\n  allow:\n{row}", encoding="utf-8")
        with pytest.raises(BadInput, match=said):
            definition_file.load(root, file)


def test_of_an_overlay_s_disk_only_what_is_read_is_hashed(
    build: BuildFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each block that is read is held to the bake's list: one that was changed is found, and none
    else is read."""
    need("qemu-img")
    here = BuildFolder(tmp_path / build.path.name)
    shutil.copytree(
        build.path, here.path, copy_function=lambda *names: small_image.copy_file(*map(Path, names))
    )
    path = tmp_path / "overlay.qcow2"
    shell.output(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(here.disk), str(path)]
    )
    read = list[int]()

    def noted(file: int, index: int) -> bytes:
        read.append(index)
        return read_block(file, index)

    monkeypatch.setattr(baked_disk, "read_block", noted)
    found = baked_disk.opened(path, here, UNKNOWN)
    assert disk_check.check(here, found).verdict is DiskVerdict.AS_BAKED
    assert 0 < len(read) < BlockMap.open(here.blocks).count() // 2
    with here.disk.open("r+b") as file:
        file.seek(read[0] * sparse_disk.BLOCK)
        file.write(b"changed")
    with pytest.raises(BadInput, match="is not what was published"):
        disk_check.check(here, baked_disk.opened(path, here, UNKNOWN))


def test_the_command(
    build: BuildFolder, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = builds.Checkout(tmp_path / "root", monkeypatch)
    name = "debian-13-ml-cpu"
    folder = checkout.root / "build" / name / build.path.name
    shutil.copytree(build.path, folder, ignore=lambda *_: ["disk.raw"])
    given = ("drift", name, "--disk", str(image), "--build", folder.name)
    checkout.run(*given)
    with small_image.mounted(image, tmp_path / "mount") as tree:
        append("etc/ld.so.preload", "x")(tree)
    assert "/etc/ld.so.preload" in checkout.run(*given, code=ExitCode.NOT_VERIFIED)
    os.truncate(image, disk.ROOT_OFFSET + 4096)
    checkout.run(*given, code=ExitCode.UNREACHABLE)
    checkout.run("drift", name, "--disk", "/none", code=ExitCode.BAD_INPUT)
