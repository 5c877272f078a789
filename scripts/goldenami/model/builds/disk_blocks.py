"""The SHA-256 of every block of a disk, as a file: what is uploaded, what changed, and what a
read-back must find.

The file has a slot of 32 bytes for each block of the volume, at 32 times the block's index: its
SHA-256, or zeros where the block is all zeros. It is 64 KiB for each GiB of volume, sparse as the
disk is, and read in pieces, so that no size of disk needs memory. It stays beside the disk and
outlives it: the next build's difference needs no older disk.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
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
"""Slots read at once: those of one GiB, 64 KiB."""


@dataclass(frozen=True)
class BlockMap:
    """The blocks of a volume of `gib` GiB; slots are in the file `path`."""

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
        """The slots of one GiB after the other, with the index of the first."""
        with self.path.open("rb") as source:
            for first in range(0, self.gib * PIECE, PIECE):
                yield first, source.read(PIECE * SLOT)

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        for first, piece in self.pieces():
            yield from _filled(first, piece)

    def count(self) -> int:
        return sum(1 for _ in self)

    def content(self) -> str:
        """Hex SHA-256, equal for equal bytes whatever holes the file has."""
        digest = hashlib.sha256(f"{self.gib} GiB\n".encode())
        for _first, piece in self.pieces():
            digest.update(piece)
        return digest.hexdigest()


def _filled(first: int, piece: bytes) -> Iterator[tuple[int, bytes]]:
    if not piece.strip(b"\0"):
        return
    for at in range(0, len(piece), SLOT):
        slot = piece[at : at + SLOT]
        if slot != EMPTY:
            yield first + at // SLOT, slot


def scan(disk: Path, target: Path, final: Callable[[int], int] | None = None) -> BlockMap:
    """Hash the blocks of `disk` into `target`, which appears whole or not at all. Of a disk that is
    still being written, `final` waits as `data_blocks` says. Two threads: SHA-256 runs outside
    Python's lock at 1.8 GB/s a core, and a disk reads no faster than two take."""
    aside = process.aside(target)
    block_map = BlockMap.create(aside, volume_gib(disk))
    try:
        with disk.open("rb") as source, aside.open("r+b") as sink:

            def hash_block(index: int) -> None:
                block = read_block(source.fileno(), index)
                if block != ZEROS:
                    os.pwrite(sink.fileno(), hashlib.sha256(block).digest(), index * SLOT)

            WorkerPool(2).run(data_blocks(source.fileno(), final), hash_block)
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
    return BlockMap(target, block_map.gib)


def digest_of(disk: Path) -> str:
    """What a Disk has as `blocks_sha256`."""
    with tempfile.TemporaryDirectory() as folder:
        return records.sha256_file(scan(disk, Path(folder, "blocks")).path)


def as_baked(path: Path, baked: Disk) -> BlockMap | None:
    """The list at `path`, where it is the one that the bake wrote."""
    is_its = path.exists() and records.sha256_file(path) == baked.blocks_sha256
    return BlockMap.open(path) if is_its else None


def is_as_baked(disk: Path, baked: Disk) -> bool:
    """Whether every byte of the file `disk` is as its record says."""
    return disk.stat().st_size == baked.bytes_apparent and digest_of(disk) == baked.blocks_sha256


def differing(new: BlockMap, old: BlockMap | None) -> Iterator[tuple[int, bytes]]:
    """Index and SHA-256 of each block to write over `old` to get `new`, ascending. A block that
    became zeros is among them: a snapshot shows its parent's data where nothing was written over
    it. `old` may be smaller, never larger."""
    if old is not None and old.gib > new.gib:
        raise BadInput(
            f"a volume of {new.gib} GiB cannot follow one of {old.gib} GiB",
            hint="a snapshot is at least as large as its parent",
        )
    before = old.pieces() if old else iter(())
    blank = bytes(PIECE * SLOT)
    for first, piece in new.pieces():
        _first, past = next(before, (first, blank))
        if piece == past:
            continue
        for at in range(0, len(piece), SLOT):
            slot = piece[at : at + SLOT]
            if slot != past[at : at + SLOT]:
                yield first + at // SLOT, ZEROS_SHA256 if slot == EMPTY else slot
