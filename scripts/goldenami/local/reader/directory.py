"""The entries of a folder, read in the order of its blocks, each block with its checksum.

In a large folder Linux finds a name by a tree (htree). Each name is looked up as the kernel does it
(ext4_dx_find_entry), because for the kernel a name that the tree does not lead to does not exist.
"""

from __future__ import annotations

import bisect
import operator
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from goldenami.local.reader.crc32c import crc32c
from goldenami.local.reader.ext4 import BLOCK, FIRST_INODE, FLAG_INDEX, Ext4
from goldenami.local.reader.inode import Inode
from goldenami.local.reader.limits import Unreadable

_TAIL_BYTES = 12
_TAIL_MARK = 0xDE
"""Type of the entry that holds a block's checksum."""

_Node = Sequence[tuple[int, int]]
"""Pairs of a hash and the block of the folder that has the names from that hash on; the first
pair's hash is none."""
_ROOT_AT, _NODE_AT, _NODE_TAIL_BYTES = 32, 8, 8
"""Offsets of the entries in the root and in another node, and the bytes of the checksum."""
_LEVELS_AT = 30
_HALF_MD4 = 1
_BLOCK_NUMBER = 0x0FFFFFFF
_U32 = 0xFFFFFFFF
_Mix = Callable[[int, int, int], int]
_ROUNDS: tuple[tuple[_Mix, int, str, tuple[int, ...]], ...] = (
    (lambda x, y, z: z ^ x & (y ^ z), 0, "01234567", (3, 7, 11, 19)),
    (lambda x, y, z: (x & y) + ((x ^ y) & z), 0x5A827999, "13570246", (3, 5, 9, 13)),
    (lambda x, y, z: x ^ y ^ z, 0x6ED9EBA1, "37261504", (3, 9, 11, 15)),
)
"""Rounds of half MD4: how each mixes three words, what it adds, the order in which it takes the
name's words, and by how many bits it turns (fs/ext4/hash.c)."""


class Entry(NamedTuple):
    """A name's inode, the type that the folder states, and whether Linux finds the name."""

    inode: int
    kind: int
    is_found: bool


Listed = tuple[bytes, int, int, int]
"""Name, inode, type, and the block of the folder that has it."""


def entries(system: Ext4, inode: Inode, subject: str) -> dict[bytes, Entry]:
    """Return the entries by name, without `.` and `..`."""
    nodes, rows = dict[int, _Node](), dict[bytes, Listed]()
    for row in listed(system, inode, subject, nodes):
        if row[0] in rows:
            raise Unreadable(f"{subject}: the name {row[0]!r} stands in it twice")
        rows[row[0]] = row
    lost, places = set[bytes](), _places(system, inode, subject)
    # Names are looked up only in folders that may differ from the bake.
    if nodes and (inode.changed or any(map(system.is_changed, places))):
        root = system.block_at(places[0])
        lost = {
            name
            for name, *_, block in rows.values()
            if block not in _searched(system, root, nodes, name)
        }
    return {name: Entry(child, kind, name not in lost) for name, child, kind, _ in rows.values()}


def listed(
    system: Ext4, inode: Inode, subject: str, nodes: dict[int, _Node] | None = None
) -> Iterator[Listed]:
    """Yield each entry but `.` and `..`; `nodes` gets the tree by which the kernel finds a name."""
    for number, place in enumerate(_places(system, inode, subject)):
        block, checked = system.block_at(place), inode.changed or system.is_changed(place)
        if inode.flags & FLAG_INDEX and (
            number == 0 or struct.unpack_from("<IH", block) == (0, BLOCK)
        ):
            node = _node(inode, number, block, subject, checked=checked)
            if nodes is not None:
                nodes[number] = node
        else:
            yield from _of_block(inode, number, block, subject, checked=checked)


def _places(system: Ext4, inode: Inode, subject: str) -> list[int]:
    """Return the folder's blocks. Raises Unreadable if they are not exactly its size."""
    blocks = list[int]()
    for logical, first, count in system.runs(inode, subject):
        if logical != len(blocks) or not first:
            raise Unreadable(f"{subject}: a folder with a hole")
        blocks += range(first, first + count)
    if inode.size != len(blocks) * BLOCK:
        raise Unreadable(f"{subject}: a folder of {inode.size} bytes in {len(blocks)} blocks")
    return blocks


def _of_block(
    inode: Inode, number: int, block: bytes, subject: str, *, checked: bool
) -> Iterator[Listed]:
    """Yield the entries of one block of names, after its checksum was compared."""
    tail_inode, tail_length, name_length, kind, stated = struct.unpack_from(
        "<IHBBI", block, BLOCK - _TAIL_BYTES
    )
    if (tail_inode, tail_length, name_length, kind) != (0, _TAIL_BYTES, 0, _TAIL_MARK) or (
        checked and crc32c(inode.seed, block[:-_TAIL_BYTES]) != stated
    ):
        raise Unreadable(f"{subject}: its block {number} does not match its checksum")
    at = 0
    while at < BLOCK - _TAIL_BYTES:
        child, length, name_length, kind = struct.unpack_from("<IHBB", block, at)
        if length < 8 + name_length or length % 4 or at + length > BLOCK - _TAIL_BYTES:
            raise Unreadable(f"{subject}: an entry of its block {number} is damaged")
        name = block[at + 8 : at + 8 + name_length]
        if child and not (number == 0 and name in (b".", b"..")):
            if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
                raise Unreadable(f"{subject}: no name: {name!r}")
            if child < FIRST_INODE:
                raise Unreadable(f"{subject}: {name!r} names inode {child}, which is no file's")
            yield name, child, kind, number
        at += length


def _node(inode: Inode, number: int, block: bytes, subject: str, *, checked: bool) -> _Node:
    """Return the entries of the root, which is block 0, or of another node, which looks like a
    block without names. Raises Unreadable if Linux would not take it."""
    at = _NODE_AT if number else _ROOT_AT
    # The root of the tree hides behind `..`, whose entry claims the rest of the block.
    if number == 0 and (
        struct.unpack_from("<H10xH6xIBB", block, 4) != (12, BLOCK - 12, 0, _HALF_MD4, 8)
        or block[_LEVELS_AT] > 1
        or block[31] & 1
    ):
        raise Unreadable(f"{subject}: the tree of its names does not begin as one")
    room, count = struct.unpack_from("<HH", block, at)
    end = BLOCK - _NODE_TAIL_BYTES
    if room != (end - at) // 8 or not 0 < count <= room:
        raise Unreadable(f"{subject}: the tree of its names is damaged")
    sums = crc32c(crc32c(inode.seed, block[: at + 8 * count]), block[end : end + 4] + bytes(4))
    if checked and sums != int.from_bytes(block[end + 4 :], "little"):
        raise Unreadable(f"{subject}: the tree of its names does not match its checksum")
    pairs = [
        (key, place & _BLOCK_NUMBER)
        for key, place in struct.iter_unpack("<II", block[at : at + 8 * count])
    ]
    # If they are not sorted, the kernel's search does not find what is there.
    if pairs[1:] != sorted(pairs[1:], key=operator.itemgetter(0)):
        return []
    return pairs


def _searched(system: Ext4, root: bytes, nodes: Mapping[int, _Node], name: bytes) -> Iterator[int]:
    """Yield the blocks in which the kernel looks for a name: the first, and those behind it that
    begin with the same hash (dx_probe, ext4_htree_next_block)."""
    wanted, levels = _hash(system, name), root[_LEVELS_AT] + 1
    path = list[tuple[_Node, int]]()
    block = _descend(nodes, path, 0, levels, wanted)
    while block is not None:
        yield block
        # Up to the first node that has another entry behind the one taken.
        while path and path[-1][1] + 1 == len(path[-1][0]):
            path.pop()
        if not path:
            return
        node, at = path.pop()
        key, child = node[at + 1]
        if key & ~1 != wanted:
            return
        path.append((node, at + 1))
        block = _descend(nodes, path, child, levels)


def _descend(
    nodes: Mapping[int, _Node],
    path: list[tuple[_Node, int]],
    block: int,
    levels: int,
    wanted: int | None = None,
) -> int | None:
    """Return the block of names below `block`, or None if the tree does not lead to one: by the
    hash `wanted`, or the first one. `path` gets the nodes on the way, each with the entry taken."""
    while len(path) < levels:
        node = nodes.get(block)
        if not node:
            return None
        at = 0
        if wanted is not None:
            at = bisect.bisect_right(node, wanted, 1, key=operator.itemgetter(0)) - 1
        path.append((node, at))
        block = node[at][1]
    return block


def _hash(system: Ext4, name: bytes) -> int:
    """Return the kernel's hash of a name (str2hashbuf): half MD4."""
    state = system.hash_seed
    sign = 256 if system.hashes_are_signed else 0
    for start in range(0, len(name), 32):
        words = []
        for at in range(start, start + 32, 4):
            # Words are filled up with the length of what is left.
            word = (len(name) - start) * 0x01010101
            for byte in name[at : at + 4]:
                word = (word << 8) + (byte - sign if byte > 127 else byte)
            words.append(word & _U32)
        a, b, c, d = state
        for mix, plus, order, turns in _ROUNDS:
            for step, place in enumerate(order):
                value = a + mix(b, c, d) + words[int(place)] + plus & _U32
                bits = turns[step % 4]
                a, b, c, d = d, (value << bits | value >> 32 - bits) & _U32, b, c
        state = tuple(old + new & _U32 for old, new in zip(state, (a, b, c, d), strict=True))
    # The lowest bit marks hashes that continue in the next block.
    return state[1] & ~1
