"""Reads a raw disk in the blocks of an EBS snapshot, 512 KiB each. Most of them are holes of the
sparse file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from goldenami.core import sparse_file
from goldenami.core.errors import BadInput
from goldenami.core.units import GIB

BLOCK = 512 << 10
"""Bytes of a snapshot's block, the only size that PutSnapshotBlock takes (EBS direct APIs,
PutSnapshotBlock)."""
ZEROS = bytes(BLOCK)
LARGEST_GIB = 65_536
"""Size of the largest volume, 64 TiB (EBS direct APIs, StartSnapshot: VolumeSize)."""


def volume_gib(disk: Path) -> int:
    """Return the size in GiB of the smallest volume that holds `disk`. Volumes have whole GiB, so
    the rest of the last one is zeros. Raises BadInput if no volume has such a size."""
    size = disk.stat().st_size
    if not 0 < size <= LARGEST_GIB * GIB:
        raise BadInput(
            f"{disk} has {size} bytes, which is no size for a volume",
            hint=f"1 byte to {LARGEST_GIB} GiB; bake the disk again",
        )
    return -(-size // GIB)


def data_blocks(fd: int, final: Callable[[int], int] | None = None) -> Iterator[int]:
    """Yield the indexes of the blocks with data, ascending. Holes are not read. If the file is
    still being written, `final(offset)` waits until the byte at `offset` is final, and returns the
    end (exclusive) of the final bytes."""
    size, at, next_index = os.fstat(fd).st_size, 0, 0
    while at < size:
        limit = final(min(at + BLOCK, size) - 1) if final else size
        # A block that is final only in part comes in the next round.
        if limit < size:
            limit -= limit % BLOCK
        for first, end in sparse_file.data(fd, at, limit):
            last = -(-end // BLOCK)
            # One block may hold several parts with data, and is yielded once.
            yield from range(max(next_index, first // BLOCK), last)
            next_index = last
        at = limit


def read_block(fd: int, index: int) -> bytes:
    """Return one whole block. Behind the file's end it has zeros, as the volume does."""
    block = os.pread(fd, BLOCK, index * BLOCK)
    return block if len(block) == BLOCK else block.ljust(BLOCK, b"\0")
