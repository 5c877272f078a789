"""What a folder holds: its entries, read in the order of its blocks, each with its checksum."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from goldenami.local.reader.crc32c import crc32c
from goldenami.local.reader.ext4 import BLOCK, FLAG_INDEX, Ext4
from goldenami.local.reader.inode import Inode
from goldenami.local.reader.limits import Unreadable

_TAIL_BYTES = 12
_TAIL_MARK = 0xDE
"""Type of the entry that holds a block's checksum."""


def entries(system: Ext4, inode: Inode, what: str) -> dict[bytes, int]:
    """Inode numbers by name, without `.` and `..`."""
    runs = system.runs(inode, what)
    blocks = sum(length for _, _, length in runs)
    if inode.size != blocks * BLOCK or any(not first for _, first, _ in runs):
        raise Unreadable(f"{what}: a folder of {inode.size} bytes in {blocks} blocks")
    found = dict[bytes, int]()
    places = (first + index for _, first, count in runs for index in range(count))
    content = zip(places, system.content(inode, runs, chunk=1), strict=True)
    for number, (place, block) in enumerate(content):
        for name, child in _of_block(inode, number, block, what, checked=system.is_changed(place)):
            if name in found:
                raise Unreadable(f"{what}: the name {name!r} stands in it twice")
            if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
                raise Unreadable(f"{what}: no name: {name!r}")
            found[name] = child
    return found


def _of_block(
    inode: Inode, number: int, block: bytes, what: str, *, checked: bool
) -> Iterator[tuple[bytes, int]]:
    """The entries of one block; none of one of the tree by which the kernel finds a name."""
    first, length = struct.unpack_from("<IH", block)
    if inode.flags & FLAG_INDEX and (number == 0 or (first == 0 and length == BLOCK)):
        # `..` hides the tree's root.
        if number == 0 and struct.unpack_from("<H", block, 16) != (BLOCK - 12,):
            raise Unreadable(f"{what}: the tree of its names does not begin as one")
        if checked:
            _check_index(inode, block, 32 if number == 0 else 8, what)
        return
    tail_inode, tail_length, name_length, kind, stated = struct.unpack_from(
        "<IHBBI", block, BLOCK - _TAIL_BYTES
    )
    if (tail_inode, tail_length, name_length, kind) != (0, _TAIL_BYTES, 0, _TAIL_MARK) \
            or (checked and crc32c(inode.seed, block[:-_TAIL_BYTES]) != stated):
        raise Unreadable(f"{what}: its block {number} does not match its checksum")
    at = 0
    while at < BLOCK - _TAIL_BYTES:
        child, length, name_length = struct.unpack_from("<IHB", block, at)
        if length < 8 + name_length or length % 4 or at + length > BLOCK - _TAIL_BYTES:
            raise Unreadable(f"{what}: an entry of its block {number} is damaged")
        name = block[at + 8:at + 8 + name_length]
        if child and not (number == 0 and name in (b".", b"..")):
            yield name, child
        at += length


def _check_index(inode: Inode, block: bytes, at: int, what: str) -> None:
    """Unreadable where a block of the tree of names does not match its checksum (dx_countlimit at
    `at`, dx_tail)."""
    room, count = struct.unpack_from("<HH", block, at)
    tail = at + 8 * room
    sums = crc32c(crc32c(inode.seed, block[:at + 8 * count]), block[tail:tail + 4] + bytes(4))
    stated = int.from_bytes(block[tail + 4:tail + 8], "little")
    if count > room or tail + 8 > BLOCK or sums != stated:
        raise Unreadable(f"{what}: the tree of its names does not match its checksum")
