"""A build's disk on this machine, compared with what was published; and a disk in a file, which is
a raw copy of a volume or the overlay that a machine of this pipeline writes to."""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import weakref
from pathlib import Path

from goldenami.core.errors import BadInput
from goldenami.core.units import GIB
from goldenami.local.disk.grub import SECTOR
from goldenami.local.drift.disk_check import LookedAt
from goldenami.local.drift.launched_with import LaunchedWith
from goldenami.local.reader.block_source import RawFile, overlay
from goldenami.model.builds import disk_blocks
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.disk_blocks import EMPTY, SLOT, BlockMap
from goldenami.model.builds.sparse_disk import BLOCK, ZEROS, read_block

_QCOW2 = b"QFI\xfb"
_PARTITIONS = SECTOR, b"EFI PART"
"""Place and beginning of the partition table of a raw disk. A first sector may begin like an
overlay, but no firmware reads it as one."""
_OTHER_FILE = 4
"""Feature of an overlay whose blocks are in another file."""


class BakedDisk:
    """The disk of a build on this machine, which stands for all that did not change. Each block is
    compared with what was published when it is first read."""

    def __init__(self, disk: Path, blocks: BlockMap) -> None:
        self._path, self._seen = disk, set[int]()
        self._disk, self._blocks = (os.open(path, os.O_RDONLY) for path in (disk, blocks.path))
        self._ends = [weakref.finalize(self, os.close, file) for file in (self._disk, self._blocks)]
        self.size = blocks.gib * GIB

    @classmethod
    def here(cls, build: BuildFolder) -> BakedDisk | None:
        """Return the disk of `build`, or None if it, or the bake's list of its blocks, is not
        here."""
        baked = build.read_bake().disk
        blocks = disk_blocks.as_baked(build.blocks, baked) if baked else None
        return cls(build.disk, blocks) if blocks and build.disk.exists() else None

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes at `offset`, which is within `size`. Raises BadInput if a
        block is not the published one."""
        for index in range(offset // BLOCK, -(-(offset + length) // BLOCK)):
            if index not in self._seen:
                self._check(index)
        return os.pread(self._disk, length, offset).ljust(length, b"\0")

    def close(self) -> None:
        for end in self._ends:
            end()

    def _check(self, index: int) -> None:
        block, slot = read_block(self._disk, index), os.pread(self._blocks, SLOT, index * SLOT)
        if (slot == EMPTY and block != ZEROS) or (
            slot != EMPTY and hashlib.sha256(block).digest() != slot
        ):
            raise BadInput(
                f"{self._path}: block {index} is not what was published",
                hint="bake again; of an instance, the AMI's snapshot is read where "
                "that disk is removed",
            )
        self._seen.add(index)


def _demand_over(path: Path, file: RawFile, head: bytes, build: BuildFolder) -> None:
    """Raise BadInput for an overlay over another disk than that of `build` (docs/interop/qcow2.rst
    of QEMU)."""
    # What differs between the two disks would otherwise be taken for baked.
    offset, size, features = struct.unpack_from(">QI52xQ", head.ljust(2 * SECTOR, b"\0"), 8)
    name = file.read(offset, size) if offset + size <= file.size else b""
    below, is_same = path.parent / os.fsdecode(name), False
    with contextlib.suppress(OSError, ValueError):
        is_same = below.samefile(build.disk)
    if features & _OTHER_FILE or not is_same:
        raise BadInput(
            f"{path} is no overlay over {build.disk}, but over {below}",
            hint="name the build that it was written over with --build, or, where that "
            f"was moved: `qemu-img rebase -u -F raw -b {build.disk} {path}`",
        )


def opened(path: Path, build: BuildFolder, launch: LaunchedWith) -> LookedAt:
    """Return the disk in a file. Of an overlay only what was written is read, over the disk of
    `build`.

    Raises BadInput for a file that is neither, and if the disk below an overlay is not here.
    """
    disk = RawFile(path)
    head = disk.read(0, min(disk.size, 2 * SECTOR))
    if head[_PARTITIONS[0] :].startswith(_PARTITIONS[1]):
        return LookedAt(label=str(path), disk=disk, launch=launch)
    if not head.startswith(_QCOW2):
        raise BadInput(
            f"{path} is neither a raw disk with a partition table (GPT) nor a qcow2 overlay",
            hint=f"make it raw: `qemu-img convert -O raw {path} disk.raw`",
        )
    base = BakedDisk.here(build)
    if base is None:
        raise BadInput(
            f"{build.disk} is not there, or not as baked: {path} says only what differs from it",
            hint="bake it again: the same lock gives the same disk",
        )
    _demand_over(path, disk, head, build)
    overlaid = overlay(path, base)
    return LookedAt(
        label=str(path), disk=overlaid, base=base, changed=overlaid.changed, launch=launch
    )
