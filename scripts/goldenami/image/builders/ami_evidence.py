"""What an AMI that was baked on EC2 holds, by its own snapshot: nothing that ran on the instance is
asked.

So such a build has what a disk's has: the list of its blocks, which is signed, and the manifest
that drift goes by.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from goldenami.aws.session import Account, translated
from goldenami.aws.snapshots.snapshot_disk import SnapshotDisk
from goldenami.core import records
from goldenami.core.errors import Unreachable
from goldenami.core.terminal.progress import Progress
from goldenami.local.reader import disk_manifest
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.build_records import Ami
from goldenami.model.builds.plans import BakeResult


def read(
    account: Account, ami: Ami, out: BuildFolder, work: Path, progress: Progress
) -> BakeResult:
    """Read the snapshot of `ami` once, and write its blocks' list and its manifest into the folder
    `out`.

    A disk that our reader does not read has no manifest, and that is said; its blocks are listed
    all the same. Raises what AWS refuses, and Unreachable where EBS does not give the blocks: the
    AMI stays, and the next bake goes on here.
    """
    with (
        tempfile.TemporaryDirectory(dir=work, prefix="snapshot-") as scratch,
        translated(ami.region),
    ):
        disk = SnapshotDisk(account.ebs(ami.region), ami.snapshot, Path(scratch))
        try:
            disk.list()
            with progress.download(
                "snapshot", f"{ami.snapshot} is read", disk.bytes_listed
            ) as on_bytes:
                blocks = records.sha256_file(disk.hashed(out.blocks, on_bytes).path)
            with progress.step("manifest"):
                sizes = _manifest(disk, out.manifest, Path(scratch), progress)
        finally:
            disk.close()
    return BakeResult(ami=ami.model_copy(update={"blocks_sha256": blocks}), sizes=sizes,
                      manifest_sha256=records.sha256_file(out.manifest) if out.manifest.exists()
                      else None)


def _manifest(disk: SnapshotDisk, path: Path, scratch: Path, progress: Progress) -> dict[str, int]:
    """Bytes by package; nothing of a disk that cannot be read."""
    try:
        return disk_manifest.write(disk, path, scratch / "lists")
    except Unreachable as error:
        progress.say(f"no manifest, so nothing to compare instances with: {error.message}")
        return {}
