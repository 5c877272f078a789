"""Makes the AMIs of a publish, one in each region, and reads them back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TypeVar

from goldenami.aws import images, tags
from goldenami.aws.calls import wait_for
from goldenami.aws.images import AmiState, Image
from goldenami.aws.regions import for_each_region
from goldenami.aws.session import Account
from goldenami.aws.snapshots import ebs, encryption
from goldenami.core.errors import Busy, StageFailed
from goldenami.core.terminal.progress import Progress
from goldenami.core.worker_pool import Budget
from goldenami.model.builds.disk_blocks import BlockMap
from goldenami.release.publish.publish_records import PublishPlan, RegionPublishPlan
from goldenami.release.publish.release_gate import VerifiedBuild

UNFINISHED_LIFE = timedelta(days=2)
"""How long an unfinished snapshot or AMI is kept: the publish may be continued the next day.
Afterwards `golden sweep` removes it."""
READ_BACK_S, READ_BACK_POLL_S = 60.0, 2.0
"""Seconds within which an AMI has to read back as specified, and between polls."""

T = TypeVar("T")


class RegionImages:
    """The AMIs of a publish in single regions, and what making them shares."""

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

    def make_all(self) -> dict[str, Image]:
        """Make the AMI of every region: first those that need no other AMI of this publish, then
        the copies of these."""
        first, copies = list[str](), list[str]()
        for region, planned in self.plans.items():
            if planned.copy_of and not planned.copy_of.ami:
                copies.append(region)
            else:
                first.append(region)
        self.amis = self.phase(self._make, first)
        return {**self.amis, **self.phase(self._make, copies)}

    def _make(self, region: str) -> Image:
        """Make the region's AMI if it does not exist, configure it, and read it back."""
        ec2, planned = self.account.ec2(region), self.plans[region]
        if planned.ami:
            existing = images.get(ec2, [planned.ami]).get(planned.ami)
            if existing is None or existing.state == AmiState.DISABLED:
                state = "gone"
                if existing:
                    state = existing.state
                raise Busy(
                    f"{planned.ami} in {region} is {state} since the plan was made",
                    hint="run again: the plan is made anew",
                )
            if not planned.settings and not planned.record_build:
                return existing
            image = images.wait_available(ec2, planned.ami)
        else:
            image = self._make_new(planned)
        images.apply(ec2, image, self.plan.spec, self.plan.settings)
        images.clear_temporary_tags(ec2, image)
        self._read_back(planned, image.ami)
        self.progress.say(f"{region}: {image.ami} is available and as asked for")
        return image

    def _make_new(self, planned: RegionPublishPlan) -> Image:
        """Make an AMI and wait for it; once more if EC2 gives the first one up."""
        ec2 = self.account.ec2(planned.region)
        try:
            return images.wait_available(ec2, self._new_ami(planned))
        except images.Failed as error:
            self.progress.say(f"{planned.region}: {error.message}: it is removed and made again")
        try:
            return images.wait_available(ec2, self._new_ami(planned))
        except images.Failed as error:
            raise StageFailed(
                f"{error.message}, twice", hint="mend what it names: the next run removes it"
            ) from None

    def _new_ami(self, planned: RegionPublishPlan) -> str:
        # None lets the account's default decide.
        key = None
        if planned.encryption:
            key = planned.encryption.asked
        ec2, spec = self.account.ec2(planned.region), self.plan.spec
        images.remove_failed(ec2, spec)
        # Until it is read back it may be removed: `golden sweep` finds what a kill leaves.
        spec = spec.model_copy(update={"tags": {**spec.tags, **tags.temporary(UNFINISHED_LIFE)}})
        if source := planned.copy_of:
            ami = source.ami or self.amis[source.region].ami
            return images.copy(ec2, spec, source.region, ami, key)
        return images.register(ec2, spec, self._upload(planned, key))

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
                tags={**self.plan.spec.tags, **tags.temporary(UNFINISHED_LIFE)},
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
