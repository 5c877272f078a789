"""The journal of an ext4 file system: what was promised and not yet done when the disk was read.

It is read as the kernel's recovery does it (fs/jbd2/recovery.c), in three passes: which
transactions are whole, which blocks a later one took back, what the others say. Nothing is written.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from goldenami.local.reader.crc32c import START, crc32c
from goldenami.local.reader.ext4 import BLOCK, JOURNAL_INODE, Ext4
from goldenami.local.reader.limits import Unreadable

_MAGIC = 0xC03B3998
_DESCRIPTOR, _COMMIT, _SUPERBLOCK_2, _REVOKE = 1, 2, 4, 5
_REVOKES, _64BIT, _CSUM_V3 = 0x1, 0x2, 0x10
_ESCAPED, _SAME_UUID, _LAST_TAG = 1, 2, 8
_TAG_BYTES, _UUID_BYTES, _TAIL_BYTES = 16, 16, 4
_MOST_BLOCKS = 1 << 18
"""Most blocks of a journal: 1 GiB, the largest that mke2fs makes."""
_SUBJECT = "the journal"
"""Name of the journal in errors."""


@dataclass
class _Transaction:
    """A transaction. `tags` are a disk's block, where in the journal it is, its flags and checksum;
    `revoked` are blocks that it took back; `damaged` says whether a block that describes it is."""

    sequence: int
    tags: list[tuple[int, int, int, int]] = field(default_factory=list)
    revoked: list[int] = field(default_factory=list)
    damaged: bool = False


@dataclass(frozen=True)
class _Journal:
    """The journal's blocks by their place in it, and the figures of its superblock."""

    system: Ext4
    physical: list[int]
    first: int
    last: int
    sequence: int
    start: int
    seed: int
    wide: bool

    @classmethod
    def of(cls, system: Ext4) -> _Journal | None:
        """Return the journal, or None if it is empty."""
        inode = system.inode(JOURNAL_INODE, _SUBJECT)
        blocks = list[int]()
        for _, first, count in system.runs(inode, _SUBJECT):
            if first:
                blocks += range(first, first + count)
            else:
                blocks += [0] * count
        blocks = blocks[:_MOST_BLOCKS]
        if not blocks or 0 in blocks:
            raise Unreadable(f"{_SUBJECT} has holes or is empty")
        raw = system.block_at(blocks[0])[:1024]
        magic, kind, _, size, length, first, sequence, start = struct.unpack_from(">8I", raw)
        (features,) = struct.unpack_from(">I", raw, 40)
        if (magic, kind, size) != (_MAGIC, _SUPERBLOCK_2, BLOCK) or not 0 < first < length <= len(
            blocks
        ):
            raise Unreadable(f"{_SUBJECT} has no sound superblock")
        # s_start is 0 if there is nothing to replay.
        if start == 0:
            return None
        if features & ~(_REVOKES | _64BIT) != _CSUM_V3:
            raise Unreadable(f"{_SUBJECT} has features that no running image's has ({features:#x})")
        blank, stated = raw[:0xFC] + bytes(4) + raw[0x100:], int.from_bytes(raw[0xFC:0x100], "big")
        if crc32c(START, blank) != stated:
            raise Unreadable(f"{_SUBJECT}'s superblock does not match its checksum")
        return cls(
            system,
            blocks,
            first,
            length,
            sequence,
            start,
            crc32c(START, raw[48:64]),
            bool(features & _64BIT),
        )

    def block(self, place: int) -> bytes:
        return self.system.block_at(self.physical[place])

    def next(self, place: int, count: int = 1) -> int:
        """Return the place `count` behind another; behind the last comes the first again."""
        place += count
        if place < self.last:
            return place
        return place - (self.last - self.first)

    def sound(self, block: bytes) -> bool:
        """Return whether a describing block matches the checksum in its last bytes."""
        computed = crc32c(crc32c(self.seed, block[:-_TAIL_BYTES]), bytes(_TAIL_BYTES))
        return computed == int.from_bytes(block[-_TAIL_BYTES:], "big")


def replay(system: Ext4) -> int:
    """Let `system` have what its journal says, if it was not stopped cleanly, and return the number
    of transactions. Raises Unreadable if a finished one does not match its checksums: the kernel
    refuses such a disk too."""
    journal = _Journal.of(system) if system.needs_recovery else None
    if journal is None:
        return 0
    whole = list(_whole(journal))
    revoked = dict[int, int]()
    for transaction in whole:
        revoked.update((block, transaction.sequence) for block in transaction.revoked)
    blocks = dict[int, bytes]()
    for transaction in whole:
        for number, place, flags, checksum in transaction.tags:
            # The block was freed later, and may hold content by now.
            if revoked.get(number, -1) >= transaction.sequence:
                continue
            raw = journal.block(place)
            seed = crc32c(journal.seed, transaction.sequence.to_bytes(4, "big"))
            if crc32c(seed, raw) != checksum:
                raise Unreadable(
                    f"{_SUBJECT} does not match its checksum (transaction {transaction.sequence})"
                )
            # check_block refuses block 0, which has the superblock.
            if number:
                system.check_block(number, 1, _SUBJECT)
            # A block that begins like one of the journal's own was written with zeros in place of
            # the mark.
            if flags & _ESCAPED:
                raw = _MAGIC.to_bytes(4, "big") + raw[4:]
            blocks[number] = raw
    system.replace(blocks)
    return len(whole)


def _whole(journal: _Journal) -> Iterator[_Transaction]:
    """Yield the transactions that were finished."""
    place, transaction = journal.start, _Transaction(journal.sequence)
    if not journal.first <= place < journal.last:
        raise Unreadable(f"{_SUBJECT} begins at its block {place} of {journal.last}")
    for _ in range(journal.last):
        block = journal.block(place)
        magic, kind, sequence = struct.unpack_from(">3I", block)
        if magic != _MAGIC or sequence != transaction.sequence:
            return
        place = journal.next(place)
        if kind == _DESCRIPTOR:
            transaction.damaged |= not journal.sound(block)
            for number, flags, checksum in _tags(block):
                transaction.tags.append((number, place, flags, checksum))
                place = journal.next(place)
        elif kind == _REVOKE:
            transaction.damaged |= not journal.sound(block)
            transaction.revoked += _revoked(block, 8 if journal.wide else 4)
        elif kind == _COMMIT:
            stated = int.from_bytes(block[16:20], "big")
            if (
                transaction.damaged
                or crc32c(journal.seed, block[:16] + bytes(4) + block[20:]) != stated
            ):
                raise Unreadable(f"{_SUBJECT}: transaction {sequence} does not match its checksum")
            yield transaction
            transaction = _Transaction((sequence + 1) & 0xFFFFFFFF)
        else:
            return


def _tags(block: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield block of the disk, flags and checksum of each block that a descriptor announces."""
    at = 12
    while at + _TAG_BYTES <= BLOCK - _TAIL_BYTES:
        low, flags, high, checksum = struct.unpack_from(">4I", block, at)
        yield low | high << 32, flags, checksum
        at += _TAG_BYTES
        if not flags & _SAME_UUID:
            at += _UUID_BYTES
        if flags & _LAST_TAG:
            return


def _revoked(block: bytes, width: int) -> list[int]:
    """Return the blocks that a revoke block takes back."""
    end = min(int.from_bytes(block[12:16], "big"), BLOCK - _TAIL_BYTES)
    return [
        int.from_bytes(block[at : at + width], "big") for at in range(16, end - width + 1, width)
    ]
