"""The `publish` stage: a verified disk becomes an AMI in every region, and then the pointers move
to it.

There are two phases, and each ends in all regions before the next begins: first the AMIs
(available, read back, signed), then the build's record and the pointers. If pointers fail to move
in one region, they are taken back in all. Every step looks first and does only what is missing, so
the same command continues a run that failed or was killed.
"""

from __future__ import annotations

from collections.abc import Mapping

from goldenami.aws import images, tags
from goldenami.aws.channels import attestations, pointers
from goldenami.aws.channels.channels import ImageInAccount
from goldenami.aws.channels.lease import BUILD, LIFE_S, Lease, hold_leases
from goldenami.aws.channels.pointers import Version
from goldenami.aws.images import Image
from goldenami.aws.session import Account
from goldenami.core import clock, records
from goldenami.core.terminal.progress import Progress
from goldenami.image.provenance.provenance import Attestor
from goldenami.release.publish import channel_moves
from goldenami.release.publish.publish_records import (
    MovePlan,
    Published,
    PublishPlan,
    PublishRecord,
    RegionMove,
    RegionPublishPlan,
)
from goldenami.release.publish.region_images import RegionImages
from goldenami.release.publish.release_gate import VerifiedBuild


def is_recorded(build: VerifiedBuild, plan: PublishPlan) -> bool:
    """Whether nothing is left to do, and the build's folder has the record of its publish."""
    return plan.is_done and build.folder.publish.exists()


def execute(
    image: ImageInAccount,
    build: VerifiedBuild,
    plan: PublishPlan,
    progress: Progress,
    *,
    wait_s: float = 0.0,
) -> PublishRecord:
    """Execute the plan, write publish.json and return its record. No pointer moves before every
    region has its AMI. `wait_s` is how many seconds to wait for leases that another run holds."""
    account, signs = image.account, build.signs
    making = RegionImages(account, build, plan, progress)
    regions = list(making.plans)
    ledgers = image.read_ledgers(regions).require_all(hint=making.continues)
    for planned in plan.regions:
        channel_moves.check_ledger(
            plan.image, planned.region, planned.ledger, ledgers[planned.region]
        )
    # A lease on the build, as two runs that make the same AMIs would hinder each other.
    with hold_leases(account, f"{plan.image}{BUILD}{plan.build_id}", regions, wait_s=wait_s):
        with progress.step("AMIs"):
            amis = making.make_all()
        unsigned = [planned.region for planned in plan.regions if planned.sign]
        if signs is not None and unsigned:
            with progress.step("provenance"):
                making.phase(
                    lambda region: _sign(account, plan, region, amis[region], signs), unsigned
                )
        # The image's own lease is held only now, so that a rollback need not wait for an upload.
        with hold_leases(account, plan.image, regions, wait_s=max(wait_s, LIFE_S)) as leases:
            making.phase(
                lambda region: _record(
                    account, plan, making.plans[region], leases[region], amis[region]
                )
            )
            with progress.step(plan.channels[-1]):
                versions = channel_moves.move_all(
                    image, _moves(plan, amis), leases, progress, making.continues
                )
    record = PublishRecord(
        image=plan.image,
        build_id=plan.build_id,
        lock_sha256=build.bake.lock_sha256,
        account=plan.account,
        disk_sha256=build.bake.disk_sha256,
        gpu=plan.gpu,
        published_at=clock.stamp(),
        by=tags.owner(),
        held_back=plan.held_back,
        regions={region: _published(plan, ami, versions[region]) for region, ami in amis.items()},
    )
    records.write(build.folder.publish, record)
    return record


def _sign(account: Account, plan: PublishPlan, region: str, ami: Image, signs: Attestor) -> None:
    attestations.write(
        account.ssm(region),
        account.ec2(region),
        attestations.parameters(plan.image, plan.build_id),
        ami,
        signs.attest(region, ami),
    )


def _record(
    account: Account, plan: PublishPlan, planned: RegionPublishPlan, lease: Lease, ami: Image
) -> None:
    """Record the build's AMI in its own parameter. Raises an error if the region's ledger has
    changed since the plan was made, or the AMI is gone."""
    region = planned.region
    channel_moves.check_ledger(plan.image, region, planned.ledger, lease.ledger)
    images.wait_available(account.ec2(region), ami.ami)
    if planned.record_build:
        pointers.record_build(
            account.ssm(region), pointers.build_name(plan.image, plan.build_id), ami.ami
        )


def _moves(plan: PublishPlan, amis: Mapping[str, Image]) -> MovePlan:
    moves = []
    for planned in plan.regions:
        before = {channel: planned.moves.get(channel, planned.ami) for channel in plan.channels}
        move = RegionMove(
            region=planned.region,
            ami=amis[planned.region].ami,
            baked_at=plan.baked_at,
            gpu=plan.gpu,
            ledger=planned.ledger,
            channels=plan.channels,
            before=before,
            template_before=planned.template,
            refresh=planned.refresh,
        )
        moves.append(move)
    return MovePlan(
        image=plan.image,
        build_id=plan.build_id,
        account=plan.account,
        withdraw=plan.withdraw,
        regions=tuple(moves),
    )


def _published(plan: PublishPlan, image: Image, version: Version | None) -> Published:
    published = Published(ami=image.ami, snapshot=image.snapshot, channels=plan.channels)
    if version is None or plan.held_back:
        return published
    return published.model_copy(
        update={"template": version.template, "template_version": version.number}
    )
