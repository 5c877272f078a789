"""A build's disk on this machine, held to what was published: it stands for all that did not change."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from goldenami.core.errors import BadInput
from goldenami.core.units import GIB
from goldenami.model.disk_blocks import EMPTY, SLOT, BlockMap
from goldenami.model.sparse_disk import BLOCK, ZEROS, read_block


class BakedDisk:
    """The disk of a build on this machine; each block is compared, when it is first read, with what was published."""

    def __init__(self, disk: Path, blocks: BlockMap) -> None:
        self._path, self._disk = disk, disk.open("rb", buffering=0)
        self._blocks, self._seen = blocks.path.open("rb", buffering=0), set[int]()
        self.size = blocks.gib * GIB

    def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes at `offset`, which is within `size`; BadInput where a block is not the published one.
        """
        for index in range(offset // BLOCK, -(-(offset + length) // BLOCK)):
            if index not in self._seen:
                self._check(index)
        return os.pread(self._disk.fileno(), length, offset).ljust(length, b"\0")

    def close(self) -> None:
        """Close both files."""
        self._disk.close()
        self._blocks.close()

    def _check(self, index: int) -> None:
        block, slot = read_block(self._disk.fileno(), index), os.pread(self._blocks.fileno(), SLOT, index * SLOT)
        if (slot == EMPTY and block != ZEROS) or (slot != EMPTY and hashlib.sha256(block).digest() != slot):
            raise BadInput(f"{self._path}: block {index} is not what was published",
                           hint="remove that build's disk: the AMI's snapshot is read in its place")
        self._seen.add(index)
