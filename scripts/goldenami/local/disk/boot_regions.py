"""The parts of a disk that boot it and are in no file system that Linux mounts: first sector,
partition table, GRUB's core, the ESP.

The bake's manifest has their content, and `drift` compares. Growing the root on a larger volume
changes the table's last partition and the size in the protective entry; mounting the ESP changes
one bit.
"""

from __future__ import annotations

import hashlib
import struct
import uuid
import zlib
from collections.abc import Callable
from typing import Any

from goldenami.core.errors import Unreachable
from goldenami.local.disk.grub import SECTOR

Read = Callable[[int, int], bytes]
"""Function that returns the disk's bytes at an offset, of a length."""

_ENTRIES, _ENTRY_BYTES = 128, 128
"""Size of the table as sfdisk and growpart write it; a larger one is not read."""
_PROTECTIVE = slice(447, 450), slice(451, 462)
"""Parts of the first sector that depend on the disk's end, in the entry that protects the table
(UEFI 2.10, table 5.4)."""
_DIRTY_AT = ((54, b"FAT16", 0x25), (82, b"FAT32", 0x41))
"""Places in a FAT partition: its type, and the byte whose lowest bit Linux sets while it is mounted
(fs/fat/inode.c)."""
_CHUNK = 1 << 20
ROOT, PERSIST = "root", "persist"
"""Partitions with a file system of their own. An immutable image has `persist` for what instances
write."""
_ROOT_TYPES = ("4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "0fc63daf-8483-4772-8e79-3d69d8477de4")
"""Types of the root in the publishers' images, which give it no name: Linux root (x86-64), Linux
data."""


def partitions(read: Read) -> list[dict[str, Any]]:
    """Return the partitions in the order of the table, offsets and sizes in bytes.

    One without a name of its own is named by its number. Raises Unreachable if the table is
    damaged.
    """
    header = read(SECTOR, SECTOR)
    size, stated = struct.unpack_from("<II", header, 12)
    blank = header[:16] + bytes(4) + header[20:92]
    if header[:8] != b"EFI PART" or size != 92 or zlib.crc32(blank) != stated:
        raise Unreachable(
            "could not look: the disk's partition table is damaged",
            hint="name a disk of an image; of a damaged one nothing is known",
        )
    at, count, width, checksum = struct.unpack_from("<QIII", header, 72)
    if (
        (at, width) != (2, _ENTRY_BYTES)
        or count > _ENTRIES
        or zlib.crc32(table := read(at * SECTOR, count * width)) != checksum
    ):
        raise Unreachable(
            "could not look: the disk's partition entries are damaged",
            hint="name a disk of an image; of a damaged one nothing is known",
        )
    entries = {
        begin // width + 1: _partition(table[begin : begin + width])
        for begin in range(0, count * width, width)
        if any(table[begin : begin + 16])
    }
    names = [entry["name"] for entry in entries.values()]
    for number, entry in entries.items():
        if not entry["name"] or names.count(entry["name"]) != 1:
            entry["name"] = str(number)
    return list(entries.values())


def root(table: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the partition of that name, else the largest of a type that publishers give a root.
    Raises Unreachable if there is none."""
    for fits in ({"name": ROOT}, *({"type": kind} for kind in _ROOT_TYPES)):
        if candidates := [entry for entry in table if fits.items() <= entry.items()]:
            return max(candidates, key=lambda entry: int(entry["size"]))
    raise Unreachable(
        "could not look: the disk has no partition for a root",
        hint="name a disk of an image; of another one nothing is known",
    )


def _partition(entry: bytes) -> dict[str, Any]:
    first, last = struct.unpack_from("<QQ", entry, 32)
    return {
        "name": entry[56:].decode("utf-16-le", "replace").rstrip("\0"),
        "type": str(uuid.UUID(bytes_le=entry[:16])),
        "id": str(uuid.UUID(bytes_le=entry[16:32])),
        "offset": first * SECTOR,
        "size": (last + 1 - first) * SECTOR,
        "attributes": int.from_bytes(entry[48:56], "little"),
    }


def places(table: list[dict[str, Any]]) -> dict[str, tuple[int, int]]:
    """Return offset and size in bytes of each place that boots a disk, by its name."""
    first = min((entry["offset"] for entry in table), default=34 * SECTOR)
    return {
        "first sector": (0, SECTOR),
        # GPT: 34 sectors from the first one to the end of the table.
        "gap before the partitions": (34 * SECTOR, first - 34 * SECTOR),
    } | {
        f"partition {entry['name']}": (entry["offset"], entry["size"])
        for entry in table
        if entry["name"] not in (root(table)["name"], PERSIST)
    }


def digest(read: Read, name: str, offset: int, size: int) -> str:
    """Return the SHA-256 of one of the `places`, over its chunks that are not all zeros, without
    what a first boot changes."""
    sha256, zeros = hashlib.sha256(), bytes(_CHUNK)
    for at in range(0, max(size, 0), _CHUNK):
        data = bytearray(read(offset + at, min(_CHUNK, size - at)))
        if at == 0 and name == "first sector":
            for part in _PROTECTIVE:
                data[part] = bytes(part.stop - part.start)
        if at == 0 and name.startswith("partition "):
            for place, kind, dirty in _DIRTY_AT:
                if data[place : place + len(kind)] == kind:
                    data[dirty] &= 0xFE
        if data != zeros[: len(data)]:
            sha256.update(at.to_bytes(8, "little") + data)
    return sha256.hexdigest()


def describe(read: Read) -> dict[str, Any]:
    """Return all of it, as the manifest has it."""
    table = partitions(read)
    return {
        "partitions": table,
        "places": {name: digest(read, name, *place) for name, place in places(table).items()},
    }
