"""Read an instance's disk from outside: a temporary snapshot of its root volume, of which only the
changed blocks are read.

Nothing runs on the instance, so nothing there can lie. What the instance keeps in memory is not on
its volume.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from goldenami.aws.session import Account, translated
from goldenami.aws.snapshots.snapshot_disk import SnapshotDisk
from goldenami.aws.snapshots.temporary import temporary_snapshot
from goldenami.core import units
from goldenami.core.errors import Unreachable
from goldenami.core.terminal.progress import Progress
from goldenami.local.drift import disk_check
from goldenami.local.drift.baked_disk import BakedDisk
from goldenami.local.drift.disk_check import LookedAt
from goldenami.local.reader.block_source import ChangedBlocks, merged
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.sparse_disk import BLOCK

from goldenami_fleet.drift import running_instance
from goldenami_fleet.drift.running_instance import RunningInstance


@contextlib.contextmanager
def opened(
    account: Account, target: RunningInstance, build: BuildFolder, folder: Path, progress: Progress
) -> Iterator[LookedAt]:
    """Open the disk of an instance; its snapshot is deleted when the context ends.

    Unchanged blocks come from the disk of `build` on this machine, or else from the AMI's snapshot.
    `folder` holds the blocks meanwhile. Raises Unreachable if the disk cannot be read, or if AWS
    refuses a call.
    """
    if not target.volume:
        raise Unreachable(
            f"{target.instance} has no root volume on EBS", hint="there is nothing to look at"
        )
    folder.mkdir(parents=True, exist_ok=True)
    ec2, ebs = account.ec2(target.region), account.ebs(target.region)
    with translated(target.region), contextlib.ExitStack() as stack:
        # Entered first, so deleted last, after the disks that read from it are closed.
        with progress.step("snapshot", f"of {target.volume}"):
            snapshot = stack.enter_context(temporary_snapshot(ec2, target.instance, target.volume))
        with progress.step("changed blocks"):
            base = _base(ebs, target, build, folder)
            if base is not None:
                stack.callback(base.close)
            disk = SnapshotDisk(ebs, snapshot, folder)
            stack.callback(disk.close)
            changed = disk.list(target.baked if base is not None else "")
            disk.fetch()
        unseen = [
            disk_check.MEMORY,
            "local disks",
            *(f"volume {volume}" for volume in target.others),
        ]
        looked_at = LookedAt(
            label=f"{target.instance} in {target.region}",
            disk=disk,
            unseen=unseen,
            launch=running_instance.launch(account, target),
        )
        # Only with a base and EBS's list of changes do unchanged blocks come from the base.
        if changed is None or base is None:
            cause = f"EBS knows no lineage of {snapshot} and {target.baked or 'the AMI'}"
            if target.owner:
                cause = f"the AMI is of account {target.owner}"
            progress.say(f"{cause}: every block is read")
        else:
            extents = merged((index * BLOCK, (index + 1) * BLOCK) for index in changed)
            looked_at = replace(
                looked_at,
                base=base,
                changed=extents,
                disk=ChangedBlocks(disk.size, base, extents, disk.read),
            )
        yield looked_at
        sources = [
            snapshot_disk
            for snapshot_disk in (disk, base)
            if isinstance(snapshot_disk, SnapshotDisk)
        ]
        read = sum(source.blocks_read for source in sources) * BLOCK
        progress.say(f"{units.size(read)} came from EBS")


def _base(
    ebs: object, target: RunningInstance, build: BuildFolder, folder: Path
) -> SnapshotDisk | BakedDisk | None:
    if build.read_bake().disk_sha256 == target.disk_sha256 and (
        local_disk := BakedDisk.here(build)
    ):
        return local_disk
    if not target.baked:
        return None
    disk = SnapshotDisk(ebs, target.baked, folder)
    disk.list()
    return disk
