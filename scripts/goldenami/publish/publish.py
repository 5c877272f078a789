"""The `publish` stage: a proven disk becomes an AMI in every region, and then, last, what others launch by.

Three phases, each in all regions before the next begins: AMIs (available, read back), the build's record and
`candidate`, then `latest` and the launch template's default; where one of the last two fails in a region, it is taken
back in all. Every step looks first and does what is missing, so a run that failed or was killed is continued by the
same command.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TypeVar

from goldenami.aws import images, tags
from goldenami.aws.channels import channels, lease, pointers
from goldenami.aws.channels.lease import Lease
from goldenami.aws.channels.ledger import Channel, Ledger
from goldenami.aws.channels.pointers import Version
from goldenami.aws.images import Image
from goldenami.aws.regions import all_or_none, each
from goldenami.aws.session import Account
from goldenami.aws.snapshots import ebs
from goldenami.aws.snapshots.blocks import BlockMap, scan
from goldenami.core import clock, records
from goldenami.core.errors import Busy, StageFailed
from goldenami.core.progress import Progress
from goldenami.core.wait import wait_until
from goldenami.model.build_records import PUBLISH_FILE
from goldenami.model.definition import Definition
from goldenami.publish import publish_plan, release_gate
from goldenami.publish.publish_plan import PublishOptions
from goldenami.publish.publish_records import (
    PLAN_FILE,
    Published,
    PublishPlan,
    PublishRecord,
    RegionPublishPlan,
    Upload,
)
from goldenami.publish.release_gate import VerifiedBuild

BLOCKS_FILE = "disk.blocks"
"""The SHA-256 of each block of a build's disk: what its upload, and the next build's difference, are made from."""
SNAPSHOT_LIFE = timedelta(days=2)
"""An unfinished upload may be continued the next day; after that `golden sweep` removes its snapshot."""
READ_BACK_S, READ_BACK_POLL_S = 60.0, 2.0

T = TypeVar("T")


def prepare(
    account: Account, wanted: Definition, build: VerifiedBuild, options: PublishOptions, progress: Progress,
) -> PublishPlan:
    """The plan, also written to plan.json of the build's folder. Nothing in the account is changed."""
    with progress.step("look at the regions"):
        plan = publish_plan.make(account, wanted, build, options)
    lacking = [region for region in plan.regions if region.ami is None and region.copy_of is None]
    if lacking:
        with progress.step("read the disk"):
            release_gate.check_disk(build)
            blocks = _blocks(build)
        found = each((region.region for region in lacking),
                     lambda region: _upload_plan(account, region, build, blocks, wanted))
        plan = publish_plan.with_uploads(plan, found.all("nothing is changed", "then run again"))
    records.write(build.folder / PLAN_FILE, plan)
    return plan


def _blocks(build: VerifiedBuild) -> BlockMap:
    path = build.folder / BLOCKS_FILE
    return BlockMap.open(path) if path.exists() else scan(build.disk, path)


def _upload_plan(account: Account, region: str, build: VerifiedBuild, blocks: BlockMap, wanted: Definition) -> Upload:
    """What `region` would be sent: the difference to what its candidate or latest holds, where that can be told."""
    alias = channels.published(wanted).kms_key
    key = images.key_arn(account.kms(region), alias) if alias else None
    old, parent = _parent(account, region, build, key)
    planned = ebs.plan(blocks, parent)
    return Upload(blocks=planned.blocks, bytes=planned.bytes, parent=old, kms_arn=key,
                  parent_snapshot=parent.snapshot_id if parent else None)


def _parent(
    account: Account, region: str, build: VerifiedBuild, key: str | None,
) -> tuple[str | None, ebs.Parent | None]:
    """A build whose snapshot is in the region under the same key, and whose list of blocks is here."""
    names = [pointers.channel_name(build.bake.image, channel) for channel in Channel]
    ec2, amis = account.ec2(region), pointers.read(account.ssm(region), names)
    for image in images.get(ec2, amis.values()).values():
        old = image.tags.get(tags.BUILD_ID, "")
        path = build.folder.parent / old / BLOCKS_FILE
        if old and image.tags.get(tags.IMAGE) == build.bake.image and path.exists() and \
                (key is None or images.snapshot_key(ec2, image.snapshot) == key):
            return old, ebs.Parent(image.snapshot, BlockMap.open(path))
    return None, None


def _candidates(made: Mapping[str, Image]) -> dict[str, Published]:
    """What the record says of regions whose `latest` stays."""
    return {region: Published(ami=image.ami, snapshot=image.snapshot, channels=(Channel.CANDIDATE.value,))
            for region, image in made.items()}


def is_recorded(build: VerifiedBuild, plan: PublishPlan) -> bool:
    """Whether there is nothing to do at all: the account has it, and the build's record says so."""
    return plan.is_done and (build.folder / PUBLISH_FILE).exists()


def execute(
    account: Account, wanted: Definition, build: VerifiedBuild, plan: PublishPlan, progress: Progress,
) -> PublishRecord:
    """Do what the plan says and write publish.json. Pointers move when every region has its AMI, and not before."""
    work = _Work(account, wanted, build, plan, progress)
    with lease.held(account, plan.image, [region.region for region in plan.regions]) as leases:
        for name, held in leases.items():
            publish_plan.check_forward(name, held.ledger, plan)
        work.phase(lambda region: publish_plan.check_unmoved(account, work.regions[region], plan), "nothing is changed")
        with progress.step("AMIs"):
            made = work.phase(work.image, "no pointer has moved")
        with progress.step("candidate"):
            work.move(work.candidate, leases, made, Channel.CANDIDATE)
        published = _candidates(made)
        if not plan.held_back:
            with progress.step("latest"):
                published = work.move(work.latest, leases, made, Channel.LATEST)
            work.phase(work.follow, "`latest` has moved, but not every group follows")
    record = PublishRecord(
        image=plan.image, build_id=plan.build_id, lock_sha256=build.bake.lock_sha256, account=plan.account,
        disk_sha256=build.bake.disk_sha256, gpu=plan.gpu, published_at=clock.stamp(), by=tags.owner(),
        held_back=plan.held_back, regions=published)
    records.write(build.folder / PUBLISH_FILE, record)
    return record


class _Work:
    """The steps of one region, which share the plan."""

    def __init__(
        self, account: Account, wanted: Definition, build: VerifiedBuild, plan: PublishPlan, progress: Progress,
    ) -> None:
        self.account, self.wanted, self.build, self.plan, self.progress = account, wanted, build, plan, progress
        self.regions = {region.region: region for region in plan.regions}
        self.versions: dict[str, Version] = {}
        again = " --again" if plan.readmit else ""
        self.continues = f"`golden publish {plan.image} --build {plan.build_id}{again}` continues"

    def phase(self, step: Callable[[str], T], what: str) -> dict[str, T]:
        """`step` in all regions, or one error that says what is where."""
        return each(self.regions, step).all(what, self.continues)

    def move(
        self, step: Callable[[str, Lease, Image], T], leases: Mapping[str, Lease], made: Mapping[str, Image],
        channel: Channel,
    ) -> dict[str, T]:
        """Move a channel by `step` in all regions or in none."""
        former = {name: self._former(region, leases[name].ledger, channel) for name, region in self.regions.items()}
        return all_or_none(
            self.regions, lambda name: step(name, leases[name], made[name]),
            lambda name: channels.put_back(self.account, name, self.plan.image, leases[name], former[name]),
            self.continues)

    def _former(self, region: RegionPublishPlan, ledger: Ledger, channel: Channel) -> channels.RestorePoint:
        template = region.template if channel is Channel.LATEST else None
        return channels.RestorePoint(ledger=ledger, template=(template.before,) if template else None,
                                     amis={move.channel: move.before for move in region.moves
                                           if move.channel is channel})

    # --- the AMI ----------------------------------------------------------------------------------------------------

    def image(self, name: str) -> Image:
        """The region's AMI: made if it is not there, set up, waited for, read back."""
        ec2, region = self.account.ec2(name), self.regions[name]
        if region.ami:
            there = images.get(ec2, [region.ami]).get(region.ami)
            if there is None or there.state == images.State.DISABLED:
                raise Busy(f"{region.ami} in {name} is {there.state if there else 'gone'} since the plan was made",
                           hint="run again: the plan is made anew")
            if not region.settings and not region.record_build:
                return there
        ami = region.ami or self._made(region)
        image = images.wait_available(ec2, ami)
        images.apply(ec2, image, self.plan.settings)
        images.keep(ec2, image)
        self._read_back(region, ami)
        self.progress.say(f"{name}: {ami} is available and as asked for")
        return image

    def _made(self, region: RegionPublishPlan) -> str:
        ec2 = self.account.ec2(region.region)
        if source := region.copy_of:
            return images.copy(ec2, self.plan.spec, source.region, source.ami, self._key(region))
        return images.register(ec2, self.plan.spec, self._upload(region))

    def _upload(self, region: RegionPublishPlan) -> str:
        assert region.upload is not None  # the plan has one wherever there is no AMI
        path = self.build.folder.parent / (region.upload.parent or "") / BLOCKS_FILE
        parent = ebs.Parent(region.upload.parent_snapshot, BlockMap.open(path)) if region.upload.parent_snapshot \
            else None
        with self.progress.transfer(region.region, region.upload.bytes) as on_bytes:
            snapshot = ebs.upload(
                self.account.ebs(region.region), self.account.ec2(region.region), self.build.disk, _blocks(self.build),
                journal=self.build.folder / "upload" / region.region, parent=parent,
                tags={**self.plan.spec.tags, **tags.temporary(SNAPSHOT_LIFE),
                      **tags.of_blocks(region.upload.bytes, region.upload.parent_snapshot)},
                description=self.plan.spec.name,
                encryption=ebs.Encryption(region.upload.kms_arn) if region.upload.kms_arn else None,
                say=lambda text: self.progress.say(f"{region.region}: {text}"), on_bytes=on_bytes)
        return snapshot.id

    def _read_back(self, region: RegionPublishPlan, ami: str) -> None:
        """StageFailed naming every attribute of the AMI or its snapshot that is not as asked for.

        EC2's answers may lag behind its changes ("Eventual consistency"), so it is asked again for READ_BACK_S.
        """
        wrong: list[str] = []

        def right() -> bool | None:
            wrong[:] = self._differences(region, ami)
            return not wrong or None

        if not wait_until(right, READ_BACK_S, READ_BACK_POLL_S):
            raise StageFailed(f"{ami} is not what was asked for: {wrong[0]}", tail="\n".join(wrong),
                              hint="deregister it, if nobody needs it")

    def _differences(self, region: RegionPublishPlan, ami: str) -> list[str]:
        ec2 = self.account.ec2(region.region)
        image = images.get(ec2, [ami]).get(ami)
        if image is None:
            return [f"{ami} is gone"]
        return images.differences(image, self.plan.spec, self.plan.settings, images.shares(ec2, ami)) + \
            images.snapshot_differences(ec2, image, self.plan.spec, self._key(region),
                                        shared=bool(self.plan.settings.share_with))

    def _key(self, region: RegionPublishPlan) -> str | None:
        if region.upload or not region.kms_key:
            return region.upload.kms_arn if region.upload else None
        return images.key_arn(self.account.kms(region.region), region.kms_key)

    # --- the pointers -----------------------------------------------------------------------------------------------

    def candidate(self, name: str, held: Lease, image: Image) -> None:
        """The build's own parameter, then `candidate`."""
        region = self.regions[name]
        if self.plan.readmit:
            held.record(held.ledger.readmit(self.plan.build_id))
        if region.record_build:
            pointers.record_build(self.account.ssm(name), pointers.build_name(self.plan.image, self.plan.build_id),
                                  image.ami)
        if before := self._move(region, Channel.CANDIDATE):
            target = channels.mark(self.plan.build_id, image.ami, self.plan.baked_at, self.plan.gpu, held)
            held.record(held.ledger.moved(Channel.CANDIDATE, target))
            channels.point(self.account, name, self.plan.image, Channel.CANDIDATE, target, before[0])

    def latest(self, name: str, held: Lease, image: Image) -> Published:
        """`latest`, then the template's default."""
        region = self.regions[name]
        before = self._move(region, Channel.LATEST) or (image.ami,)
        target = channels.mark(self.plan.build_id, image.ami, self.plan.baked_at, self.plan.gpu, held)
        held.record(held.ledger.moved(Channel.LATEST, target))
        channels.point(self.account, name, self.plan.image, Channel.LATEST, target, before[0])
        version = channels.point_template(self.account, name, self.plan.image, target, self.wanted)
        self.versions[name] = version
        former, template = held.ledger.previous(), region.template
        return Published(
            ami=image.ami, snapshot=image.snapshot, channels=tuple(Channel), template=version.template,
            template_version=version.number, previous_ami=former.ami if former else None,
            previous_template_version=template.before if template and template.before_ami != image.ami else None,
            refreshed=region.refresh)

    def follow(self, name: str) -> None:
        """The groups that are to take the new version: only when it is the default everywhere."""
        channels.refresh_groups(self.account, self.wanted, name, self.regions[name].refresh, self.versions[name],
                                self.progress)

    @staticmethod
    def _move(region: RegionPublishPlan, channel: Channel) -> tuple[str | None] | None:
        """What the channel named before, in a tuple, where the plan moves it."""
        return next(((move.before,) for move in region.moves if move.channel is channel), None)
