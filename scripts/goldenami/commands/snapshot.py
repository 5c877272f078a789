"""Commands on snapshots: does EBS hold what was baked?"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

from goldenami.aws.session import Account, check_regions
from goldenami.aws.snapshots import readback
from goldenami.aws.snapshots.blocks import BlockMap, scan
from goldenami.aws.snapshots.sparse import BLOCK
from goldenami.commands import ROOT, Add
from goldenami.core import records
from goldenami.core.cache_paths import CachePaths
from goldenami.core.errors import BadInput, ExitCode, NotVerified, Unreachable
from goldenami.core.progress import Progress
from goldenami.model.build_records import BAKE_FILE, BLOCKS_FILE, PUBLISH_FILE, BakeRecord, Outcome
from goldenami.publish.publish_records import PublishRecord


@dataclass(frozen=True)
class _Target:
    """A snapshot and the folder of the build that it should hold."""

    snapshot_id: str
    region: str
    folder: Path


def cmd_verify_snapshot(args: argparse.Namespace) -> int:
    """Read snapshots back, block by block, and compare them with the disk that was baked."""
    targets = _of_snapshot(args) if args.target.startswith("snap-") else _of_image(args)
    progress, account = Progress.of("verify", "snapshot", CachePaths.default()), Account()
    check_regions(target.region for target in targets)
    found = [_read(target, account, progress) for target in targets]
    for target, result in zip(targets, found, strict=True):
        about = f": {result.detail}" if result.detail else ""
        print(f"{target.region} {target.snapshot_id} {result.outcome.value}, {result.blocks_read} blocks read{about}")
    outcomes = {result.outcome for result in found}
    if outcomes & {Outcome.INCORRECT, Outcome.MISSING}:
        raise NotVerified("not every snapshot holds the disk", hint="take it out of use: `golden rollback`; "
                          "a new build and publish make a new snapshot")
    if Outcome.UNREACHABLE in outcomes:
        raise Unreachable("not every snapshot could be read", hint="correct what the lines above name, then run again")
    return int(ExitCode.OK)


def _read(target: _Target, account: Account, progress: Progress) -> readback.Readback:
    name = f"{target.region} {target.snapshot_id}"
    with tempfile.TemporaryDirectory() as scratch:
        listed = _blocks(target.folder, Path(scratch))
        with progress.transfer(name, listed.count() * BLOCK) as advance:
            return readback.verify(account.ebs(target.region), target.snapshot_id, listed, on_bytes=advance)


def _blocks(folder: Path, scratch: Path) -> BlockMap:
    """The blocks of the build's disk, listed anew; without it, as they were when it was published."""
    made = records.read(folder / BAKE_FILE, BakeRecord).disk
    if made is None:
        raise BadInput(f"{folder} was baked on EC2: no disk is here to compare a snapshot with",
                       hint="builds by the local builder have one")
    disk = folder / made.path
    return scan(disk, scratch / BLOCKS_FILE) if disk.exists() else BlockMap.open(folder / BLOCKS_FILE)


def _of_image(args: argparse.Namespace) -> list[_Target]:
    """The snapshots of a build (the newest published one if none is named) in all its regions, or in --region."""
    folder = ROOT / "build" / args.target
    known = {path.parent: records.read(path, PublishRecord) for path in sorted(folder.glob(f"*/{PUBLISH_FILE}"))
             if path.parent.name == args.build or (args.build is None and not path.parent.is_symlink())}
    if not known:
        raise BadInput(f"{args.target} {args.build or ''} is not published from here".replace("  ", " "),
                       hint="or name a snapshot: `golden verify-snapshot snap-... --image IMAGE --region REGION`")
    newest = max(known, key=lambda path: known[path].published_at)
    return [_Target(made.snapshot, region, newest) for region, made in known[newest].regions.items()
            if args.region in (None, region)]


def _of_snapshot(args: argparse.Namespace) -> list[_Target]:
    """The snapshot as a publish record knows it, or as the options say."""
    for path in sorted((ROOT / "build").glob(f"*/*/{PUBLISH_FILE}")):
        for region, made in records.read(path, PublishRecord).regions.items():
            if made.snapshot == args.target and not path.parent.is_symlink():
                return [_Target(args.target, region, path.parent)]
    if not (args.image and args.region):
        raise BadInput(f"no publish record here names {args.target}",
                       hint="say what it should hold and where it is: --image IMAGE [--build ID] --region REGION")
    return [_Target(args.target, args.region, ROOT / "build" / args.image / (args.build or "latest"))]


def register(add: Add) -> None:
    """Add the commands of this module to the command line."""
    command = add("verify-snapshot", cmd_verify_snapshot)
    command.add_argument("target", metavar="IMAGE|SNAPSHOT", help="a published image, or a snapshot's id")
    command.add_argument("--build", help="id of the build (default: the newest published one)")
    command.add_argument("--region", help="only this region; where the snapshot is")
    command.add_argument("--image", help="the image that the snapshot should hold, where no record names it")
