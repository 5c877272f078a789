"""The AMI that an EC2 builder starts from, against the day of a lock."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime

from goldenami.aws.base_images import BaseImage
from goldenami.errors import GoldenError
from goldenami.lockfile import Lock
from goldenami.watch_policy import BaseImageRule, Judgement, Verdict
from goldenami.watch_records import Source

Newest = Callable[[str, str, str], BaseImage]
"""The newest AMI by region, owner and pattern of the name."""


def look(rule: BaseImageRule, newest: Newest) -> tuple[Source, BaseImage | None]:
    """The newest AMI that the rule's pattern fits."""
    name = f"EC2 {rule.region}: {rule.name} of {rule.owner}"
    try:
        found = newest(rule.region, rule.owner, rule.name)
    except GoldenError as error:
        return Source(name=name, error=error.message), None
    return Source(name=name, changed=found.created), found


def judge(rule: BaseImageRule, lock: Lock, image: BaseImage, today: date) -> tuple[str, Judgement]:
    """The day of the lock, which an AMI of a later day is newer than, and the verdict."""
    locked = datetime.fromtimestamp(lock.source_date_epoch, UTC).date()
    made = datetime.fromisoformat(image.created).date()
    label = f"{image.name} ({image.image_id})"
    if made <= locked:
        return str(locked), Judgement(label, Verdict.CURRENT)
    if (today - made).days < rule.minimum_age_days:
        return str(locked), Judgement(label, Verdict.YOUNG,
                                      f"made on {made}, has to be {rule.minimum_age_days} days old")
    return str(locked), Judgement(label, Verdict.UPDATE, f"made on {made}")
