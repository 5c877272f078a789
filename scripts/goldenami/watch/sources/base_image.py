"""The AMI that an EC2 builder starts from, against the one that the newest build on EC2 began
from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from goldenami.aws.base_images import BaseImage
from goldenami.core.errors import GoldenError
from goldenami.model.builds.build_folder import ImageFolder
from goldenami.model.builds.lockfile import Lock
from goldenami.model.definitions.update_policy import BaseImageRule, Judgement, UpdateVerdict
from goldenami.watch.watch_records import SourceStatus

Newest = Callable[[str, str, str], BaseImage]
"""The newest AMI by region, owner and pattern of the name."""


@dataclass(frozen=True)
class BuiltFrom:
    """What the image began from last: the AMI, if a build says so, and when; an AMI of before is
    not newer."""

    ami: str
    when: datetime

    def __str__(self) -> str:
        return f"{self.ami or 'lock'} of {self.when.date()}"


def look(
    rule: BaseImageRule, newest: Newest, root: Path, lock: Lock,
) -> tuple[SourceStatus, BaseImage | None, BuiltFrom | None]:
    """The newest AMI that the rule's pattern fits, and what the image began from."""
    name = f"EC2 {rule.region}: {rule.name} of {rule.owner}"
    try:
        image, start = (
            newest(rule.region, rule.owner, rule.name),
            built_from(root, lock, rule.region),
        )
    except GoldenError as error:
        return SourceStatus(name=name, error=error.message), None, None
    return SourceStatus(name=name, changed=image.created), image, start


def built_from(root: Path, lock: Lock, region: str) -> BuiltFrom:
    """What the newest build on EC2 in `region` began from, by the records on this machine; without
    one, the lock's day.

    That is the day of the newest index that it was made from, or of its newest package.
    """
    bakes = [bake
             for bake in (build.read_bake() for build in ImageFolder.of(root, lock.image).builds)
             if bake.ami is not None and bake.ami.region == region]
    newest = max(bakes, key=lambda bake: datetime.fromisoformat(bake.started_at), default=None)
    if newest is not None and newest.ami is not None:
        return BuiltFrom(newest.ami.base, datetime.fromisoformat(newest.started_at))
    index_dates = [parsedate_to_datetime(suite.date).astimezone(UTC) for suite in lock.base.suites]
    return BuiltFrom("", max([datetime.fromtimestamp(lock.source_date_epoch, UTC), *index_dates]))


def judge(rule: BaseImageRule, start: BuiltFrom, image: BaseImage, today: date) -> Judgement:
    """The verdict on the newest AMI."""
    made = datetime.fromisoformat(image.created)
    label, day = f"{image.name} ({image.image_id})", made.date()
    if image.image_id == start.ami or made <= start.when:
        return Judgement(label, UpdateVerdict.CURRENT)
    if (today - day).days < rule.minimum_age_days:
        return Judgement(label, UpdateVerdict.YOUNG,
                         f"made on {day}, has to be {rule.minimum_age_days} days old")
    unknown = (
        "" if start.ami else "; no build here says which AMI it began from: make bake BUILDER=ec2"
    )
    return Judgement(label, UpdateVerdict.UPDATE, f"made on {day}{unknown}")
