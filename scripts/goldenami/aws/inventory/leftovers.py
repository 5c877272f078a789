"""What killed runs leave in a region: found by the tags `goldenami:owner` and `goldenami:expires`, removed in order.

A name proves nothing: what Packer calls `packer_*` is ours only where it carries the tags (its `run_tags` put them on
the instance and its volumes; key pair and security group are made and tagged by `golden bake`).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from botocore import exceptions as aws

from goldenami.aws import tags
from goldenami.aws.inventory.inventory import NOT_TERMINATED, optional, pages
from goldenami.aws.session import Client, code

TERMINATE_POLL_S, TERMINATE_POLLS = 5, 120
"""An instance stops within about two minutes; a GPU one may take longer."""


class LeftoverKind(StrEnum):
    """What may be left, in the order in which it can be removed: nothing may use what is removed."""

    INSTANCE = "instance"
    IMAGE = "image"
    VOLUME = "volume"
    SNAPSHOT = "snapshot"
    KEY_PAIR = "key-pair"
    SECURITY_GROUP = "security-group"


@dataclass(frozen=True)
class Leftover:
    """One thing with a date of expiry. `expires` is None where the tag is not a time in UTC."""

    kind: LeftoverKind
    id: str
    owner: str
    image: str
    expires: datetime | None


def find(ec2: Client) -> list[Leftover]:
    """Everything that carries a date of expiry, in the order in which it can be removed."""
    tagged = {"Name": "tag-key", "Values": [tags.EXPIRES]}
    reservations = pages(ec2, "describe_instances", "Reservations", 1000, Filters=[*NOT_TERMINATED, tagged])
    found: list[tuple[LeftoverKind, str, Any]] = [
        *((LeftoverKind.INSTANCE, "InstanceId", each) for reservation in reservations for each
          in reservation["Instances"]),
        *((LeftoverKind.IMAGE, "ImageId", each) for each in
          pages(ec2, "describe_images", "Images", 1000, Owners=["self"], IncludeDisabled=True, Filters=[tagged])),
        *((LeftoverKind.VOLUME, "VolumeId", each) for each
          in pages(ec2, "describe_volumes", "Volumes", 500, Filters=[tagged])),
        *((LeftoverKind.SNAPSHOT, "SnapshotId", each) for each in
          pages(ec2, "describe_snapshots", "Snapshots", 1000, OwnerIds=["self"], Filters=[tagged])),
        *((LeftoverKind.KEY_PAIR, "KeyPairId", each) for each in ec2.describe_key_pairs(Filters=[tagged])["KeyPairs"]),
        *((LeftoverKind.SECURITY_GROUP, "GroupId", each) for each in
          pages(ec2, "describe_security_groups", "SecurityGroups", 1000, Filters=[tagged]))]
    return [_leftover(kind, each[key], tags.from_list(each["Tags"])) for kind, key, each in found]


def _leftover(kind: LeftoverKind, name: str, marks: Mapping[str, str]) -> Leftover:
    return Leftover(kind=kind, id=name, owner=marks.get(tags.OWNER, ""), image=marks.get(tags.IMAGE, ""),
                    expires=optional(marks[tags.EXPIRES]))


def remove(ec2: Client, leftover: Leftover) -> None:
    """Remove one thing; what is gone already is done. An instance is waited for, since others wait for it."""
    try:
        _REMOVERS[leftover.kind](ec2, leftover.id)
    except aws.ClientError as error:
        if not code(error).endswith((".NotFound", ".Unavailable")):
            raise


def _instance(ec2: Client, name: str) -> None:
    ec2.terminate_instances(InstanceIds=[name])
    ec2.get_waiter("instance_terminated").wait(
        InstanceIds=[name], WaiterConfig={"Delay": TERMINATE_POLL_S, "MaxAttempts": TERMINATE_POLLS})


_REMOVERS: Mapping[LeftoverKind, Callable[[Client, str], object]] = {
    LeftoverKind.INSTANCE: _instance,
    LeftoverKind.IMAGE: lambda ec2, name: ec2.deregister_image(ImageId=name),
    LeftoverKind.VOLUME: lambda ec2, name: ec2.delete_volume(VolumeId=name),
    LeftoverKind.SNAPSHOT: lambda ec2, name: ec2.delete_snapshot(SnapshotId=name),
    LeftoverKind.KEY_PAIR: lambda ec2, name: ec2.delete_key_pair(KeyPairId=name),
    LeftoverKind.SECURITY_GROUP: lambda ec2, name: ec2.delete_security_group(GroupId=name),
}


def used_snapshots(ec2: Client, going: Container[str]) -> Iterator[str]:
    """Snapshots that an AMI of the account is made of, other than the AMIs that are `going`."""
    found = pages(ec2, "describe_images", "Images", 1000, Owners=["self"], IncludeDisabled=True)
    for image in (image for image in found if image["ImageId"] not in going):
        for device in image.get("BlockDeviceMappings", []):
            if snapshot := device.get("Ebs", {}).get("SnapshotId"):
                yield snapshot
