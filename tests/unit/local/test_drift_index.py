"""The names of a folder, and its index: a forged one hides no name that Linux does not find."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from goldenami.local.drift.disk_records import DiskVerdict
from goldenami.local.reader import directory
from goldenami.local.reader.directory import entries
from goldenami.local.reader.ext4 import BLOCK, FLAG_INDEX
from goldenami.local.reader.limits import Unreadable
from goldenami.model.builds.build_folder import BuildFolder
from support.builds.tools import need_disk_tools
from support.drift import small_image
from support.drift.forging import at, exchange, forge, forge_block, forge_raw, verdict, write


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> BuildFolder:
    need_disk_tools()
    return small_image.bake(tmp_path_factory.mktemp("build") / "0123456789ab")


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


def lost_to_kernel(image: Path, point: Path) -> set[str]:
    """The baked names that Linux does not find in that folder."""
    names = [
        f"{MANY}/a-rather-long-name-of-a-file-{number:04}" for number in range(small_image.MANY)
    ]
    with small_image.mounted(image, point, "ro,loop") as tree:
        return {name for name in names if not os.access(tree / name[1:], os.F_OK)}


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
