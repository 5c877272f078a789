"""What a file system says of itself: use changes nothing of that, and other changes are named."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from goldenami.core import shell
from goldenami.local.disk import disk
from goldenami.local.drift import disk_check, manifest
from goldenami.local.reader import ext4_journal
from goldenami.local.reader.block_source import RawFile
from goldenami.local.reader.ext4 import SUPERBLOCK_AT, Ext4, settings
from goldenami.model.builds.build_folder import BuildFolder
from support.builds.tools import need_disk_tools
from support.drift import small_image
from support.drift.small_image import MIB, differing, root


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> BuildFolder:
    need_disk_tools()
    return small_image.bake(tmp_path_factory.mktemp("build") / "0123456789ab")


@pytest.fixture
def image(build: BuildFolder, tmp_path: Path) -> Path:
    return small_image.copy(build, tmp_path / "disk.raw")


@pytest.fixture
def on_disk() -> Iterator[Path]:
    """A folder that is not in memory, where the kernel may write all back before anybody looks."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        yield Path(name)


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


IN_USE = {
    *range(0x14),
    *range(0x2C, 0x38),
    0x3A,
    0x3B,
    *range(0x40, 0x44),
    *range(0x88, 0xC8),
    0xCE,
    0xCF,
    *range(0xE8, 0xEC),
    *range(0x150, 0x15C),
    *range(0x178, 0x180),
    *range(0x194, 0x200),
    *range(0x248, 0x24C),
    0x274,
    0x275,
    *range(0x277, 0x27C),
    *range(0x3FC, 0x400),
}
"""Bytes of a superblock that Linux changes; of its features, it sets five bits."""
FEATURES = {0x5C: 0x18, 0x60: 0x04, 0x64: 0x02, 0x66: 0x01}


def superblock(image: Path) -> bytes:
    return RawFile(image).read(disk.ROOT_OFFSET + SUPERBLOCK_AT, 1024)


def test_every_bit_of_a_superblock_that_use_does_not_change(image: Path) -> None:
    raw = superblock(image)
    before = settings(raw)
    for at in range(1024):
        for bit in (1 << shift for shift in range(8)):
            other = raw[:at] + bytes([raw[at] ^ bit]) + raw[at + 1 :]
            is_free = at in IN_USE or bool(FEATURES.get(at, 0) & bit)
            assert (settings(other) == before) is is_free, hex(at)
    assert f"; journal inode 8 device 0 UUID {uuid.UUID(int=0)}, UUID " in before


def test_use_leaves_what_a_file_system_says_of_itself(image: Path, on_disk: Path) -> None:
    """It is mounted, grown, loses power, is checked, and has an error."""
    before, grown = superblock(image), 32 * MIB
    said, seen = settings(before), set[int]()

    def look(image: Path) -> None:
        system = Ext4(root(image, grown))
        ext4_journal.replay(system)
        now = system.block_at(0)[SUPERBLOCK_AT : SUPERBLOCK_AT + 1024]
        assert system.settings == settings(now) == said
        seen.update(at for at in range(1024) if now[at] != before[at])

    point, lost = on_disk / "mount", on_disk / "lost.raw"
    os.truncate(image, image.stat().st_size + grown)
    with small_image.device(image, grown) as device:
        shell.output([shell.require("resize2fs", "e2fsprogs"), "-f", device])
    with small_image.mounted(image, point, grown=grown) as tree:
        os.setxattr(tree / "etc/hostname", "user.a", b"v" * 3000)
    assert superblock(image)[4:8] != before[4:8]
    with small_image.mounted(image, point, grown=grown):
        small_image.copy_file(image, lost)
    look(image)
    assert Ext4(root(lost, grown)).needs_recovery
    look(lost)
    with small_image.device(lost, grown) as device:
        shell.output([shell.require("e2fsck", "e2fsprogs"), "-p", "-f", device])
    look(lost)
    with lost.open("r+b") as file:
        file.seek(disk.ROOT_OFFSET + small_image.blocks(lost, "/usr/share/many") * 4096 + 100)
        file.write(b"damage")
    with (
        small_image.mounted(lost, point, "loop,errors=continue", grown=grown) as tree,
        pytest.raises(OSError, match="Bad message"),
    ):
        list((tree / "usr/share/many").iterdir())
    assert superblock(lost)[0x194:0x198] != bytes(4)
    look(lost)
    # Blocks, time of a write and of a check, KiB written, errors.
    assert {0x5, 0x30, 0x40, 0x178, 0x194} <= seen
    assert seen <= IN_USE | FEATURES.keys()


def test_a_journal_in_another_file(build: BuildFolder, image: Path) -> None:
    """Linux replays whichever the superblock names. Of an older build, nothing of that is known."""
    before = settings(superblock(image)).partition("; journal")[0]
    small_image.debugfs(image, "set_super_value journal_inum 12")
    assert differing(build, RawFile(image)) == {"file system of root"}
    older = manifest.Manifest("", manifest.BakedPaths([]), {"settings": {"root": before}})
    assert list(disk_check._settings(older, "root", settings(superblock(image)))) == []
    small_image.debugfs(image, "set_super_value errors 3")
    assert len(list(disk_check._settings(older, "root", settings(superblock(image))))) == 1
