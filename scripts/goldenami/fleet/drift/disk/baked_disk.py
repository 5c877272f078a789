"""A build's disk on this machine, held to what was published: it stands for all that did not
change."""

from __future__ import annotations

import hashlib
import os
import weakref
from pathlib import Path

from goldenami.core.errors import BadInput
from goldenami.core.units import GIB
from goldenami.model.builds.disk_blocks import EMPTY, SLOT, BlockMap
from goldenami.model.builds.sparse_disk import BLOCK, ZEROS, read_block


class BakedDisk:
    """The disk of a build on this machine; each block is compared, when it is first read, with what
    was published."""

    def __init__(self, disk: Path, blocks: BlockMap) -> None:
        self._path, self._seen = disk, set[int]()
        self._disk, self._blocks = (os.open(each, os.O_RDONLY) for each in (disk, blocks.path))
        self._ends = [weakref.finalize(self, os.close, file) for file in (self._disk, self._blocks)]
        self.size = blocks.gib * GIB

    def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes at `offset`, which is within `size`; BadInput where a block is not
        the published one.
        """
        for index in range(offset // BLOCK, -(-(offset + length) // BLOCK)):
            if index not in self._seen:
                self._check(index)
        return os.pread(self._disk, length, offset).ljust(length, b"\0")

    def close(self) -> None:
        """Close both files."""
        for end in self._ends:
            end()

    def _check(self, index: int) -> None:
        block, slot = read_block(self._disk, index), os.pread(self._blocks, SLOT, index * SLOT)
        if (slot == EMPTY and block != ZEROS) or (slot != EMPTY and hashlib.sha256(block).digest()
                                                  != slot):
            raise BadInput(f"{self._path}: block {index} is not what was published",
                           hint="bake again; of an instance, the AMI's snapshot is read where "
                                "that disk is removed")
        self._seen.add(index)
