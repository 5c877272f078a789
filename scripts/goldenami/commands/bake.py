"""Commands on builds of this machine: from a lock to a verified disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from goldenami.aws import session
from goldenami.aws.channels import channels
from goldenami.commands import ImageName, Wait, lead_to
from goldenami.commands.checkout import Checkout
from goldenami.commands.lock import Relock, fetched
from goldenami.core import records
from goldenami.core.units import size
from goldenami.image.bake import bake, container_image, molecule, packer_variables, reproduce
from goldenami.image.bake.bake_inputs import BakeInputs
from goldenami.image.builders import ec2
from goldenami.image.builders.builder import Builder
from goldenami.image.builders.ec2 import Ec2Builder
from goldenami.image.builders.local import LocalBuilder
from goldenami.image.lock import lint
from goldenami.image.provenance import provenance
from goldenami.image.report import report
from goldenami.image.sbom import sbom
from goldenami.image.verify import verify
from goldenami.local.host import workspace
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.build_records import BakeRecord, BuilderKind, Verdict
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
    session.check_regions([region] if region else [])
    # Refused before minutes of downloads.
    if region:
        checkout.allowed(definition).require(region)
    if options.changed and image not in proposal.changed(checkout.root, options.changed):
        print(f"the lock of {image} is that of {options.changed}: nothing to bake")
        return 0
    if options.fetch_only:
        return _fetch(checkout, options)
    local = LocalBuilder(checkout.root)
    if options.builder is BuilderKind.LOCAL:
        # Checked before minutes of downloads.
        local.check_host()

    def builder_of(lock: Lock) -> Builder:
        return _ec2_builder(checkout, lock, region) if options.builder is BuilderKind.EC2 else local

    with workspace.image_lock(checkout.root, image, wait=options.wait):
        locked = _lock_to_bake(checkout, options, builder_of)
        lock, builder = locked[0], builder_of(locked[0])
        inputs = _inputs(checkout, _timing_name("bake", builder), locked)
        build = bake.run(inputs, builder, force=options.force)
        sbom.write_missing(build, lock, checkout.store)
        if options.no_verify:
            lead_to("verify", image)
            return 0
        if not options.force and build.is_verified:
            inputs.progress.say(f"verified already; report: {build.report}")
            return _lead_to_publish(checkout, image)
        return _verify(checkout, build, lock, builder)


def _fetch(checkout: Checkout, options: BakeOptions) -> int:
    image = options.image
    with workspace.image_lock(checkout.root, image, wait=options.wait):
        inputs = _inputs(checkout, "bake", fetched(checkout, image, relock=options.relock))
        path = packer_variables.write(inputs, _packer_account(checkout, inputs.lock))
    inputs.progress.say(
        f"for Packer: {path}"
        if path
        else "nothing for Packer: the bake compiles what the store lacks; fetch again after it"
    )
    lead_to("bake", image)
    return 0


def _packer_account(checkout: Checkout, lock: Lock) -> dict[str, str]:
    publish = checkout.definition(lock.image).publish
    placement = {"region": publish.regions[0]} if publish else {}
    declared_type = publish.launch_template.instance_type if publish else None
    return {**placement, "instance_type": declared_type or ec2.instance_type(lock)}


def _inputs(checkout: Checkout, stage: str, locked: tuple[Lock, str]) -> BakeInputs:
    lock, digest = locked
    progress = checkout.progress(stage, lock.image)
    return BakeInputs(checkout.root, lock, digest, checkout.store, progress)


def _lock_to_bake(
    checkout: Checkout, options: BakeOptions, builder_of: Callable[[Lock], Builder]
) -> tuple[Lock, str]:
    """Return the lock to bake, with its files in the store if there is no build of it yet."""
    image = options.image
    # Checking that the store has all files takes minutes, so an existing build skips it.
    if not options.force and lockfile.path_of(checkout.root, image).exists():
        lock, digest = lint.committed(checkout.root, checkout.definition(image))
        build = checkout.builds(image).build(digest[: lockfile.ID_LENGTH])
        if bake.exists(build, builder_of(lock)):
            return lock, digest
    return fetched(checkout, image, relock=options.relock)


def _ec2_builder(checkout: Checkout, lock: Lock, region: str | None) -> Ec2Builder:
    definition = checkout.definition(lock.image)
    publish = channels.publish_section(definition)
    region = region or publish.regions[0]
    session.check_regions([region])
    # `golden sweep` looks in noted regions for what a killed run left.
    workspace.note_region(checkout.root, lock.image, region)
    instance_type = publish.launch_template.instance_type or ec2.instance_type(lock)
    return Ec2Builder(
        checkout.root,
        checkout.account(definition),
        region,
        instance_type,
        publish.kms_key or "",
        tuple(publish.subnets),
    )


def _timing_name(stage: str, builder: Builder) -> str:
    """Return the name under which timings are kept: an instance takes other times than this
    machine."""
    return stage if builder.kind is BuilderKind.LOCAL else f"{stage}-{builder.kind.value}"


def _verify(checkout: Checkout, build: BuildFolder, lock: Lock, builder: Builder) -> int:
    progress = checkout.progress(_timing_name("verify", builder), lock.image)
    record = verify.run(checkout.root, build, lock, progress, builder)
    progress.say(f"report: {report.written(build)}")
    ami = build.read_bake().ami
    progress.say(f"AMI:    {ami.id} in {ami.region}" if ami else f"disk:   {build.disk}")
    progress.say(f"{record.verdict}: {verify.summary(record)}")
    if record.verdict is not Verdict.VERIFIED:
        raise verify.failure(record, build)
    return _lead_to_publish(checkout, lock.image)


def _lead_to_publish(checkout: Checkout, image: str) -> int:
    if checkout.definition(image).publish:
        lead_to("publish", image)
    return 0


def cmd_verify(checkout: Checkout, image: ImageName, *, wait: Wait = False) -> int:
    """Boot the newest disk of the image's lock as if on EC2 and check it; an AMI is launched."""
    lock, build = checkout.baked(image)
    with workspace.image_lock(checkout.root, image, wait=wait):
        ami = build.read_bake().ami
        builder = _ec2_builder(checkout, lock, ami.region) if ami else LocalBuilder(checkout.root)
        return _verify(checkout, build, lock, builder)


def cmd_container(checkout: Checkout, image: ImageName, *, wait: Wait = False) -> int:
    """Make a container image of the lock: frameworks, CUDA and tools, without kernel and driver."""
    definition = checkout.definition(image)
    inputs = _inputs(checkout, "container", lint.committed(checkout.root, definition))
    build, progress = inputs.build, inputs.progress
    key = provenance.demanded(checkout.root, definition, checkout.account(definition))
    with workspace.image_lock(checkout.root, image, wait=wait):
        record = container_image.run(inputs, build, key)
    for layer in record.layers:
        progress.say(f"{layer.name:<10} {size(layer.bytes)}  sha256:{layer.digest[:12]}")
    progress.say(f"image: {build.layout}, {size(record.bytes)}, sha256:{record.digest}")
    if build.is_baked:
        report.tell(build, progress)
    return 0


def cmd_shell(checkout: Checkout, image: ImageName) -> int:
    """Boot the newest verified disk and open an SSH session in it; changes are thrown away."""
    return LocalBuilder(checkout.root).shell(image)


def cmd_reproduce(checkout: Checkout, image: ImageName) -> int:
    """Bake the lock twice from nothing and compare the disks byte for byte."""
    locked = lint.committed(checkout.root, checkout.definition(image))
    builder = LocalBuilder(checkout.root)
    builder.check_host()
    inputs = _inputs(checkout, "reproduce", locked)

    def bake_once(work: Path, layers: Path) -> BakeRecord:
        return bake.bake(replace(inputs, own_layers=layers), builder, work)

    with (
        workspace.image_lock(checkout.root, image),
        workspace.scratch_in(checkout.builds(image).path, "reproduce") as folder,
    ):
        print(reproduce.run(bake_once, folder))
    return 0


class ContainerAction(StrEnum):
    """What is done with a container."""

    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, kw_only=True)
class ContainerOptions:
    """The arguments and options of `golden molecule-container`."""

    action: ContainerAction
    name: str
    image: Annotated[
        str, typer.Option("--image", metavar="IMAGE", help="whose packages it has")
    ] = "debian-13-ml-cpu"
    role: Annotated[
        str,
        typer.Option(
            "--role", metavar="ROLE", help="start from the layers that a bake has below this role"
        ),
    ] = ""
    tools: Annotated[
        bool, typer.Option("--tools", help="have what compiles the driver among the packages")
    ] = False


def cmd_molecule_container(checkout: Checkout, options: ContainerOptions) -> int:
    """Start or stop the throw-away container of a Molecule scenario."""
    if options.action is ContainerAction.UP:
        locked = lint.committed(checkout.root, checkout.definition(options.image))
        inputs = _inputs(checkout, "molecule", locked)
        instance = molecule.up(inputs, options.name, role=options.role, tools=options.tools)
        print(records.canonical(instance.model_dump(mode="json")))
    else:
        molecule.down(options.name, checkout.store)
    return 0
