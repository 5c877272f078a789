"""The command that makes a lock a proven disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from goldenami.aws import session
from goldenami.commands import ImageName, Wait, lead_to
from goldenami.commands.builds import bake_setup, fetch, verify
from goldenami.commands.checkout import Checkout
from goldenami.commands.lock import Relock, fetched
from goldenami.image.bake import bake
from goldenami.image.builders.local import LocalBuilder
from goldenami.image.lock import lint
from goldenami.image.sbom import sbom
from goldenami.local.host import workspace
from goldenami.model.builds.build_records import BuilderKind
from goldenami.model.locked import lockfile
from goldenami.model.locked.lockfile import Lock
from goldenami.watch import proposal

BuilderOption = Annotated[
    BuilderKind,
    typer.Option(
        "--builder", help="a container on this machine, or an EC2 instance of the publisher's image"
    ),
]
BuilderRegion = Annotated[
    str | None,
    typer.Option(
        "--region",
        metavar="REGION",
        help="of --builder ec2 (default: the first that the image is published to)",
    ),
]


@dataclass(frozen=True, kw_only=True)
class BakeOptions:
    """The arguments and options of `golden bake`."""

    image: ImageName
    wait: Wait = False
    relock: Relock = False
    changed: Annotated[
        str | None,
        typer.Option("--changed", metavar="REF", help="bake only if the lock differs from REF's"),
    ] = None
    force: Annotated[
        bool, typer.Option("--force", help="bake again although this build exists")
    ] = False
    fetch_only: Annotated[
        bool,
        typer.Option(
            "--fetch-only",
            help="stop when every file of the lock is here, for a bake without network or by "
            "Packer alone",
        ),
    ] = False
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="stop after the disk is written")
    ] = False
    builder: BuilderOption = BuilderKind.LOCAL
    region: BuilderRegion = None


def cmd_bake(checkout: Checkout, options: BakeOptions) -> int:
    """Bake, verify, report: a lock becomes a proven disk; --changed: only where it differs from
    REF's."""
    image, region = options.image, options.region
    # A wrong definition is refused before anything is written.
    definition = checkout.definition(image)
    # Refused before minutes of downloads.
    if region:
        session.check_regions([region])
        checkout.allowed(definition).require(region)
    if options.changed and image not in proposal.changed(checkout.root, options.changed):
        print(f"the lock of {image} is that of {options.changed}: nothing to bake")
        return 0
    if options.fetch_only:
        return fetch.run(checkout, image, relock=options.relock, wait=options.wait)
    if options.builder is BuilderKind.LOCAL:
        # Checked before minutes of downloads.
        LocalBuilder(checkout.root).check_host()
    with workspace.image_lock(checkout.root, image, wait=options.wait):
        lock, digest = _lock_to_bake(checkout, options)
        builder = bake_setup.builder_of(checkout, lock, options.builder, region)
        stage = bake_setup.timing_name("bake", builder)
        inputs = bake_setup.inputs(checkout, stage, (lock, digest))
        build = bake.run(inputs, builder, force=options.force)
        sbom.write_missing(build, lock, checkout.store)
        if options.no_verify:
            lead_to("verify", image)
            return 0
        if not options.force and build.is_verified:
            inputs.progress.say(f"verified already; report: {build.report}")
            return verify.lead_to_publish(checkout, image)
        return verify.run(checkout, build, lock, builder)


def _lock_to_bake(checkout: Checkout, options: BakeOptions) -> tuple[Lock, str]:
    """Return the lock to bake, with its files in the store if there is no build of it yet."""
    image = options.image
    # Checking that the store has all files takes minutes, so an existing build skips it.
    if not options.force and lockfile.path_of(checkout.root, image).exists():
        lock, digest = lint.committed(checkout.root, checkout.definition(image))
        build = checkout.builds(image).build(digest[: lockfile.ID_LENGTH])
        builder = bake_setup.builder_of(checkout, lock, options.builder, options.region)
        if bake.exists(build, builder):
            return lock, digest
    return fetched(checkout, image, relock=options.relock)
