"""The steps that remove an image from an account, one function each.

A step can be repeated after a kill in its middle, and treats what is gone already as done. Images
are read once more before a step acts on them, many by one call, because a person may have changed
them since the plan was made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from goldenami.aws import images, tags
from goldenami.aws.calls import FILTER_VALUES, batches, tolerate
from goldenami.aws.channels import pointers
from goldenami.aws.channels.pointers import EVIDENCE, PARAMETERS, PROVENANCE
from goldenami.aws.inventory.topology import AMI_ID
from goldenami.aws.session import Client
from goldenami.core import clock
from goldenami.core.errors import StageFailed

Image = dict[str, Any]
"""An image as DescribeImages returns it."""
NEVER = "never"
AHEAD = timedelta(minutes=2)
"""How far in the future a deprecation date is set: EnableImageDeprecation refuses a moment that has
passed, and rounds to the minute."""
_GONE = (
    "InvalidAMIID.NotFound",
    "InvalidAMIID.Unavailable",
    "InvalidSnapshot.NotFound",
    "ParameterNotFound",
    "InvalidLaunchTemplateId.NotFound",
    "InvalidLaunchTemplateName.NotFoundException",
)
VERSIONS = 200
"""Most versions of a launch template that one call deletes (DeleteLaunchTemplateVersions)."""
_VERSION_GONE = frozenset({"launchTemplateVersionDoesNotExist", "launchTemplateIdDoesNotExist"})


FRESH_S = 5.0
"""Seconds for which an answer about many images counts as fresh. A step takes a fraction of a
second."""


class FreshImages:
    """The current state of the images in a list. FILTER_VALUES of them are read by one call, and
    again when the answer is older than FRESH_S."""

    def __init__(self, ec2: Client, names: Sequence[str]) -> None:
        self._ec2, self._names = ec2, list(names)
        self._seen, self._at = dict[str, Image | None](), 0.0

    def get(self, ami_id: str) -> Image | None:
        """The image as it is now, or None if it does not exist."""
        if ami_id not in self._seen or time.monotonic() - self._at > FRESH_S:
            start = self._names.index(ami_id)
            batch = self._names[start : start + FILTER_VALUES]
            self._at = time.monotonic()
            existing = _described(self._ec2, batch)
            self._seen = {name: existing.get(name) for name in batch}
        return self._seen[ami_id]


def _described(ec2: Client, names: list[str]) -> dict[str, Image]:
    return {name: image.raw for name, image in images.get(ec2, names).items()}


def deprecate(ec2: Client, image: Image, now: datetime) -> None:
    """Announce that the image will go: deprecate it now, and keep its former date in a tag."""
    ami_id, before = str(image["ImageId"]), str(image.get("DeprecationTime", NEVER))
    own_tags = tags.from_list(image.get("Tags"))
    # The tags come first. Otherwise, after a kill in between, the next run would take this run's
    # date for the publisher's.
    ec2.create_tags(
        Resources=[ami_id],
        Tags=tags.to_list(
            {
                tags.RETIRING: clock.stamp(now),
                tags.DEPRECATED_BEFORE: own_tags.get(tags.DEPRECATED_BEFORE, before),
            }
        ),
    )
    if before == NEVER or datetime.fromisoformat(before) > now:
        ec2.enable_image_deprecation(ImageId=ami_id, DeprecateAt=now + AHEAD)


def recall(ec2: Client, image: Image, now: datetime) -> None:
    """Take the announcement back: restore the former deprecation date, and remove our tags."""
    ami_id, own_tags = image["ImageId"], tags.from_list(image.get("Tags"))
    before = own_tags.get(tags.DEPRECATED_BEFORE, "")
    if before == NEVER:
        ec2.disable_image_deprecation(ImageId=ami_id)
    elif before and datetime.fromisoformat(before) > now:
        ec2.enable_image_deprecation(ImageId=ami_id, DeprecateAt=datetime.fromisoformat(before))
    ours = (tags.RETIRING, tags.DISABLED, tags.DEPRECATED_BEFORE)
    ec2.delete_tags(Resources=[ami_id], Tags=[{"Key": name} for name in ours if name in own_tags])


def disable(ec2: Client, image: Image, now: datetime) -> None:
    """Disable the image. Nobody can launch it then, and EC2 ends all its shares."""
    if image["State"] != "disabled":
        note_disabled(ec2, image, now)
        ec2.disable_image(ImageId=image["ImageId"])


def note_disabled(ec2: Client, image: Image, now: datetime) -> None:
    """Tag the image with the moment at which it was disabled, from which the wait for the next step
    counts."""
    with tolerate(*_GONE):
        ec2.create_tags(
            Resources=[image["ImageId"]], Tags=tags.to_list({tags.DISABLED: clock.stamp(now)})
        )


def deregister(ec2: Client, image: Image, now: datetime) -> None:
    """Deregister a disabled image. Raises StageFailed if it is not disabled any more."""
    ami_id = image["ImageId"]
    if image["State"] != "disabled":
        raise StageFailed(
            f"{ami_id} was {image['State']} again when it was to be deregistered",
            hint="run `golden retire IMAGE --dry-run` to see why it stays",
        )
    with tolerate(*_GONE):
        ec2.deregister_image(ImageId=ami_id)


def delete_snapshot(ec2: Client, snapshot_id: str) -> None:
    """Delete a snapshot. EC2 refuses that for an image's snapshot, and for a while after the image
    was deregistered."""
    with tolerate(*_GONE):
        ec2.delete_snapshot(SnapshotId=snapshot_id)


def delete_versions(ec2: Client, targets: Sequence[str]) -> dict[str, StageFailed]:
    """Delete versions of launch templates (`lt-...:7`). Return the errors of those that were not
    deleted; EC2 refuses the default version."""
    failed: dict[str, StageFailed] = {}
    for template_id in dict.fromkeys(target.partition(":")[0] for target in targets):
        numbers = [
            target.partition(":")[2] for target in targets if target.startswith(f"{template_id}:")
        ]
        for batch in batches(numbers, VERSIONS):
            with tolerate(*_GONE):
                answer = ec2.delete_launch_template_versions(
                    LaunchTemplateId=template_id, Versions=batch
                )
                failed |= {
                    target: StageFailed(
                        f"launch template version {target} was not deleted: {why}", hint="run again"
                    )
                    for target, why in _refused(template_id, answer)
                }
    return failed


def _refused(template_id: str, answer: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for failure in answer.get("UnsuccessfullyDeletedLaunchTemplateVersions", []):
        error = failure.get("ResponseError", {})
        if error.get("Code") not in _VERSION_GONE:
            yield f"{template_id}:{failure['VersionNumber']}", error.get("Message", "")


def delete_records(ec2: Client, ssm: Client, names: Sequence[str]) -> dict[str, StageFailed]:
    """Delete the records of builds and the parameters beside them. Return the errors of records
    that stay, because their AMIs exist."""
    kept: dict[str, StageFailed] = {}
    for batch in batches(names, PARAMETERS):
        amis = pointers.read(ssm, batch)
        # Read again, as the list that the plan was made from may have been out of date.
        existing = _described(ec2, [ami for ami in amis.values() if AMI_ID.fullmatch(ami)])
        kept |= {
            name: StageFailed(
                f"{ami} exists after all, so its record {name} stays", hint="run again"
            )
            for name, ami in amis.items()
            if ami in existing
        }
        going = [name for name in amis if name not in kept]
        beside = [f"{name}{kind}" for name in going for kind in (EVIDENCE, PROVENANCE)]
        # The record itself goes last: it is what the next run would find the others by.
        for part in batches([*beside, *going], PARAMETERS):
            ssm.delete_parameters(Names=part)
    return kept


ImageStep = Callable[[Client, Image, datetime], None]
"""A step on an image: EC2's client, the image as it is now, and the current time."""
