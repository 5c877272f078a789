"""The inputs and the builder of a bake, as the commands on builds need them."""

from __future__ import annotations

from goldenami.aws import session
from goldenami.aws.channels import channels
from goldenami.commands.checkout import Checkout
from goldenami.image.bake.bake_inputs import BakeInputs
from goldenami.image.builders import ec2
from goldenami.image.builders.builder import Builder
from goldenami.image.builders.ec2 import Ec2Builder
from goldenami.image.builders.local import LocalBuilder
from goldenami.local.host import workspace
from goldenami.model.builds.build_records import BuilderKind
from goldenami.model.locked.lockfile import Lock


def inputs(checkout: Checkout, stage: str, locked: tuple[Lock, str]) -> BakeInputs:
    """The inputs of a bake of the lock, which comes with its SHA-256."""
    lock, digest = locked
    progress = checkout.progress(stage, lock.image)
    return BakeInputs(checkout.root, lock, digest, checkout.store, progress)


def builder_of(
    checkout: Checkout, lock: Lock, kind: BuilderKind, region: str | None = None
) -> Builder:
    """The builder of a kind. `region` is that of a builder on EC2, by default the first that the
    image is published to."""
    if kind is BuilderKind.EC2:
        return ec2_builder(checkout, lock, region)
    return LocalBuilder(checkout.root)


def ec2_builder(checkout: Checkout, lock: Lock, region: str | None) -> Ec2Builder:
    """The builder on EC2 in `region`, which is noted for `golden sweep`."""
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


def timing_name(stage: str, builder: Builder) -> str:
    """Return the name under which timings are kept: an instance takes other times than this
    machine."""
    if builder.kind is BuilderKind.LOCAL:
        return stage
    return f"{stage}-{builder.kind.value}"
