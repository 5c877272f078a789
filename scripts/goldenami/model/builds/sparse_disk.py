"""A raw disk as EBS sees it: blocks of 512 KiB, most of which a sparse file does not hold."""

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
"""The largest volume: 64 TiB (EBS direct APIs, StartSnapshot: VolumeSize)."""


def volume_gib(disk: Path) -> int:
    """Of the smallest volume that holds `disk`: volumes are whole GiB, the rest of the last is
    zeros."""
    size = disk.stat().st_size
    if not 0 < size <= LARGEST_GIB * GIB:
        raise BadInput(
            f"{disk} has {size} bytes, which is no size for a volume",
            hint=f"1 byte to {LARGEST_GIB} GiB; bake the disk again",
        )
    return -(-size // GIB)


def data_blocks(fd: int, final: Callable[[int], int] | None = None) -> Iterator[int]:
    """Indexes of the blocks with data, ascending; holes are not read. Of a file that is still being
    written, `final` is asked with a byte; it waits until this byte is final and returns up to which
    byte all are."""
    size, at, listed = os.fstat(fd).st_size, 0, 0
    while at < size:
        limit = final(min(at + BLOCK, size) - 1) if final else size
        if limit < size:
            limit -= limit % BLOCK
        for first, end in sparse_file.data(fd, at, limit):
            last = -(-end // BLOCK)
            yield from range(max(listed, first // BLOCK), last)  # a block may hold several parts
            listed = last
        at = limit


def read_block(fd: int, index: int) -> bytes:
    """Beyond the file's end there are zeros, as on the volume."""
    block = os.pread(fd, BLOCK, index * BLOCK)
    return block if len(block) == BLOCK else block.ljust(BLOCK, b"\0")
