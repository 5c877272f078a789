"""A raw disk as EBS sees it: blocks of 512 KiB, most of which a sparse file does not hold and nobody has to read."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from goldenami.core.errors import BadInput
from goldenami.core.units import GIB

BLOCK = 512 << 10
"""Bytes of a snapshot's block, the only size that PutSnapshotBlock takes (EBS direct APIs, PutSnapshotBlock)."""
ZEROS = bytes(BLOCK)
LARGEST_GIB = 65_536
"""The largest volume: 64 TiB (EBS direct APIs, StartSnapshot: VolumeSize)."""


def volume_gib(disk: Path) -> int:
    """The GiB of the smallest volume that holds `disk`: volumes are whole GiB, so the rest of the last one is zeros."""
    size = disk.stat().st_size
    if not 0 < size <= LARGEST_GIB * GIB:
        raise BadInput(f"{disk} has {size} bytes, which is no size for a volume",
                       hint=f"1 byte to {LARGEST_GIB} GiB; bake the disk again")
    return -(-size // GIB)


def data_blocks(fd: int) -> Iterator[int]:
    """Indexes of the blocks in which the file has data, ascending; holes are skipped by lseek(2), not read."""
    size, at = os.fstat(fd).st_size, 0
    while at < size:
        try:
            data = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # nothing but a hole behind `at`
            raise
        end = os.lseek(fd, data, os.SEEK_HOLE)
        last = -(-end // BLOCK)
        yield from range(max(data, at) // BLOCK, last)
        at = last * BLOCK  # an extent that begins in the same block has been yielded with it


def read_block(fd: int, index: int) -> bytes:
    """The block's 512 KiB; beyond the file's end there are zeros, as on the volume."""
    block = os.pread(fd, BLOCK, index * BLOCK)
    return block if len(block) == BLOCK else block.ljust(BLOCK, b"\0")
