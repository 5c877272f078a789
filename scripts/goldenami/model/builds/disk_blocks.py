"""A file with the SHA-256 of every block of a disk. From it follow the blocks to upload, the blocks
that changed, and what reading back a snapshot must find.

The file has a slot of 32 bytes for each block of the volume, at 32 times the block's index. A slot
is the block's SHA-256, or zeros if the block is all zeros. The file has 64 KiB for each GiB of the
volume, and is as sparse as the disk. It is read in pieces, so large disks need no more memory. It
is kept longer than the disk, so that the next build's difference needs no older disk.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from goldenami.core import process, records
from goldenami.core.errors import BadInput
from goldenami.core.worker_pool import WorkerPool
from goldenami.model.builds.build_records import Disk
from goldenami.model.builds.sparse_disk import ZEROS, data_blocks, read_block, volume_gib

SLOT = hashlib.sha256().digest_size
EMPTY = bytes(SLOT)
"""The slot of a block of zeros."""
ZEROS_SHA256 = hashlib.sha256(ZEROS).digest()
PIECE = 2048
"""Slots that are read at once: those of one GiB, which have 64 KiB."""


@dataclass(frozen=True)
class BlockMap:
    """The blocks of a volume of `gib` GiB, with their slots in the file `path`. Iterating yields
    index and SHA-256 of each block that is not all zeros."""

    path: Path
    gib: int

    @classmethod
    def open(cls, path: Path) -> BlockMap:
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            raise BadInput(
                f"{path} does not exist", hint="the disk's blocks are listed when it is published"
            ) from None
        if not size or size % (PIECE * SLOT):
            raise BadInput(
                f"{path} has {size} bytes: no list of blocks", hint="delete it: it is made again"
            )
        return cls(path, size // (PIECE * SLOT))

    @classmethod
    def create(cls, path: Path, gib: int) -> BlockMap:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as sink:
            sink.truncate(gib * PIECE * SLOT)
        return cls(path, gib)

    def pieces(self) -> Iterator[tuple[int, bytes]]:
        """Yield the slots of one GiB after the other, each time with the index of the first."""
        with self.path.open("rb") as source:
            for first in range(0, self.gib * PIECE, PIECE):
                yield first, source.read(PIECE * SLOT)

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        for first, piece in self.pieces():
            yield from _filled(first, piece)

    def count(self) -> int:
        return sum(1 for _ in self)

    def content(self) -> str:
        """Return the hex SHA-256 of the map's size and slots."""
        digest = hashlib.sha256(f"{self.gib} GiB\n".encode())
        for _first, piece in self.pieces():
            digest.update(piece)
        return digest.hexdigest()


def _filled(first: int, piece: bytes) -> Iterator[tuple[int, bytes]]:
    # Most pieces of a sparse disk are empty: this is faster than a look at each slot.
    if not piece.strip(b"\0"):
        return
    for at in range(0, len(piece), SLOT):
        slot = piece[at : at + SLOT]
        if slot != EMPTY:
            yield first + at // SLOT, slot


def scan(disk: Path, target: Path, final: Callable[[int], int] | None = None) -> BlockMap:
    """Hash the blocks of `disk` into `target`, which appears whole or not at all. `final` is that
    of `data_blocks`, for a disk that is still being written."""
    aside = process.aside(target)
    block_map = BlockMap.create(aside, volume_gib(disk))
    try:
        with disk.open("rb") as source, aside.open("r+b") as sink:

            def hash_block(index: int) -> None:
                block = read_block(source.fileno(), index)
                if block != ZEROS:
                    os.pwrite(sink.fileno(), hashlib.sha256(block).digest(), index * SLOT)

            # Two threads: SHA-256 runs outside Python's lock at 1.8 GB/s a core, and a disk reads
            # no faster than two threads hash.
            WorkerPool(2).run(data_blocks(source.fileno(), final), hash_block)
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
    return BlockMap(target, block_map.gib)


def digest_of(disk: Path) -> str:
    """Return the value of `blocks_sha256` in the record of `disk`."""
    with process.scratch() as folder:
        return records.sha256_file(scan(disk, Path(folder, "blocks")).path)


def as_baked(path: Path, baked: Disk) -> BlockMap | None:
    """Return the map at `path`, or None if it is not the one that the bake wrote."""
    is_baked = path.exists() and records.sha256_file(path) == baked.blocks_sha256
    return BlockMap.open(path) if is_baked else None


def is_as_baked(disk: Path, baked: Disk) -> bool:
    """Whether every byte of the file `disk` is as it was baked."""
    return disk.stat().st_size == baked.bytes_apparent and digest_of(disk) == baked.blocks_sha256


def differing(new: BlockMap, old: BlockMap | None) -> Iterator[tuple[int, bytes]]:
    """Yield index and SHA-256 of each block to write over `old` to get `new`, ascending. Raises
    BadInput if `old` is larger than `new`."""
    if old is not None and old.gib > new.gib:
        raise BadInput(
            f"a volume of {new.gib} GiB cannot follow one of {old.gib} GiB",
            hint="a snapshot is at least as large as its parent",
        )
    before = old.pieces() if old else iter(())
    zero_piece = bytes(PIECE * SLOT)
    for first, piece in new.pieces():
        _first, old_piece = next(before, (first, zero_piece))
        if piece == old_piece:
            continue
        for at in range(0, len(piece), SLOT):
            slot = piece[at : at + SLOT]
            # A block that became zeros has to be written, too: a snapshot shows its parent's data
            # wherever nothing was written.
            if slot != old_piece[at : at + SLOT]:
                yield first + at // SLOT, ZEROS_SHA256 if slot == EMPTY else slot
