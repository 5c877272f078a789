"""Give large files slots of 512 KiB: `python -m goldenami.local.disk.large_files IMAGE?offset=BYTES
BLOCKS < FILES`.

EBS stores and transfers a volume in blocks of 512 KiB. If files follow one another to the byte, one
that changes its size shifts all that come after it. Here each file begins at a slot's border, in
the order of FILES, and shares its slots with no other.

FILES is JSON, for files that are still empty: [[path, size in bytes, [[first block, blocks], ...]],
...], where the last list has the runs of blocks that are not zeros. BLOCKS is the size of the file
system. The output, in the same order, is the extents of each file: [[[logical, physical, length in
blocks], ...], ...]. The caller writes the content of these blocks.

e2fsprogs' own library does it, so that bitmaps, counts and checksums are right. It is a program of
its own because the library reads SOURCE_DATE_EPOCH from the environment.
"""

from __future__ import annotations

import ctypes
import json
import struct
import sys
from collections.abc import Sequence
from typing import Any

from goldenami.core.errors import BadInput, GoldenError, HostNotReady, StageFailed

SLOT_BYTES = 512 * 1024
"""EBS direct APIs: BlockSize 524288 bytes."""
BLOCK = 4096
SLOT = SLOT_BYTES // BLOCK
"""Blocks of a slot."""
RESERVED_SHARE = 3
"""A third of the file system, from its beginning, is left to small files; slots come behind it."""

_LIBRARY = "libext2fs.so.2"
_READ_WRITE, _64_BITS = 0x1, 0x20000
"""EXT2_FLAG_RW and EXT2_FLAG_64BITS (e2fsprogs, ext2fs.h)."""
_INSERT_AFTER = 0x1
"""EXT2_EXTENT_INSERT_AFTER (ext2fs.h): insert behind the cursor, which then stands on what was
inserted."""
EXTENT_BLOCKS = 32768
"""Blocks of an extent at most (ext3_extents.h, EXT_INIT_MAX_LEN)."""
_ROOT_INODE = 2
_INODE_BYTES = 128
_SIZE_LOW, _SIZE_HIGH = 4, 108
"""Offsets of i_size and i_size_high in struct ext2_inode (ext2_fs.h; the format on disk)."""

Extent = tuple[int, int, int]
"""A file's first block, its place in the file system, and how many blocks follow."""
Run = tuple[int, int]
"""The first of a file's blocks that follow one another without a hole, and how many they are."""


class FileSystem:
    """An open ext4 of `blocks` blocks; `close` writes what changed."""

    def __init__(self, image: str, blocks: int) -> None:
        try:
            self._lib = ctypes.CDLL(_LIBRARY)
        except OSError as error:
            raise HostNotReady(
                f"{_LIBRARY} is missing: {error}", hint="install e2fsprogs"
            ) from None
        self._last = blocks - SLOT
        self._next = -(-(blocks // RESERVED_SHARE) // SLOT) * SLOT
        manager = ctypes.c_void_p.in_dll(self._lib, "unix_io_manager")
        self._fs = ctypes.c_void_p()
        self._call(
            "ext2fs_open",
            image.encode(),
            _READ_WRITE | _64_BITS,
            0,
            0,
            manager,
            ctypes.byref(self._fs),
        )
        self._call("ext2fs_read_bitmaps", self._fs)

    def _call(self, name: str, *args: Any) -> None:
        if code := self._status(name, *args):
            raise StageFailed(f"{name}: error {code} of e2fsprogs", hint="see the disk's log")

    def _status(self, name: str, *args: Any) -> int:
        function = getattr(self._lib, name)
        function.restype = ctypes.c_long
        return int(function(*args))

    def _free_slot(self) -> int:
        """Return the first block of the next slot that is wholly free. Raises BadInput if there is
        none."""
        free = ctypes.c_uint64()
        while self._next <= self._last:
            if self._status(
                "ext2fs_get_free_blocks2",
                self._fs,
                ctypes.c_uint64(self._next),
                ctypes.c_uint64(self._last + 1),
                SLOT,
                None,
                ctypes.byref(free),
            ):
                break
            # The free blocks may begin within a slot: an extent tree may have grown into it.
            aligned = -(-free.value // SLOT) * SLOT
            if aligned < self._next:
                break  # the library has begun again at the first block
            self._next = aligned + (SLOT if aligned == free.value else 0)
            if aligned == free.value:
                return aligned
        raise BadInput(
            "the large files find no free slots of 512 KiB on the disk", hint="raise disk_size_gib"
        )

    def allocate(self, path: str, size: int, runs: Sequence[Run]) -> list[Extent]:
        """Give the empty file `path` blocks for all of `runs`, and return its extents."""
        number = ctypes.c_uint32()
        self._call(
            "ext2fs_namei",
            self._fs,
            _ROOT_INODE,
            _ROOT_INODE,
            path.encode("utf-8", "surrogateescape"),
            ctypes.byref(number),
        )
        inode = ctypes.create_string_buffer(_INODE_BYTES)
        self._call("ext2fs_read_inode", self._fs, number, inode)
        extents = self._claim(runs)
        self._insert(number, inode, extents)
        struct.pack_into("<I", inode, _SIZE_LOW, size & 0xFFFFFFFF)
        struct.pack_into("<I", inode, _SIZE_HIGH, size >> 32)
        self._call("ext2fs_write_inode", self._fs, number, inode)
        return extents

    def _claim(self, runs: Sequence[Run]) -> list[Extent]:
        """Mark blocks of slots as used for all of `runs`, and return them; neighbours become one
        extent."""
        extents, physical, room = list[Extent](), 0, 0
        for first, count in runs:
            claimed = 0
            while claimed < count:
                if not room:
                    physical, room = self._free_slot(), SLOT
                length = min(room, count - claimed)
                self._lib.ext2fs_block_alloc_stats_range(
                    self._fs, ctypes.c_uint64(physical), length, 1
                )
                _append(extents, (first + claimed, physical, length))
                claimed, physical, room = claimed + length, physical + length, room - length
        return extents

    def _insert(self, number: ctypes.c_uint32, inode: Any, extents: Sequence[Extent]) -> None:
        handle = ctypes.c_void_p()
        self._call("ext2fs_extent_open2", self._fs, number, inode, ctypes.byref(handle))
        for logical, physical, length in extents:
            # struct ext2fs_extent (ext2fs.h): e_pblk, e_lblk, e_len, e_flags
            extent = ctypes.create_string_buffer(struct.pack("=QQII", physical, logical, length, 0))
            self._call("ext2fs_extent_insert", handle, _INSERT_AFTER, extent)
        self._call("ext2fs_extent_fix_parents", handle)
        self._lib.ext2fs_extent_free(handle)
        self._call(
            "ext2fs_iblk_add_blocks",
            self._fs,
            inode,
            ctypes.c_uint64(sum(extent[2] for extent in extents)),
        )

    def close(self) -> None:
        self._call("ext2fs_close", self._fs)


def _append(extents: list[Extent], new: Extent) -> None:
    logical, physical, length = extents[-1] if extents else (0, 0, EXTENT_BLOCKS)
    if (logical + length, physical + length) == new[:2] and length + new[2] <= EXTENT_BLOCKS:
        extents[-1] = (logical, physical, length + new[2])
    else:
        extents.append(new)


def main() -> int:
    """Read the files, place them, print their extents. A failure is one line on stderr and status
    1."""
    try:
        system = FileSystem(sys.argv[1], int(sys.argv[2]))
        extents = [system.allocate(path, size, runs) for path, size, runs in json.load(sys.stdin)]
        system.close()
    except GoldenError as error:
        print(f"{error.message}; {error.hint}", file=sys.stderr)
        return 1
    json.dump(extents, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
