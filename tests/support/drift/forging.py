"""Forged structures of a file system on a small image, with the checksums that they then have to
have."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from goldenami.core.errors import ExitCode
from goldenami.local.disk import disk
from goldenami.local.reader.crc32c import crc32c
from goldenami.local.reader.directory import entries
from goldenami.local.reader.ext4 import BLOCK, FLAG_INDEX, ROOT_INODE, Ext4
from goldenami.local.reader.inode import Inode
from goldenami.local.reader.limits import Unreadable
from goldenami.model.builds.build_folder import BuildFolder

from support.drift import small_image


def inodes(system: Ext4, number: int = ROOT_INODE, path: str = "") -> Iterator[tuple[str, Inode]]:
    inode = system.inode(number, path)
    yield path or "/", inode
    if stat.S_ISDIR(inode.mode):
        for name, child in entries(system, inode, path).items():
            yield from inodes(system, child.inode, f"{path}/{os.fsdecode(name)}")


def verdict(build: BuildFolder, image: Path) -> str:
    try:
        record = small_image.look(build, image)
    except Unreadable as error:
        assert error.exit_code is ExitCode.UNREACHABLE
        return "could not look"
    return record.verdict.value


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


def at(image: Path, path: str) -> tuple[Ext4, Inode]:
    """The file system of `image` as it is now, and the inode of `path`."""
    system = Ext4(small_image.root(image))
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


def exchange(one: int, other: int, size: int = 4) -> Callable[[bytearray], None]:
    """A change that swaps the bytes at two places."""

    def change(block: bytearray) -> None:
        (block[one : one + size], block[other : other + size]) = (
            block[other : other + size],
            block[one : one + size],
        )

    return change


def write(place: int, data: bytes) -> Callable[[bytearray], None]:
    """A change that puts `data` at a place."""

    def change(block: bytearray) -> None:
        block[place : place + len(data)] = data

    return change
