"""Disks that somebody damaged on purpose: never "as baked", never a reader that does not end."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from goldenami.core.errors import ExitCode
from goldenami.fleet.drift.disk import disk_check
from goldenami.fleet.drift.disk.disk_check import LookedAt
from goldenami.fleet.drift.disk.disk_records import DiskVerdict
from goldenami.local.disk import disk
from goldenami.local.reader import directory, limits
from goldenami.local.reader.block_source import RawFile
from goldenami.local.reader.crc32c import crc32c
from goldenami.local.reader.directory import entries
from goldenami.local.reader.ext4 import BLOCK, FLAG_INDEX, ROOT_INODE, SUPERBLOCK_AT, Ext4
from goldenami.local.reader.inode import Inode
from goldenami.local.reader.limits import Unreadable
from goldenami.local.reader.observe import Region
from goldenami.model.builds.build_folder import BuildFolder
from support.builds.tools import need_disk_tools
from support.drift import small_image

Place = tuple[int, int]
"""Offset on the disk and bytes of something that the reader looks at."""


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> BuildFolder:
    need_disk_tools()
    return small_image.bake(tmp_path_factory.mktemp("build") / "0123456789ab")


@pytest.fixture(scope="module")
def system(build: BuildFolder) -> Ext4:
    return Ext4(Region(RawFile(build.disk), disk.ROOT_OFFSET, small_image.LAYOUT.root_bytes))


def inodes(system: Ext4, number: int = ROOT_INODE, path: str = "") -> Iterator[tuple[str, Inode]]:
    inode = system.inode(number, path)
    yield path or "/", inode
    if stat.S_ISDIR(inode.mode):
        for name, child in entries(system, inode, path).items():
            yield from inodes(system, child, f"{path}/{os.fsdecode(name)}")


@pytest.fixture(scope="module")
def places(system: Ext4) -> list[Place]:
    """The superblock, every inode, every block of a folder without a tree of names, every
    content."""
    found = [(disk.ROOT_OFFSET + SUPERBLOCK_AT, 1024)]
    for path, inode in inodes(system):
        found.append((disk.ROOT_OFFSET + system._inode_at(inode.number, path), 256))
        is_folder, is_file = stat.S_ISDIR(inode.mode), stat.S_ISREG(inode.mode)
        if (is_folder and not inode.flags & FLAG_INDEX) or (is_file and inode.size):
            _, first, count = system.runs(inode, path)[0]
            found.append((disk.ROOT_OFFSET + first * BLOCK,
                          count * BLOCK if is_folder else min(inode.size, BLOCK)))
    return found


def verdict(build: BuildFolder, image: Path) -> str:
    try:
        record = small_image.look(build, image)
    except Unreadable as error:
        assert error.exit_code is ExitCode.UNREACHABLE
        return "could not look"
    return record.verdict.value


def damage(build: BuildFolder, image: Path, places: list[Place], seeds: range) -> dict[str, int]:
    """How often each verdict came, of disks with a few random bytes in one place."""
    came = dict[str, int]()
    for seed in seeds:
        dice = random.Random(seed)
        at, length = dice.choice(places)
        size = min(dice.choice((1, 2, 8)), length)
        start = at + dice.randrange(length - size + 1)
        with image.open("r+b") as file:
            file.seek(start)
            before = file.read(size)
            file.seek(start)
            file.write(bytes(byte ^ dice.randrange(1, 256) for byte in before))
        said = verdict(build, image)
        assert said != DiskVerdict.AS_BAKED, f"seed {seed}: {size} bytes at {start}"
        came[said] = came.get(said, 0) + 1
        with image.open("r+b") as file:
            file.seek(start)
            file.write(before)
    return came


@pytest.mark.slow
def test_damage_is_never_as_baked(build: BuildFolder, places: list[Place], tmp_path: Path) -> None:
    image = small_image.copy(build, tmp_path / "disk.raw")
    came = damage(build, image, places, range(40))
    assert sum(came.values()) == 40
    assert len(came) == 2
    assert verdict(build, image) == DiskVerdict.AS_BAKED


def forge(system: Ext4, image: Path, path: str, changes: dict[int, bytes]) -> None:
    """Write into an inode, with the checksum that it then has to have: as somebody does who knows
    the format."""
    inode = next(inode for name, inode in inodes(system) if name == path)
    raw = bytearray(inode.raw)
    for at, data in changes.items():
        raw[at:at + len(data)] = data
    raw[0x7C:0x7E] = raw[0x82:0x84] = b"\0\0"
    checksum = crc32c(inode.seed, raw).to_bytes(4, "little")
    raw[0x7C:0x7E], raw[0x82:0x84] = checksum[:2], checksum[2:]
    with image.open("r+b") as file:
        file.seek(disk.ROOT_OFFSET + system._inode_at(inode.number, path))
        file.write(raw)


U32_MAX = b"\xff\xff\xff\xff"


@pytest.mark.parametrize(("path", "changes", "expected"), [
    ("/usr/lib/large.so", {4: U32_MAX, 0x6C: b"\xff\xff\xff\x7f"}, "drifted"),
    ("/etc/hostname", {4: U32_MAX, 0x6C: b"\xff\xff\xff\x7f"}, "drifted"),
    ("/usr/share", {4: U32_MAX, 0x6C: b"\xff\xff\0\0"}, "could not look"),
    ("/usr/lib/large.so", {0x28 + 20: U32_MAX}, "could not look"),
    ("/usr/lib/large.so", {0x28 + 2: b"\x05\0"}, "could not look"),
    ("/usr/share", {0x20: bytes(4)}, "could not look"),
    ("/etc/long", {4: b"\xff\xff\0\0"}, "could not look"),
    ("/usr/share", {0: b"\0\0"}, "could not look"),
    ("/usr/share", {0: b"\xa4\x81"}, "drifted"),
    ("/etc/hostname", {0x68: U32_MAX}, "could not look"),
    # Less than no blocks: the kernel reads them, as of no link in its inode
    # (ext4_inode_is_fast_symlink).
    ("/etc/link", {0x68: b"\1\0\0\0"}, "could not look"),
    ("/etc/hostname", {0x80: b"\xf0\xff"}, "could not look"),
    ("/usr/bin/sudo", {0x1A: b"\0\0"}, "could not look"),
])
def test_forged_inodes(
    build: BuildFolder, system: Ext4, tmp_path: Path, path: str, changes: dict[int, bytes],
    expected: str,
) -> None:
    image = small_image.copy(build, tmp_path / "disk.raw")
    forge(system, image, path, changes)
    assert verdict(build, image) == expected


@pytest.mark.parametrize("asked", [
    "set_super_value errors 3", "set_super_value def_resuid 1000", "feature -dir_index",
    "set_super_value default_mount_opts 0", "set_super_value mount_opts data=writeback"])
def test_what_the_file_system_says_of_itself(
    build: BuildFolder, tmp_path: Path, asked: str
) -> None:
    image = small_image.copy(build, tmp_path / "disk.raw")
    small_image.debugfs(image, asked)
    drift = small_image.look(build, image).drift
    assert [row.path for row in drift] == ["file system of root"]


def test_names_in_what_looks_like_the_tree_of_names() -> None:
    """The kernel lists them: no block of that tree has an entry with an inode, and its root ends at
    `..`."""
    inode: Any = SimpleNamespace(flags=FLAG_INDEX, seed=0)
    forged = struct.pack("<IHBB", 5, BLOCK, 4, 1) + b"evil" + bytes(BLOCK - 12)
    root = struct.pack("<IHBB4sIHBB4s", 2, 12, 1, 2, b".", 2, 24, 2, 2, b"..") + bytes(BLOCK - 24)
    for number, block in ((1, forged), (0, root)):
        with pytest.raises(Unreadable):
            list(directory._of_block(inode, number, block, "/etc", checked=False))
    tree = bytes(4) + struct.pack("<H", BLOCK) + bytes(BLOCK - 6)
    assert list(directory._of_block(inode, 1, tree, "/etc", checked=False)) == []


def test_a_folder_within_itself(build: BuildFolder, system: Ext4, tmp_path: Path) -> None:
    """The content of /usr/share becomes that of /usr, which has /usr/share."""
    image = small_image.copy(build, tmp_path / "disk.raw")
    inode = next(inode for name, inode in inodes(system) if name == "/usr")
    small_image.debugfs(image, "unlink /usr/share", f"link <{inode.number}> /usr/share")
    assert verdict(build, image) == "could not look"


class Deadly(RawFile):
    """A disk at whose first reading for the reader the kernel ends that, as when it took too much
    time."""

    def read(self, offset: int, length: int) -> bytes:
        if offset >= disk.ROOT_OFFSET:
            for status in Path("/proc").glob("[0-9]*/status"):
                with contextlib.suppress(OSError):
                    if f"\nPPid:\t{os.getpid()}\n" in status.read_text(encoding="utf-8") and b"reader.read_disk" in (
                            status.parent / "cmdline").read_bytes():
                        os.kill(int(status.parent.name), signal.SIGXCPU)
        return super().read(offset, length)


def test_a_reader_that_is_killed_is_no_verdict(build: BuildFolder) -> None:
    with pytest.raises(Unreadable, match="the reader ended before its disk did"):
        disk_check.check(build, LookedAt(label="", user=small_image.USER, disk=Deadly(build.disk)))


def test_a_reader_that_is_silent_is_no_verdict(
    build: BuildFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SILENCE_S", 0.001)
    with pytest.raises(Unreadable, match="the reader said nothing"):
        small_image.look(build, build.disk)


@pytest.mark.parametrize("end", [0, 512, 1 << 20, disk.ROOT_OFFSET, disk.ROOT_OFFSET + 4096, 100 << 20])
def test_a_disk_that_ends_too_early(build: BuildFolder, tmp_path: Path, end: int) -> None:
    image = small_image.copy(build, tmp_path / "disk.raw")
    os.truncate(image, end)
    assert verdict(build, image) == "could not look"
