"""The `publish` stage: a verified disk becomes an AMI in every region, and then, last, what others
launch by.

Three phases, each in all regions before the next begins: AMIs (available, read back, signed), the
build's record and `candidate`, then `latest` and the launch template's default; where one of the
last two fails in a region, it is taken back in all. Every step looks first and does what is
missing, so a run that failed or was killed is continued by the same command.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import TypeVar

from goldenami.aws import encryption, images, tags
from goldenami.aws.calls import wait_for
from goldenami.aws.channels import channels, pointers
from goldenami.aws.channels.channels import RestorePoint
from goldenami.aws.channels.evidence import Judge
from goldenami.aws.channels.lease import BUILD, LIFE_S, Lease, hold_leases
from goldenami.aws.channels.ledger import Channel, Ledger
from goldenami.aws.channels.pointers import Version
from goldenami.aws.images import Image
from goldenami.aws.inventory.topology import AmiState
from goldenami.aws.regions import all_or_none, for_each_region
from goldenami.aws.session import Account
from goldenami.aws.snapshots import ebs, journal
from goldenami.core import clock, records
from goldenami.core.errors import Busy, StageFailed
from goldenami.core.terminal.progress import Progress
from goldenami.core.worker_pool import Budget
from goldenami.model.builds.disk_blocks import BlockMap
from goldenami.model.definitions.definition import Definition
from goldenami.release.publish import attesting, publish_plan, release_gate, upload_plan
from goldenami.release.publish.attesting import Signs
from goldenami.release.publish.publish_records import (
    Published,
    PublishPlan,
    PublishRecord,
    RegionPublishPlan,
)
from goldenami.release.publish.release_gate import VerifiedBuild

SNAPSHOT_LIFE = timedelta(days=2)
"""An unfinished upload may be continued the next day; after that `golden sweep` removes its
snapshot."""
READ_BACK_S, READ_BACK_POLL_S = 60.0, 2.0

T = TypeVar("T")


def prepare(
    account: Account, definition: Definition, build: VerifiedBuild, progress: Progress,
    judge: Judge, signs: Signs | None = None, *,
    accept_untested_gpu: bool = False,
) -> PublishPlan:
    """The plan. Nothing in the account is changed."""
    account = account.with_short_timeouts()
    with progress.step("look at the regions"):
        plan = publish_plan.make(account, definition, build, signs, judge,
                                 accept_untested_gpu=accept_untested_gpu)
        plan = publish_plan.with_encryption(plan, upload_plan.encryptions_of(
            account, [planned.region for planned in plan.regions if planned.ami is None],
            channels.publish_section(definition).kms_key, plan.settings.share_with))
        upload_plan.check_shares(account, plan)
    lacking = {planned.region: planned.encryption for planned in plan.regions
               if planned.encryption is not None and planned.copy_of is None}
    if lacking:
        with progress.step("list the disk's blocks"):
            blocks = release_gate.listed_blocks(build)
        uploads = upload_plan.make(account, build, blocks, lacking)
        plan = upload_plan.with_transfers(account, plan, uploads,
                                          channels.publish_section(definition).transfer)
    return plan


def _candidates(amis: Mapping[str, Image]) -> dict[str, Published]:
    """What the record says of regions whose `latest` stays."""
    return {region: Published(ami=image.ami, snapshot=image.snapshot,
                              channels=(Channel.CANDIDATE.value,))
            for region, image in amis.items()}


def is_recorded(build: VerifiedBuild, plan: PublishPlan) -> bool:
    """Whether there is nothing to do at all: the account has it, and the build's record says so."""
    return plan.is_done and build.folder.publish.exists()


def execute(
    account: Account, definition: Definition, build: VerifiedBuild, plan: PublishPlan,
    progress: Progress, *,
    wait_s: float = 0.0, signs: Signs | None = None,
) -> PublishRecord:
    """Do what the plan says and write publish.json. Pointers move when every region has its AMI,
    and not before.

    AMIs are made under a lease on the build: two runs that make the same one would hinder each
    other. The image's own lease is held only while pointers move, so that a rollback need not wait
    for an upload. `wait_s` is how long another's leases are waited for, in seconds.
    """
    steps = _RegionSteps(account, definition, build, plan, progress)
    regions = list(steps.plans)
    ledgers = channels.read_ledgers(account, plan.image, regions).require_all(hint=steps.continues)
    steps.phase(lambda region: steps.check(region, ledgers[region]), "nothing is changed")
    with hold_leases(account, f"{plan.image}{BUILD}{plan.build_id}", regions, wait_s=wait_s):
        with progress.step("AMIs"):
            amis = steps.make_images()
        if signs is not None and (unsigned := [planned.region for planned in plan.regions
                                               if planned.sign]):
            with progress.step("provenance"):
                steps.phase(lambda region: attesting.sign(
                    account, region, plan.image, plan.build_id, amis[region], signs),
                            "no pointer has moved", unsigned)
        with hold_leases(account, plan.image, regions, wait_s=max(wait_s, LIFE_S)) as leases:
            steps.phase(lambda region: steps.check(region, leases[region].ledger, amis[region]),
                        "no pointer has moved")
            published = steps.pointers(leases, amis)
    record = PublishRecord(
        image=plan.image, build_id=plan.build_id, lock_sha256=build.bake.lock_sha256,
        account=plan.account,
        disk_sha256=build.bake.disk_sha256, gpu=plan.gpu, published_at=clock.stamp(),
        by=tags.owner(),
        held_back=plan.held_back, regions=published)
    records.write(build.folder.publish, record)
    return record


class _RegionSteps:
    """The steps of a publish in one region, which share the plan."""

    def __init__(
        self, account: Account, definition: Definition, build: VerifiedBuild, plan: PublishPlan,
        progress: Progress,
    ) -> None:
        self.account, self.definition, self.build, self.plan, self.progress = (
            account,
            definition,
            build,
            plan,
            progress,
        )
        self.plans = {planned.region: planned for planned in plan.regions}
        self.versions: dict[str, Version] = {}
        self.amis: dict[str, Image] = {}
        self.budget = Budget(ebs.IN_FLIGHT)
        self.continues = f"`golden publish {plan.image} --build {plan.build_id}` continues"

    def phase(
        self, step: Callable[[str], T], what: str, regions: Iterable[str] | None = None
    ) -> dict[str, T]:
        """`step` in all regions (or in these), or one error that says what is where."""
        names = self.plans if regions is None else regions
        return for_each_region(names, step).require_all(what, self.continues)

    def make_images(self) -> dict[str, Image]:
        """The AMI of every region: first those that are copied from none of this publish, then the
        copies of these."""
        waiting = [region for region, planned in self.plans.items() if planned.copy_of
                   and not planned.copy_of.ami]
        what = "no pointer has moved"
        self.amis = self.phase(self.image, what,
                               [region for region in self.plans if region not in waiting])
        return {**self.amis, **self.phase(self.image, what, waiting)}

    def check(self, region: str, ledger: Ledger, image: Image | None = None) -> None:
        """Stop where the region's ledger is not what the plan was made of, or its AMI went
        meanwhile."""
        publish_plan.check_forward(region, ledger, self.plan)
        publish_plan.check_unmoved(self.plans[region], self.plan, ledger)
        if image is not None:
            images.wait_available(self.account.ec2(region), image.ami)

    def pointers(
        self, leases: Mapping[str, Lease], amis: Mapping[str, Image]
    ) -> dict[str, Published]:
        """Move `candidate`, then, unless it is held back, `latest`, and ask the groups to
        follow."""
        with self.progress.step("candidate"):
            self.move(self.candidate, leases, amis, Channel.CANDIDATE)
        if self.plan.held_back:
            return _candidates(amis)
        with self.progress.step("latest"):
            published = self.move(self.latest, leases, amis, Channel.LATEST)
        self.phase(self.follow, "`latest` has moved, but not every group follows")
        return published

    def move(
        self, step: Callable[[str, Lease, Image], T], leases: Mapping[str, Lease],
        amis: Mapping[str, Image],
        channel: Channel,
    ) -> dict[str, T]:
        """Move a channel by `step` in all regions or in none."""
        points = {region: self._restore_point(planned, leases[region].ledger, channel)
                  for region, planned in self.plans.items()}
        return all_or_none(
            self.plans, lambda region: step(region, leases[region], amis[region]),
            lambda region: channels.restore(self.account, region, self.definition, leases[region],
                                            points[region]),
            self.continues)

    def _restore_point(
        self, planned: RegionPublishPlan, ledger: Ledger, channel: Channel
    ) -> RestorePoint:
        template = planned.template if channel is Channel.LATEST else None
        move = planned.move_of(channel)
        return RestorePoint(ledger=ledger, amis={channel: move.before if move else planned.ami},
                            moves_template=template is not None,
                            template_version=template.before if template else None)

    # --- the AMI ----------------------------------------------------------------------------------------------------

    def image(self, region: str) -> Image:
        """The region's AMI: made if it is not there, set up, waited for, read back."""
        ec2, planned = self.account.ec2(region), self.plans[region]
        if planned.ami:
            existing = images.get(ec2, [planned.ami]).get(planned.ami)
            if existing is None or existing.state == AmiState.DISABLED:
                state = existing.state if existing else "gone"
                raise Busy(f"{planned.ami} in {region} is {state} since the plan was made",
                           hint="run again: the plan is made anew")
            if not planned.settings and not planned.record_build:
                return existing
        ami = planned.ami or self._new_ami(planned)
        image = images.wait_available(ec2, ami, lambda text: self.progress.say(f"{region}: {text}"))
        images.apply(ec2, image, self.plan.spec, self.plan.settings)
        images.clear_temporary_tags(ec2, image)
        self._read_back(planned, ami)
        self.progress.say(f"{region}: {ami} is available and as asked for")
        return image

    def _new_ami(self, planned: RegionPublishPlan) -> str:
        ec2 = self.account.ec2(planned.region)
        if source := planned.copy_of:
            ami = source.ami or self.amis[source.region].ami
            return images.copy(ec2, self.plan.spec, source.region, ami, self._asked_key(planned))
        return images.register(ec2, self.plan.spec, self._upload(planned))

    def _upload(self, planned: RegionPublishPlan) -> str:
        region, upload, key = planned.region, planned.upload, self._asked_key(planned)
        assert upload is not None  # the plan has one wherever there is no AMI
        builds, own = self.build.folder.image, self.build.folder.path
        path = builds.build(upload.parent or "").blocks
        uploads = sorted(builds.path.glob(f"*/upload/{region}"))
        for text in journal.unfinished(upload for upload in uploads if own not in upload.parents):
            self.progress.say(f"{region}: {text}")
        parent = (
            ebs.Parent(upload.parent_snapshot, BlockMap.open(path))
            if upload.parent_snapshot
            else None
        )
        with self.progress.transfer(region, upload.bytes) as on_bytes:
            return ebs.Upload(
                self.account.ebs(region), self.account.ec2(region), self.build.disk,
                BlockMap.open(self.build.folder.blocks),
                journal=own / "upload" / region, parent=parent,
                tags={**self.plan.spec.tags, **tags.temporary(SNAPSHOT_LIFE)},
                description=self.plan.spec.name,
                kms_key=key or "", budget=self.budget,
                say=lambda text: self.progress.say(f"{region}: {text}"), on_bytes=on_bytes).run()

    def _read_back(self, planned: RegionPublishPlan, ami: str) -> None:
        """StageFailed naming every attribute of the AMI or its snapshot that is not as asked for.

        EC2's answers may lag behind its changes ("Eventual consistency"), so it is asked again for
        READ_BACK_S.
        """
        wrong: list[str] = []

        def right() -> bool | None:
            wrong[:] = self._differences(planned, ami)
            return not wrong or None

        if not wait_for(right, limit_s=READ_BACK_S, pauses=READ_BACK_POLL_S):
            raise StageFailed(f"{ami} is not what was asked for: {wrong[0]}", tail="\n".join(wrong),
                              hint="deregister it, if nobody needs it")

    def _differences(self, planned: RegionPublishPlan, ami: str) -> list[str]:
        ec2 = self.account.ec2(planned.region)
        image = images.get(ec2, [ami]).get(ami)
        if image is None:
            return [f"{ami} is gone"]
        return images.differences(image, self.plan.spec, self.plan.settings,
                                  images.accounts_shared_with(ec2, ami)) + \
            images.snapshot_differences(ec2, image, self.plan.spec, self._key(planned))

    def _asked_key(self, planned: RegionPublishPlan) -> str | None:
        """The ARN of the key that a new snapshot is asked for with; None: the account's default
        decides."""
        return planned.encryption.asked if planned.encryption else None

    def _key(self, planned: RegionPublishPlan) -> str | None:
        """The ARN of the key that the AMI's snapshot has to be encrypted by; None: it may have any,
        or none."""
        if planned.encryption:
            return planned.encryption.key
        return (
            encryption.key_arn(self.account.kms(planned.region), planned.kms_key)
            if planned.kms_key
            else None
        )

    # --- the pointers -----------------------------------------------------------------------------------------------

    def candidate(self, region: str, lease: Lease, image: Image) -> None:
        """The build's own parameter, then `candidate`."""
        if self.plans[region].record_build:
            pointers.record_build(self.account.ssm(region),
                                  pointers.build_name(self.plan.image, self.plan.build_id),
                                  image.ami)
        self._move(region, Channel.CANDIDATE, lease, image)

    def latest(self, region: str, lease: Lease, image: Image) -> Published:
        """`latest`, then the template's default."""
        version = self._move(region, Channel.LATEST, lease, image)
        assert version is not None  # the ledger names `latest`
        self.versions[region] = version
        return Published(ami=image.ami, snapshot=image.snapshot, channels=tuple(Channel),
                         template=version.template, template_version=version.number)

    def _move(self, region: str, channel: Channel, lease: Lease, image: Image) -> Version | None:
        """Let a channel name the build: in the ledger, then all pointers by what it says."""
        entry = channels.new_entry(self.plan.build_id, image.ami, self.plan.baked_at, self.plan.gpu,
                                   lease)
        ledger = lease.ledger.moved(channel, entry).spread(self.plans)
        named = {each.build_id for each in (ledger.candidate, ledger.latest) if each}
        lease.record(ledger.withdraw(*({*self.plan.withdraw} - named)))
        return channels.follow_ledger(self.account, region, lease, self.definition,
                                      moving=[channel],
                                      others=channel is Channel.LATEST or bool(self.plan.held_back))

    def follow(self, region: str) -> None:
        """The groups that are to take the new version: only when it is the default everywhere."""
        channels.refresh_groups(self.account, self.definition, region, self.plans[region].refresh,
                                self.versions[region], self.progress)
