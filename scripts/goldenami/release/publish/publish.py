"""The `publish` stage: a verified disk becomes an AMI in every region, and then the pointers move
to it.

There are two phases, and each ends in all regions before the next begins: first the AMIs
(available, read back, signed), then the build's record and the pointers. If pointers fail to move
in one region, they are taken back in all. Every step looks first and does only what is missing, so
the same command continues a run that failed or was killed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import TypeVar

from goldenami.aws import images, tags
from goldenami.aws.calls import wait_for
from goldenami.aws.channels import attestations, pointers
from goldenami.aws.channels.channels import ImageInAccount
from goldenami.aws.channels.lease import BUILD, LIFE_S, Lease, hold_leases
from goldenami.aws.channels.pointers import Version
from goldenami.aws.images import AmiState, Image
from goldenami.aws.regions import for_each_region
from goldenami.aws.session import Account
from goldenami.aws.snapshots import ebs, encryption
from goldenami.core import clock, records
from goldenami.core.errors import Busy, StageFailed
from goldenami.core.terminal.progress import Progress
from goldenami.core.worker_pool import Budget
from goldenami.image.provenance.provenance import Attestor
from goldenami.model.builds.disk_blocks import BlockMap
from goldenami.release.publish import channel_moves
from goldenami.release.publish.publish_records import (
    MovePlan,
    Published,
    PublishPlan,
    PublishRecord,
    RegionMove,
    RegionPublishPlan,
)
from goldenami.release.publish.release_gate import VerifiedBuild

SNAPSHOT_LIFE = timedelta(days=2)
"""How long the snapshot of an unfinished upload is kept: the upload may be continued the next day.
Afterwards `golden sweep` removes the snapshot."""
READ_BACK_S, READ_BACK_POLL_S = 60.0, 2.0
"""Seconds within which an AMI has to read back as specified, and between polls."""

T = TypeVar("T")


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
    steps = _RegionSteps(account, build, plan, progress)
    regions = list(steps.plans)
    ledgers = image.read_ledgers(regions).require_all(hint=steps.continues)
    for planned in plan.regions:
        channel_moves.check_ledger(
            plan.image, planned.region, planned.ledger, ledgers[planned.region]
        )
    # A lease on the build, as two runs that make the same AMIs would hinder each other.
    with hold_leases(account, f"{plan.image}{BUILD}{plan.build_id}", regions, wait_s=wait_s):
        with progress.step("AMIs"):
            amis = steps.make_images()
        if signs is not None and (
            unsigned := [planned.region for planned in plan.regions if planned.sign]
        ):
            with progress.step("provenance"):
                steps.phase(lambda region: steps.sign(region, amis[region], signs), unsigned)
        # The image's own lease is held only now, so that a rollback need not wait for an upload.
        with hold_leases(account, plan.image, regions, wait_s=max(wait_s, LIFE_S)) as leases:
            steps.phase(lambda region: steps.record(region, leases[region], amis[region]))
            with progress.step(plan.channels[-1]):
                versions = channel_moves.move_all(
                    image, _moves(plan, amis), leases, progress, steps.continues
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


def _moves(plan: PublishPlan, amis: Mapping[str, Image]) -> MovePlan:
    return MovePlan(
        image=plan.image,
        build_id=plan.build_id,
        account=plan.account,
        withdraw=plan.withdraw,
        regions=tuple(
            RegionMove(
                region=planned.region,
                ami=amis[planned.region].ami,
                baked_at=plan.baked_at,
                gpu=plan.gpu,
                ledger=planned.ledger,
                channels=plan.channels,
                before={
                    channel: planned.moves.get(channel, planned.ami) for channel in plan.channels
                },
                template_before=planned.template,
                refresh=planned.refresh,
            )
            for planned in plan.regions
        ),
    )


def _published(plan: PublishPlan, image: Image, version: Version | None) -> Published:
    published = Published(ami=image.ami, snapshot=image.snapshot, channels=plan.channels)
    if version is None or plan.held_back:
        return published
    return published.model_copy(
        update={"template": version.template, "template_version": version.number}
    )


class _RegionSteps:
    """The steps of a publish in single regions, and what they share."""

    def __init__(
        self,
        account: Account,
        build: VerifiedBuild,
        plan: PublishPlan,
        progress: Progress,
    ) -> None:
        self.account, self.build, self.plan, self.progress = account, build, plan, progress
        self.plans = {planned.region: planned for planned in plan.regions}
        self.amis: dict[str, Image] = {}
        self.budget = Budget(ebs.IN_FLIGHT)
        self.continues = f"`golden publish {plan.image} --build {plan.build_id}` continues"

    def phase(self, step: Callable[[str], T], regions: Iterable[str] | None = None) -> dict[str, T]:
        """Run a step in `regions`, by default in all. Raises one error if it fails in any."""
        names = self.plans if regions is None else regions
        return for_each_region(names, step).require_all("no pointer has moved", self.continues)

    def make_images(self) -> dict[str, Image]:
        """Make the AMI of every region: first those that need no other AMI of this publish, then
        the copies of these."""
        waiting = [
            region
            for region, planned in self.plans.items()
            if planned.copy_of and not planned.copy_of.ami
        ]
        self.amis = self.phase(
            self.image, [region for region in self.plans if region not in waiting]
        )
        return {**self.amis, **self.phase(self.image, waiting)}

    def sign(self, region: str, image: Image, signs: Attestor) -> None:
        attestations.write(
            self.account.ssm(region),
            self.account.ec2(region),
            attestations.parameter(self.plan.image, self.plan.build_id),
            image,
            signs.attest(region, image),
        )

    def record(self, region: str, lease: Lease, image: Image) -> None:
        """Record the build's AMI in its own parameter. Raises an error if the region's ledger has
        changed since the plan was made, or the AMI is gone."""
        planned = self.plans[region]
        channel_moves.check_ledger(self.plan.image, region, planned.ledger, lease.ledger)
        images.wait_available(self.account.ec2(region), image.ami)
        if planned.record_build:
            pointers.record_build(
                self.account.ssm(region),
                pointers.build_name(self.plan.image, self.plan.build_id),
                image.ami,
            )

    def image(self, region: str) -> Image:
        """Make the region's AMI if it does not exist, configure it, and read it back."""
        ec2, planned = self.account.ec2(region), self.plans[region]
        if planned.ami:
            existing = images.get(ec2, [planned.ami]).get(planned.ami)
            if existing is None or existing.state == AmiState.DISABLED:
                state = existing.state if existing else "gone"
                raise Busy(
                    f"{planned.ami} in {region} is {state} since the plan was made",
                    hint="run again: the plan is made anew",
                )
            if not planned.settings and not planned.record_build:
                return existing
        ami = planned.ami or self._new_ami(planned)
        image = images.wait_available(ec2, ami)
        images.apply(ec2, image, self.plan.spec, self.plan.settings)
        images.clear_temporary_tags(ec2, image)
        self._read_back(planned, ami)
        self.progress.say(f"{region}: {ami} is available and as asked for")
        return image

    def _new_ami(self, planned: RegionPublishPlan) -> str:
        # None lets the account's default decide.
        key = planned.encryption.asked if planned.encryption else None
        ec2 = self.account.ec2(planned.region)
        if source := planned.copy_of:
            ami = source.ami or self.amis[source.region].ami
            return images.copy(ec2, self.plan.spec, source.region, ami, key)
        return images.register(ec2, self.plan.spec, self._upload(planned, key))

    def _upload(self, planned: RegionPublishPlan, key: str | None) -> str:
        region, upload = planned.region, planned.upload
        assert upload is not None  # the plan has one wherever there is no AMI
        parent = None
        if upload.parent and upload.parent_snapshot:
            listed = self.build.folder.image.build(upload.parent).blocks
            parent = ebs.Parent(upload.parent_snapshot, BlockMap.open(listed))
        with self.progress.transfer(region, upload.bytes) as on_bytes:
            return ebs.Upload(
                self.account.ebs(region),
                self.account.ec2(region),
                self.build.disk,
                BlockMap.open(self.build.folder.blocks),
                journal=self.build.folder.path / "upload" / region,
                parent=parent,
                tags={**self.plan.spec.tags, **tags.temporary(SNAPSHOT_LIFE)},
                description=self.plan.spec.name,
                kms_key=key or "",
                budget=self.budget,
                say=lambda text: self.progress.say(f"{region}: {text}"),
                on_bytes=on_bytes,
            ).run()

    def _read_back(self, planned: RegionPublishPlan, ami: str) -> None:
        """Raise StageFailed, naming each property of the AMI or its snapshot that differs from the
        specification."""
        # Repeated for READ_BACK_S, as EC2's answers may lag behind ("Eventual consistency").
        wrong: list[str] = []

        def right() -> bool | None:
            wrong[:] = self._differences(planned, ami)
            return not wrong or None

        if not wait_for(right, limit_s=READ_BACK_S, pauses=READ_BACK_POLL_S):
            raise StageFailed(
                f"{ami} is not what was asked for: {wrong[0]}",
                tail="\n".join(wrong),
                hint=f"{images.removal_command(planned.region, ami)} removes it, if "
                "nobody needs it; then run again",
            )

    def _differences(self, planned: RegionPublishPlan, ami: str) -> list[str]:
        ec2 = self.account.ec2(planned.region)
        image = images.get(ec2, [ami]).get(ami)
        if image is None:
            return [f"{ami} is gone"]
        return images.differences(
            image, self.plan.spec, self.plan.settings, images.accounts_shared_with(ec2, ami)
        ) + images.snapshot_differences(ec2, image, self.plan.spec, self._key(planned))

    def _key(self, planned: RegionPublishPlan) -> str | None:
        """The ARN of the key that has to encrypt the AMI's snapshot, or None if that is not
        checked."""
        if planned.encryption:
            return planned.encryption.key
        if self.plan.kms_key is None:
            return None
        return encryption.find_key(self.account.kms(planned.region), self.plan.kms_key).arn
