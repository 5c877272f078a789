"""An instance's disk from outside: a temporary snapshot of its root volume, of which only changed
blocks are read.

Nothing runs on the instance, so nothing there can lie. What the instance keeps in memory is not on
its volume.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from goldenami.aws.session import Account, translated
from goldenami.aws.snapshots.snapshot_disk import SnapshotDisk
from goldenami.aws.snapshots.temporary import temporary_snapshot
from goldenami.core import units
from goldenami.core.errors import Unreachable
from goldenami.core.terminal.progress import Progress
from goldenami.fleet.drift.disk.baked_disk import BakedDisk
from goldenami.fleet.drift.running_instance import RunningInstance
from goldenami.local.reader.block_source import BlockSource, ChangedBlocks, Extent, merged
from goldenami.model.builds import disk_blocks
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.sparse_disk import BLOCK


@dataclass(frozen=True)
class OutsideDisk:
    """The disk of an instance at one moment. With `base` and `changed`, all but `changed` is as on
    `base`; without, nothing is known of what changed. `sources` are what came from EBS.
    """

    disk: BlockSource
    base: BlockSource | None
    changed: list[Extent] | None
    sources: tuple[SnapshotDisk, ...]

    @property
    def bytes_read(self) -> int:
        """Bytes that came from EBS so far."""
        return sum(source.blocks_read for source in self.sources) * BLOCK


@contextlib.contextmanager
def opened(account: Account, target: RunningInstance, build: BuildFolder, folder: Path,
           progress: Progress,
           ) -> Iterator[OutsideDisk]:
    """The disk of an instance for as long as the context lasts; then its snapshot is gone.

    What did not change comes from the disk of `build` on this machine, else from the AMI's
    snapshot. `folder` holds the blocks meanwhile. Raises Unreachable where the disk cannot be read,
    and what AWS refuses.
    """
    if not target.volume:
        raise Unreachable(f"{target.instance} has no root volume on EBS",
                          hint="there is nothing to look at")
    folder.mkdir(parents=True, exist_ok=True)
    ec2, ebs = account.ec2(target.region), account.ebs(target.region)
    with translated(target.region), contextlib.ExitStack() as stack:
        with progress.step("snapshot", f"of {target.volume}"):
            snapshot = stack.enter_context(temporary_snapshot(ec2, target.instance, target.volume))
        with progress.step("changed blocks"):
            base = _base(ebs, target, build, folder)
            if base is not None:
                stack.callback(base.close)
            disk = SnapshotDisk(ebs, snapshot, folder)
            stack.callback(disk.close)
            found = _open(disk, base, target)
        if found.changed is None:
            why = f"the AMI is of account {target.owner}" if target.owner else (
                f"EBS knows no lineage of {snapshot} and {target.baked or 'the AMI'}")
            progress.say(f"{why}: every block is read")
        progress.say(f"{units.size(found.bytes_read)} read")
        yield found


def _open(
    disk: SnapshotDisk, base: SnapshotDisk | BakedDisk | None, target: RunningInstance
) -> OutsideDisk:
    changed = disk.list(target.baked if base is not None else "")
    disk.fetch()
    sources = (disk, *((base,) if isinstance(base, SnapshotDisk) else ()))
    if changed is None or base is None:
        return OutsideDisk(disk, None, None, sources)
    extents = merged((index * BLOCK, (index + 1) * BLOCK) for index in changed)
    return OutsideDisk(ChangedBlocks(disk.size, base, extents, disk.read), base, extents, sources)


def _base(
    ebs: object, target: RunningInstance, build: BuildFolder, folder: Path
) -> SnapshotDisk | BakedDisk | None:
    """The disk as it was baked: on this machine, else in the AMI's snapshot; None where neither is
    there."""
    baked = build.read_bake().disk
    if build.disk.exists() and baked and baked.sha256 == target.disk_sha256 and (
            blocks := disk_blocks.as_baked(build.blocks, baked)):
        return BakedDisk(build.disk, blocks)
    if not target.baked:
        return None
    disk = SnapshotDisk(ebs, target.baked, folder)
    disk.list()
    return disk
