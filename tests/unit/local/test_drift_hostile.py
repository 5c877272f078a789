"""Disks that somebody damaged on purpose: never "as baked", never a reader that does not end."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import stat
import struct
from pathlib import Path

import pytest
from goldenami.core import shell
from goldenami.core.errors import BadInput
from goldenami.local.disk import disk
from goldenami.local.drift import baked_disk, disk_check
from goldenami.local.drift.disk_check import LookedAt
from goldenami.local.drift.disk_records import DiskVerdict
from goldenami.local.drift.launched_with import UNKNOWN
from goldenami.local.reader import limits
from goldenami.local.reader.attributes import attributes
from goldenami.local.reader.block_source import RawFile
from goldenami.local.reader.crc32c import crc32c
from goldenami.local.reader.ext4 import BLOCK, FLAG_INDEX, SUPERBLOCK_AT, Ext4
from goldenami.local.reader.limits import Unreadable
from goldenami.model.builds.build_folder import BuildFolder
from support.builds.tools import need, need_disk_tools
from support.drift import small_image
from support.drift.forging import at, exchange, forge, inodes, verdict

Place = tuple[int, int]
"""Offset on the disk and bytes of something that the reader looks at."""


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> BuildFolder:
    need_disk_tools()
    return small_image.bake(tmp_path_factory.mktemp("build") / "0123456789ab")


@pytest.fixture(scope="module")
def system(build: BuildFolder) -> Ext4:
    return Ext4(small_image.root(build.disk))


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
            found.append(
                (
                    disk.ROOT_OFFSET + first * BLOCK,
                    count * BLOCK if is_folder else min(inode.size, BLOCK),
                )
            )
    return found


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


U32_MAX = b"\xff\xff\xff\xff"


@pytest.mark.parametrize(
    ("path", "changes", "expected"),
    [
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
        # Linux opens none of these: an extent of no blocks, fields that end within another, an
        # empty file without extents that has something in their place.
        (
            "/usr/bin/true",
            {0x2A: b"\2\0", 0x40: struct.pack("<IHHI", 3, 0, 0, 1000)},
            "could not look",
        ),
        ("/usr/bin/true", {0x80: b"\x1e\0"}, "could not look"),
        ("/etc/machine-id", {0x20: bytes(4)}, "could not look"),
        # Where sectors are counted in blocks, a link with an attribute is not in its inode.
        ("/etc/link", {0x20: b"\0\0\4\0"}, "could not look"),
        ("/etc/link", {0x28: b"host\0ame"}, "drifted"),
    ],
)
def test_forged_inodes(
    build: BuildFolder,
    system: Ext4,
    tmp_path: Path,
    path: str,
    changes: dict[int, bytes],
    expected: str,
) -> None:
    image = small_image.copy(build, tmp_path / "disk.raw")
    forge(system, image, path, changes)
    assert verdict(build, image) == expected


def test_inodes_that_linux_will_overwrite(build: BuildFolder, tmp_path: Path) -> None:
    """The kernel writes zeros to inodes that a group says to have never used."""
    image = small_image.copy(build, tmp_path / "disk.raw")
    system, _ = at(image, "/etc/ssh")
    small_image.debugfs(
        image,
        f"set_block_group 0 itable_unused {system.inodes_per_group - 20}",
        "set_block_group 0 checksum calc",
    )
    assert verdict(build, image) == "could not look"


def test_attributes_are_those_that_linux_reads(build: BuildFolder, tmp_path: Path) -> None:
    """Of two of a name the first, in the inode before a block; in a block none that is out of
    order."""
    image = small_image.copy(build, tmp_path / "disk.raw")
    with small_image.mounted(image, tmp_path / "mount") as tree:
        for name, value in (("b", b"1"), ("c", b"2")):
            os.setxattr(tree / "etc/hostname", f"user.{name}", value)
        for name, value in (("b", b"3" * 2000), ("c", b"4" * 500)):
            os.setxattr(tree / "usr/bin/true", f"user.{name}", value)
    system, inode = at(image, "/etc/hostname")
    forge(system, image, "/etc/hostname", {200: inode.raw[180:181]})  # entries of 20 bytes
    system, inode = at(image, "/usr/bin/true")
    block = bytearray(system.block_at(inode.attribute_block))
    exchange(48, 68, 1)(block)
    block[16:20] = bytes(4)
    block[16:20] = crc32c(
        crc32c(system.seed, inode.attribute_block.to_bytes(8, "little")), block
    ).to_bytes(4, "little")
    with image.open("r+b") as file:
        file.seek(disk.ROOT_OFFSET + inode.attribute_block * BLOCK)
        file.write(block)
    found = {
        path: attributes(at(image, path)[0], at(image, path)[1], path)
        for path in ("/etc/hostname", "/usr/bin/true")
    }
    with small_image.mounted(image, tmp_path / "mount", "ro,loop") as tree:
        for path, values in found.items():
            for name in ("user.b", "user.c"):
                shown: str | None = None
                with contextlib.suppress(OSError):
                    shown = os.getxattr(tree / path[1:], name).hex()
                assert values.get(name) == shown
    assert [len(values) for values in found.values()] == [1, 1]


def test_a_tree_of_extents_that_leads_elsewhere(build: BuildFolder, tmp_path: Path) -> None:
    """Linux looks for a block below the node that says to have it."""
    image = small_image.copy(build, tmp_path / "disk.raw")
    with small_image.mounted(image, tmp_path / "mount") as tree, (tree / "srv").open("wb") as file:
        for number in range(400):
            file.seek(number * 12_288)
            file.write(b"x" * 4096)
    assert verdict(build, image) == "drifted"
    system, inode = at(image, "/srv")
    assert inode.blocks[6:8] == b"\1\0"
    forge(system, image, "/srv", {0x34: b"\3\0\0\0"})
    with pytest.raises(Unreadable, match="tree of its extents is damaged"):
        system, inode = at(image, "/srv")
        system.runs(inode, "/srv")
    with (
        small_image.mounted(image, tmp_path / "mount", "ro,loop") as tree,
        pytest.raises(OSError, match=r"error|cleaning"),
    ):
        (tree / "srv").read_bytes()


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
                    if (
                        f"\nPPid:\t{os.getpid()}\n" in status.read_text(encoding="utf-8")
                        and b"reader.read_disk" in (status.parent / "cmdline").read_bytes()
                    ):
                        os.kill(int(status.parent.name), signal.SIGXCPU)
        return super().read(offset, length)


def test_a_reader_that_is_killed_is_no_verdict(build: BuildFolder) -> None:
    with pytest.raises(Unreadable, match="the reader ended before its disk did"):
        disk_check.check(build, LookedAt(label="", disk=Deadly(build.disk)))


def test_a_reader_that_is_silent_is_no_verdict(
    build: BuildFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SILENCE_S", 0.001)
    with pytest.raises(Unreadable, match="the reader said nothing"):
        small_image.look(build, build.disk)


@pytest.mark.parametrize(
    "end", [0, 512, 1 << 20, disk.ROOT_OFFSET, disk.ROOT_OFFSET + 4096, 100 << 20]
)
def test_a_disk_that_ends_too_early(build: BuildFolder, tmp_path: Path, end: int) -> None:
    image = small_image.copy(build, tmp_path / "disk.raw")
    os.truncate(image, end)
    assert verdict(build, image) == "could not look"


def opened(build: BuildFolder, path: Path) -> LookedAt:
    return baked_disk.opened(path, build, UNKNOWN)


def test_a_raw_disk_that_begins_as_an_overlay(build: BuildFolder, tmp_path: Path) -> None:
    """Nobody but this program would read the file as one: its partition table boots."""
    image = small_image.copy(build, tmp_path / "disk.raw")
    with small_image.mounted(image, tmp_path / "mount") as tree:
        (tree / "usr/bin/false").write_text("other", encoding="utf-8")
    with image.open("r+b") as file:
        file.write(
            struct.pack(
                ">4sIQIIQIIQQIIQ",
                b"QFI\xfb",
                2,
                0,
                0,
                16,
                192 << 20,
                0,
                1,
                1 << 20,
                1 << 16,
                1,
                0,
                0,
            )
        )
    drift = disk_check.check(build, opened(build, image)).drift
    assert [row.path for row in drift] == ["first sector", "/usr/bin/false"]


def test_what_is_neither_a_disk_nor_an_overlay(build: BuildFolder, tmp_path: Path) -> None:
    for content in (b"", b"QF", bytes(1 << 20), b"KDMV" + bytes(4096)):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(BadInput, match=r"neither a raw disk .* nor a qcow2 overlay"):
            opened(build, tmp_path / "file")


def test_an_overlay_over_something_else(build: BuildFolder, tmp_path: Path) -> None:
    """QEMU shows what is below it, and what another file has of it."""
    need("qemu-img", "qemu-io")
    other = small_image.copy(build, tmp_path / "other.raw")
    path = tmp_path / "overlay.qcow2"

    def made(below: Path, form: str, *options: str) -> LookedAt:
        shell.output(
            [
                "qemu-img",
                "create",
                "-q",
                "-f",
                "qcow2",
                "-F",
                form,
                "-b",
                str(below),
                *options,
                str(path),
            ]
        )
        return opened(build, path)

    assert disk_check.check(build, made(build.disk, "raw")).verdict is DiskVerdict.AS_BAKED
    between = path.rename(tmp_path / "between.qcow2")
    for below, form, *options in (
        (other, "raw"),
        (between, "qcow2"),
        (build.disk, "raw", "-o", f"data_file={tmp_path}/apart.raw"),
    ):
        with pytest.raises(BadInput, match="is no overlay over"):
            made(below, form, *options)
    made(build.disk, "raw")
    shell.output(["qemu-io", "-f", "qcow2", "-c", "write -c -P 7 150M 64k", str(path)])
    with pytest.raises(BadInput, match="is compressed"):
        opened(build, path)
