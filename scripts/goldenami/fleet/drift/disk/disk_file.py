"""A disk that is a file: a raw copy of a volume, or the overlay that a machine of this pipeline
writes to."""

from __future__ import annotations

from pathlib import Path

from goldenami.core.errors import BadInput
from goldenami.fleet.drift.disk.baked_disk import BakedDisk
from goldenami.fleet.drift.disk.disk_check import LookedAt
from goldenami.fleet.drift.disk.neighbours import UNKNOWN, LaunchedWith
from goldenami.local.reader.block_source import RawFile, overlay
from goldenami.model.builds import disk_blocks
from goldenami.model.builds.build_folder import BuildFolder

_QCOW2 = b"QFI\xfb"


def opened(path: Path, build: BuildFolder, user: str, launch: LaunchedWith = UNKNOWN) -> LookedAt:
    """The disk in a file; of an overlay only what was written is read, over the disk of `build`:
    each of its blocks that is read is held to the bake's, where that listed them, else the whole
    disk is.

    Raises BadInput where the file is no disk, or the disk below an overlay is not the one that was
    baked.
    """
    disk = RawFile(path)
    if disk.size < len(_QCOW2) or disk.read(0, len(_QCOW2)) != _QCOW2:
        return LookedAt(label=str(path), user=user, disk=disk, launch=launch)
    baked = build.read_bake().disk
    blocks = disk_blocks.as_baked(build.blocks, baked) if baked else None
    if (
        baked is None
        or not build.disk.exists()
        or not (blocks or disk_blocks.is_as_baked(build.disk, baked))
    ):
        raise BadInput(f"{build.disk} is not there, or not as baked: {path} says only what "
                       "differs from it",
                       hint="bake it again: the same lock gives the same disk")
    base = BakedDisk(build.disk, blocks) if blocks else RawFile(build.disk)
    found = overlay(path, base)
    return LookedAt(label=str(path), user=user, disk=found, base=base, changed=found.changed,
                    launch=launch)
