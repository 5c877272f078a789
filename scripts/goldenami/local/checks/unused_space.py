"""Search a written disk beside the files of its tree: nothing may be there, and no secret in what
boots it.

The tree was searched for secrets before mke2fs, mtools and GRUB wrote the disk. So free space,
journal and gaps have to be zeros, and the places that boot the disk are searched like text.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from goldenami.core import units
from goldenami.local.disk import boot_regions, verity
from goldenami.local.disk.grub import SECTOR
from goldenami.local.reader.block_source import Extent, RawFile, merged
from goldenami.local.reader.ext4 import BLOCK, JOURNAL_INODE, Ext4
from goldenami.local.reader.observe import Region
from goldenami.local.tree import secret_patterns

_TABLE_SECTORS = 34
"""Sectors of the first sector and the partition table; at the disk's end it is one less (UEFI 2.10,
figure 5.1)."""
_CHUNK = 1 << 20
_UNINITIALISED = 2
"""Flag of a block group without a bitmap: none of its blocks is in use except copies of the
superblock's (EXT4_BG_BLOCK_UNINIT)."""
_RESERVED_AT = 0x400 + 0xCE
"""Offset in block 0 of the number of blocks that are reserved for growing the table of groups."""


def find(disk: Path) -> list[str]:
    """Return one line for each place with bytes that belong to nothing, or with a secret."""
    source = RawFile(disk)
    table = boot_regions.partitions(source.read)
    lines = _lines(source, _gaps(table, source.size), "between the partitions")
    for entry in table:
        if entry["name"] in (boot_regions.ROOT, boot_regions.PERSIST):
            lines += _lines(source, _unused(source, entry), f"of no file in {entry['name']}")
        elif entry["name"] == "tree":
            begins = entry["offset"] + verity.tree_bytes(boot_regions.root(table)["size"])
            behind = [(begins, entry["offset"] + entry["size"])]
            lines += _lines(source, behind, "behind the hashes")
        elif secret := secret_patterns.in_file(b"\n".join(_data(source, entry))):
            lines.append(f"{secret} in partition {entry['name']}")
    return lines


def _lines(source: RawFile, places: Iterable[Extent], where: str) -> list[str]:
    """Return one line for each part of the places that is not all zeros."""
    return [
        f"{units.size(stop - start)} {where}, from byte {start}"
        for start, stop in _filled(source, places)
    ]


def _gaps(table: list[dict[str, Any]], size: int) -> Iterator[Extent]:
    """Yield the parts of the disk that no partition has."""
    at = _TABLE_SECTORS * SECTOR
    for entry in sorted(table, key=lambda entry: int(entry["offset"])):
        yield at, entry["offset"]
        at = entry["offset"] + entry["size"]
    yield at, size - (_TABLE_SECTORS - 1) * SECTOR


def _unused(source: RawFile, entry: dict[str, Any]) -> list[Extent]:
    """Return the bytes of the disk that a file system does not use."""
    system = Ext4(Region(source, entry["offset"], entry["size"]))
    blocks = [*_free(system), *_journal(system)]
    end = system.block_count * BLOCK
    places = [
        (entry["offset"] + first * BLOCK, entry["offset"] + last * BLOCK) for first, last in blocks
    ]
    return merged([*places, (entry["offset"] + end, entry["offset"] + entry["size"])])


def _journal(system: Ext4) -> Iterator[Extent]:
    """Yield the blocks of an empty journal behind its superblock."""
    inode = system.inode(JOURNAL_INODE, "the journal")
    # A root that nobody writes to has no journal.
    if stat.S_ISREG(inode.mode):
        for logical, first, count in system.runs(inode, "the journal"):
            skip = 1 if logical == 0 else 0
            yield first + skip, first + count


def _free(system: Ext4) -> Iterator[Extent]:
    """Yield the blocks that are free by the groups' bitmaps."""
    for group in range(system.groups):
        first = group * system.blocks_per_group
        count = min(system.blocks_per_group, system.block_count - first)
        at = BLOCK + group * system.descriptor_size
        raw = system.block_at(at // BLOCK)[at % BLOCK : at % BLOCK + system.descriptor_size]
        if int.from_bytes(raw[0x12:0x14], "little") & _UNINITIALISED:
            yield first + _copies(system, group), first + count
            continue
        # A descriptor of 32 bytes has no upper half.
        high = int.from_bytes(raw[0x20:0x24], "little") << 32
        bitmap = system.block_at(int.from_bytes(raw[:4], "little") | high)
        for start, stop in _zero_bits(bitmap, count):
            yield first + start, first + stop


def _copies(system: Ext4, group: int) -> int:
    """Return the blocks at a group's beginning with copies of superblock and table of groups
    (sparse_super)."""
    has_copy = group <= 1 or any(_is_power(group, base) for base in (3, 5, 7))
    if not has_copy:
        return 0
    table = -(-system.groups * system.descriptor_size // BLOCK)
    reserved = int.from_bytes(system.block_at(0)[_RESERVED_AT : _RESERVED_AT + 2], "little")
    return 1 + table + reserved


def _is_power(number: int, base: int) -> bool:
    while number > 1 and number % base == 0:
        number //= base
    return number == 1


def _zero_bits(bitmap: bytes, count: int) -> Iterator[Extent]:
    """Yield the runs of zeros among the first `count` bits, lowest bit first."""
    bits = f"{int.from_bytes(bitmap, 'little'):0{len(bitmap) * 8}b}"[::-1][:count]
    at = bits.find("0")
    while at >= 0:
        end = bits.find("1", at)
        if end < 0:
            yield at, count
            return
        yield at, end
        at = bits.find("0", end)


def _filled(source: RawFile, places: Iterable[Extent]) -> Iterator[Extent]:
    """Yield those parts of the places that are no hole and not all zeros."""
    for start, stop in places:
        for first, last in source.data(start, stop):
            for at in range(first, last, _CHUNK):
                length = min(_CHUNK, last - at)
                if source.read(at, length).strip(b"\0"):
                    yield at, at + length


def _data(source: RawFile, entry: dict[str, Any]) -> Iterator[bytes]:
    for first, last in source.data(entry["offset"], entry["offset"] + entry["size"]):
        yield source.read(first, last - first)
