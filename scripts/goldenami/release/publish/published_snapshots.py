"""Which snapshots should hold which build, by the publish records of this checkout, and whether they do."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from goldenami.aws.session import Account
from goldenami.aws.snapshots import readback
from goldenami.aws.snapshots.readback import Readback
from goldenami.core import records
from goldenami.core.errors import BadInput
from goldenami.core.terminal.progress import Progress
from goldenami.model.builds.build_records import BAKE_FILE, BLOCKS_FILE, PUBLISH_FILE, BakeRecord
from goldenami.model.builds.disk_blocks import BlockMap, scan
from goldenami.model.builds.sparse_disk import BLOCK
from goldenami.release.publish.publish_records import PublishRecord


@dataclass(frozen=True)
class PublishedSnapshot:
    """A snapshot and the folder of the build that it should hold."""

    snapshot_id: str
    region: str
    folder: Path

    def read(self, account: Account, progress: Progress) -> Readback:
        """Read it back, block by block, and compare it with the build's disk."""
        name = f"{self.region} {self.snapshot_id}"
        with tempfile.TemporaryDirectory() as scratch:
            blocks = _blocks(self.folder, Path(scratch))
            with progress.transfer(name, blocks.count() * BLOCK) as advance:
                return readback.verify(account.ebs(self.region), self.snapshot_id, blocks, on_bytes=advance)


def _blocks(folder: Path, scratch: Path) -> BlockMap:
    """The blocks of the build's disk, listed anew; without it, as they were when it was published."""
    record = records.read(folder / BAKE_FILE, BakeRecord).disk
    disk = folder / (record.path if record else "")
    return scan(disk, scratch / BLOCKS_FILE) if disk.is_file() else BlockMap.open(folder / BLOCKS_FILE)


def of_image(root: Path, image: str, build_id: str | None, region: str | None) -> list[PublishedSnapshot]:
    """The snapshots of a build (the newest published one if none is named) in all its regions, or in one."""
    folder = root / "build" / image
    known = {path.parent: records.read(path, PublishRecord) for path in sorted(folder.glob(f"*/{PUBLISH_FILE}"))
             if path.parent.name == build_id or (build_id is None and not path.parent.is_symlink())}
    if not known:
        raise BadInput(f"{image} {build_id or ''} is not published from here".replace("  ", " "),
                       hint="or name a snapshot: `golden verify-snapshot snap-... --image IMAGE --region REGION`")
    newest = max(known, key=lambda path: known[path].published_at)
    regions = known[newest].regions
    if region is not None and region not in regions:
        raise BadInput(f"{image} {newest.name} is not published in {region}, but in {', '.join(regions)}",
                       hint="correct --region, or name another build by --build")
    return [PublishedSnapshot(record.snapshot, name, newest) for name, record in regions.items()
            if region in (None, name)]


def of_id(
    root: Path, snapshot_id: str, image: str | None, build_id: str | None, region: str | None,
) -> PublishedSnapshot:
    """The snapshot as a publish record knows it, else as the caller says what it should hold and where it is."""
    for path in sorted((root / "build").glob(f"*/*/{PUBLISH_FILE}")):
        for name, record in records.read(path, PublishRecord).regions.items():
            if record.snapshot == snapshot_id and not path.parent.is_symlink():
                return PublishedSnapshot(snapshot_id, name, path.parent)
    if not (image and region):
        raise BadInput(f"no publish record here names {snapshot_id}",
                       hint="say what it should hold and where it is: --image IMAGE [--build ID] --region REGION")
    return PublishedSnapshot(snapshot_id, region, root / "build" / image / (build_id or "latest"))
