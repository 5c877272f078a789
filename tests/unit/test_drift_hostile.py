"""Disks that somebody damaged on purpose: never "as baked", never a reader that does not end."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import stat
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from goldenami.core import shell
from goldenami.core.errors import BadInput, ExitCode
from goldenami.local.disk import disk
from goldenami.local.drift import baked_disk, disk_check
from goldenami.local.drift.disk_check import LookedAt
from goldenami.local.drift.disk_records import DiskVerdict
from goldenami.local.drift.launched_with import UNKNOWN
from goldenami.local.reader import directory, limits
from goldenami.local.reader.attributes import attributes
from goldenami.local.reader.block_source import RawFile
from goldenami.local.reader.crc32c import crc32c
from goldenami.local.reader.directory import entries
from goldenami.local.reader.ext4 import BLOCK, FLAG_INDEX, ROOT_INODE, SUPERBLOCK_AT, Ext4
from goldenami.local.reader.inode import Inode
from goldenami.local.reader.limits import Unreadable
from goldenami.local.reader.observe import Region
from goldenami.model.builds.build_folder import BuildFolder
from support.builds.tools import need, need_disk_tools
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
            yield from inodes(system, child.inode, f"{path}/{os.fsdecode(name)}")


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
    forge_raw(system, image, next(inode for name, inode in inodes(system) if name == path), changes)


def forge_raw(system: Ext4, image: Path, inode: Inode, changes: dict[int, bytes]) -> None:
    raw = bytearray(inode.raw)
    for at, data in changes.items():
        raw[at : at + len(data)] = data
    raw[0x7C:0x7E] = raw[0x82:0x84] = b"\0\0"
    checksum = crc32c(inode.seed, raw).to_bytes(4, "little")
    raw[0x7C:0x7E], raw[0x82:0x84] = checksum[:2], checksum[2:]
    with image.open("r+b") as file:
        file.seek(disk.ROOT_OFFSET + system.place_of(inode.number))
        file.write(raw)


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


@pytest.mark.parametrize(
    "asked",
    [
        "set_super_value errors 3",
        "set_super_value def_resuid 1000",
        "feature -dir_index",
        "set_super_value default_mount_opts 0",
        "set_super_value mount_opts data=writeback",
    ],
)
def test_what_the_file_system_says_of_itself(
    build: BuildFolder, tmp_path: Path, asked: str
) -> None:
    image = small_image.copy(build, tmp_path / "disk.raw")
    small_image.debugfs(image, asked)
    drift = small_image.look(build, image).drift
    assert [row.path for row in drift] == ["file system of root"]


MANY = "/usr/share/many"


@pytest.fixture(scope="module")
def indexed(build: BuildFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The disk with its largest folder as the kernel makes one."""
    image = small_image.copy(build, tmp_path_factory.mktemp("indexed") / "disk.raw")
    with small_image.mounted(image, image.with_name("mount")) as tree:
        old, new = tree / MANY[1:], tree / "usr/share/new"
        new.mkdir()
        for path in sorted(old.iterdir()):
            path.rename(new / path.name)
        old.rmdir()
        new.rename(old)
    assert verdict(build, image) == DiskVerdict.AS_BAKED
    return image


def at(image: Path, path: str) -> tuple[Ext4, Inode]:
    system = Ext4(Region(RawFile(image), disk.ROOT_OFFSET, small_image.LAYOUT.root_bytes))
    return system, next(inode for name, inode in inodes(system) if name == path)


def forge_block(image: Path, path: str, number: int, change: Callable[[bytearray], None]) -> None:
    """Change a block of a folder, with the checksum that it then has to have."""
    system, inode = at(image, path)
    places = [first + each for _, first, count in system.runs(inode, path) for each in range(count)]
    block = bytearray(system.block_at(places[number]))
    change(block)
    if inode.flags & FLAG_INDEX and (number == 0 or block[4:6] == b"\0\x10"):
        end = (8 if number else 32) + 8 * int.from_bytes(block[34:36], "little")
        block[BLOCK - 4 :] = crc32c(
            crc32c(inode.seed, block[:end]), block[BLOCK - 8 : BLOCK - 4] + bytes(4)
        ).to_bytes(4, "little")
    else:
        block[BLOCK - 4 :] = crc32c(inode.seed, block[: BLOCK - 12]).to_bytes(4, "little")
    with image.open("r+b") as file:
        file.seek(disk.ROOT_OFFSET + places[number] * BLOCK)
        file.write(block)


def lost_to_kernel(image: Path, point: Path) -> set[str]:
    """The baked names that Linux does not find in that folder."""
    names = [
        f"{MANY}/a-rather-long-name-of-a-file-{number:04}" for number in range(small_image.MANY)
    ]
    with small_image.mounted(image, point, "ro,loop") as tree:
        return {name for name in names if not os.access(tree / name[1:], os.F_OK)}


def exchange(one: int, other: int, size: int = 4) -> Callable[[bytearray], None]:
    def change(block: bytearray) -> None:
        (block[one : one + size], block[other : other + size]) = (
            block[other : other + size],
            block[one : one + size],
        )

    return change


def write(place: int, data: bytes) -> Callable[[bytearray], None]:
    def change(block: bytearray) -> None:
        block[place : place + len(data)] = data

    return change


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(exchange(44, 52), id="two of its blocks exchanged"),
        pytest.param(exchange(40, 48), id="two of its hashes exchanged"),
        pytest.param(write(44, b"\2\0\0\0"), id="one block twice"),
        pytest.param(write(44, b"\xff\xff\0\0"), id="a block behind its end"),
        pytest.param(write(40, b"\xff" * 4), id="the end too early"),
        pytest.param(write(34, b"\2\0"), id="fewer entries"),
        pytest.param(write(30, b"\1"), id="another level"),
    ],
)
def test_names_that_the_index_does_not_lead_to(
    build: BuildFolder, indexed: Path, tmp_path: Path, change: Callable[[bytearray], None]
) -> None:
    """They are named: those that Linux does not find, and, where hashes are in no order, all."""
    image = small_image.copy_file(indexed, tmp_path / "disk.raw")
    forge_block(image, MANY, 0, change)
    drift = small_image.look(build, image).drift
    assert {line for row in drift for line in row.what} == {
        "attribute name: none, now not found through the index of its folder"
    }
    named, lost = {row.path for row in drift}, lost_to_kernel(image, tmp_path / "mount")
    assert set() != lost <= named
    assert lost == named or len(named) == small_image.MANY


@pytest.mark.parametrize(
    ("place", "data"),
    [
        (28, b"\2"),
        (28, b"\5"),
        (29, b"\0"),
        (24, b"\1"),
        (31, b"\1"),
        (30, b"\2"),
        (4, b"\0\x10"),
        (32, b"\0\1"),
        (34, b"\0\0"),
        (34, b"\xff\xff"),
    ],
)
def test_an_index_that_is_none(
    build: BuildFolder, indexed: Path, tmp_path: Path, place: int, data: bytes
) -> None:
    image = small_image.copy_file(indexed, tmp_path / "disk.raw")
    forge_block(image, MANY, 0, write(place, data))
    assert verdict(build, image) == "could not look"


def test_an_index_where_none_was(build: BuildFolder, tmp_path: Path) -> None:
    """The folder's first block becomes a root that leads to the second alone."""
    image = small_image.copy(build, tmp_path / "disk.raw")
    system, inode = at(image, MANY)
    forge(system, image, MANY, {0x20: (inode.flags | FLAG_INDEX).to_bytes(4, "little")})

    def change(block: bytearray) -> None:
        block[16:18] = (BLOCK - 12).to_bytes(2, "little")
        block[24:] = struct.pack("<I4BHHI", 0, 1, 8, 0, 0, 507, 1, 1) + bytes(BLOCK - 40)

    forge_block(image, MANY, 0, change)
    rows = small_image.look(build, image).drift
    assert {row.path for row in rows} == lost_to_kernel(image, tmp_path / "mount")
    assert {row.what[0].partition(":")[0] for row in rows} == {"removed", "attribute name"}


@pytest.mark.parametrize("seed", range(6))
def test_random_indexes_hide_nothing(indexed: Path, tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    image = small_image.copy_file(indexed, tmp_path / "disk.raw")

    def change(block: bytearray) -> None:
        end = 32 + 8 * int.from_bytes(block[34:36], "little")
        for _ in range(dice.choice((1, 2, 8))):
            block[dice.randrange(36, end)] ^= dice.randrange(1, 256)

    forge_block(image, MANY, 0, change)
    system, inode = at(image, MANY)
    lost = {
        f"{MANY}/{name.decode()}"
        for name, entry in entries(system, inode, MANY).items()
        if not entry.is_found
    }
    assert lost_to_kernel(image, tmp_path / "mount") <= lost


def test_what_a_folder_says_of_a_name(build: BuildFolder, tmp_path: Path) -> None:
    """Who lists the folder goes by that type, as systemd does for its settings; of an inode that is
    no file's Linux opens none, whatever it holds."""
    image = small_image.copy(build, tmp_path / "disk.raw")
    name = b"sshd_config"
    forge_block(image, "/etc/ssh", 0, lambda block: write(block.index(name) - 1, b"\2")(block))
    drift = small_image.look(build, image).drift
    assert [(row.path, row.what) for row in drift] == [
        ("/etc/ssh/sshd_config", ["attribute name: none, now of type 2 in its folder"])
    ]
    system, inode = at(image, "/etc/ssh/sshd_config")
    forge_raw(system, image, replace(inode, number=9), {})
    forge_block(
        image, "/etc/ssh", 0, lambda block: write(block.index(name) - 8, b"\x09\0\0\0")(block)
    )
    forge_block(image, "/etc/ssh", 0, lambda block: write(block.index(name) - 1, b"\1")(block))
    assert verdict(build, image) == "could not look"
    with small_image.mounted(image, tmp_path / "mount", "ro,loop") as tree:
        assert not os.access(tree / "etc/ssh/sshd_config", os.F_OK)


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


def test_names_in_what_looks_like_the_tree_of_names() -> None:
    """The kernel lists them: no block of that tree has an entry with an inode, and its root ends at
    `..`."""
    inode: Any = SimpleNamespace(flags=FLAG_INDEX, seed=0)
    forged = struct.pack("<IHBB", 5, BLOCK, 4, 1) + b"evil" + bytes(BLOCK - 12)
    with pytest.raises(Unreadable):
        list(directory._of_block(inode, 1, forged, "/etc", checked=False))
    root = struct.pack("<IHBB4sIHBB4s", 2, 12, 1, 2, b".", 2, 24, 2, 2, b"..") + bytes(BLOCK - 24)
    with pytest.raises(Unreadable):
        directory._node(inode, 0, root, "/etc", checked=False)


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
