"""The command on snapshots: does EBS hold what was baked?"""

from __future__ import annotations

from typing import Annotated

import typer

from goldenami.aws.session import Account, check_regions
from goldenami.commands.checkout import Checkout
from goldenami.core.errors import ExitCode, NotVerified, Unreachable
from goldenami.model.builds.build_records import Outcome
from goldenami.model.definitions import definition_file
from goldenami.release.publish import published_snapshots


def cmd_verify_snapshot(
    checkout: Checkout,
    target: Annotated[str, typer.Argument(
        metavar="IMAGE|SNAPSHOT", help="a published image, or a snapshot's id")], *,
    build_id: Annotated[str | None, typer.Option(
        "--build", metavar="ID", help="id of the build (default: the newest published one)")] = None,
    region: Annotated[str | None, typer.Option(
        "--region", metavar="REGION", help="only this region; where the snapshot is")] = None,
    image: Annotated[str | None, typer.Option(
        "--image", metavar="IMAGE", help="the image that the snapshot should hold, where no record names it")] = None,
) -> int:
    """Read snapshots back, block by block, and compare them with the disk that was baked."""
    if not target.startswith("snap-"):
        definition_file.path_of(checkout.root, target)
    snapshots = [published_snapshots.of_id(checkout.root, target, image, build_id, region)] \
        if target.startswith("snap-") else published_snapshots.of_image(checkout.root, target, build_id, region)
    progress, account = checkout.progress("verify", "snapshot"), Account()
    check_regions(snapshot.region for snapshot in snapshots)
    readbacks = [snapshot.read(account, progress) for snapshot in snapshots]
    for snapshot, result in zip(snapshots, readbacks, strict=True):
        about = f": {result.detail}" if result.detail else ""
        print(f"{snapshot.region} {snapshot.snapshot_id} {result.outcome.value}, "
              f"{result.blocks_read} blocks read{about}")
    outcomes = {result.outcome for result in readbacks}
    if outcomes & {Outcome.INCORRECT, Outcome.MISSING}:
        raise NotVerified("not every snapshot holds the disk", hint="take it out of use: `golden rollback IMAGE`; "
                          "a new build and publish make a new snapshot")
    if Outcome.UNREACHABLE in outcomes:
        raise Unreachable("not every snapshot could be read", hint="correct what the lines above name, then run again")
    return int(ExitCode.OK)
