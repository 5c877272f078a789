"""A build's disk on this machine, held to what was published, and a disk that is a file: a raw copy
of a volume, or the overlay that a machine of this pipeline writes to."""

from __future__ import annotations

import hashlib
import os
import weakref
from pathlib import Path

from goldenami.core.errors import BadInput
from goldenami.core.units import GIB
from goldenami.fleet.drift.disk.disk_check import LookedAt
from goldenami.fleet.drift.disk.neighbours import LaunchedWith
from goldenami.local.reader.block_source import RawFile, overlay
from goldenami.model.builds import disk_blocks
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.disk_blocks import EMPTY, SLOT, BlockMap
from goldenami.model.builds.sparse_disk import BLOCK, ZEROS, read_block

_QCOW2 = b"QFI\xfb"


class BakedDisk:
    """The disk of a build on this machine: it stands for all that did not change. Each block is
    compared, when it is first read, with what was published."""

    def __init__(self, disk: Path, blocks: BlockMap) -> None:
        self._path, self._seen = disk, set[int]()
        self._disk, self._blocks = (os.open(each, os.O_RDONLY) for each in (disk, blocks.path))
        self._ends = [weakref.finalize(self, os.close, file) for file in (self._disk, self._blocks)]
        self.size = blocks.gib * GIB

    @classmethod
    def here(cls, build: BuildFolder) -> BakedDisk | None:
        """The disk of `build`; None where it, or the bake's list of its blocks, is not here."""
        baked = build.read_bake().disk
        blocks = disk_blocks.as_baked(build.blocks, baked) if baked else None
        return cls(build.disk, blocks) if blocks and build.disk.exists() else None

    def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes at `offset`, which is within `size`; BadInput where a block is not
        the published one.
        """
        for index in range(offset // BLOCK, -(-(offset + length) // BLOCK)):
            if index not in self._seen:
                self._check(index)
        return os.pread(self._disk, length, offset).ljust(length, b"\0")

    def close(self) -> None:
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


def opened(path: Path, build: BuildFolder, user: str, launch: LaunchedWith) -> LookedAt:
    """The disk in a file; of an overlay only what was written is read, over the disk of `build`.

    Raises BadInput where the disk below an overlay is not here.
    """
    disk = RawFile(path)
    if disk.size < len(_QCOW2) or disk.read(0, len(_QCOW2)) != _QCOW2:
        return LookedAt(label=str(path), user=user, disk=disk, launch=launch)
    base = BakedDisk.here(build)
    if base is None:
        raise BadInput(f"{build.disk} is not there, or not as baked: {path} says only what "
                       "differs from it",
                       hint="bake it again: the same lock gives the same disk")
    found = overlay(path, base)
    return LookedAt(label=str(path), user=user, disk=found, base=base, changed=found.changed,
                    launch=launch)
