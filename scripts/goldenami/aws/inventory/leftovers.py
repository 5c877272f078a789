"""Resources of EC2 that killed runs leave in a region: finding them by the tags `goldenami:owner`
and `goldenami:expires`, or `goldenami:selftest`, and removing them in order.

A name proves nothing: what Packer calls `packer_*` is ours only if it carries the tags. Packer's
`run_tags` put them on the instance and its volumes; `golden bake` creates and tags the key pair and
the security group.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from goldenami.aws import tags
from goldenami.aws.calls import pages, tolerate
from goldenami.aws.instances import instances
from goldenami.aws.inventory import inventory
from goldenami.aws.inventory.inventory import NOT_TERMINATED
from goldenami.aws.session import Client
from goldenami.aws.tags import optional
from goldenami.core import clock


class LeftoverKind(StrEnum):
    """Kinds of leftovers, in the order in which they can be removed."""

    GROUP = "auto-scaling-group"
    STACK = "stack"
    INSTANCE = "instance"
    TEMPLATE = "launch-template"
    IMAGE = "image"
    VOLUME = "volume"
    SNAPSHOT = "snapshot"
    KEY_PAIR = "key-pair"
    SECURITY_GROUP = "security-group"
    PARAMETER = "parameter"
    LEASE = "lease"


@dataclass(frozen=True)
class Leftover:
    """A resource with a date of expiry. `expires` is None if the tag is no time in UTC.

    `is_selftest` is True for what `golden selftest` made, `outlives_run` for an unpublished AMI and
    the snapshot of an unfinished upload, with which the next run goes on.
    """

    kind: LeftoverKind
    id: str
    owner: str
    image: str
    expires: datetime | None
    is_selftest: bool = False
    outlives_run: bool = False

    @property
    def is_expired(self) -> bool:
        return self.expires is not None and clock.now() > self.expires

    @property
    def is_over(self) -> bool:
        """Whether nobody needs it: it has expired, or its run on this machine has ended."""
        return self.is_expired or (tags.has_ended(self.owner) and not self.outlives_run)


_IDS: Mapping[LeftoverKind, str] = {
    LeftoverKind.INSTANCE: "InstanceId",
    LeftoverKind.IMAGE: "ImageId",
    LeftoverKind.VOLUME: "VolumeId",
    LeftoverKind.SNAPSHOT: "SnapshotId",
    LeftoverKind.KEY_PAIR: "KeyPairId",
    LeftoverKind.SECURITY_GROUP: "GroupId",
}


def find(ec2: Client, *keys: str) -> list[Leftover]:
    """Find everything that carries a date of expiry, in the order in which it can be removed. The
    date is in one of the tags `keys`, by default EXPIRES."""
    tagged = {"Name": "tag-key", "Values": list(keys) or [tags.EXPIRES]}

    def listed(call: str, key: str, size: int, *filters: Any, **arguments: Any) -> Iterator[Any]:
        return pages(ec2, call, key, size, Filters=[*filters, tagged], **arguments)

    reservations = listed("describe_instances", "Reservations", 1000, *NOT_TERMINATED)
    described = {
        LeftoverKind.INSTANCE: [
            instance for reservation in reservations for instance in reservation["Instances"]
        ],
        LeftoverKind.IMAGE: listed(
            "describe_images", "Images", 1000, Owners=["self"], IncludeDisabled=True
        ),
        LeftoverKind.VOLUME: listed("describe_volumes", "Volumes", 500),
        LeftoverKind.SNAPSHOT: listed("describe_snapshots", "Snapshots", 1000, OwnerIds=["self"]),
        # EC2 lists key pairs without pages.
        LeftoverKind.KEY_PAIR: ec2.describe_key_pairs(Filters=[tagged])["KeyPairs"],
        LeftoverKind.SECURITY_GROUP: listed("describe_security_groups", "SecurityGroups", 1000),
    }
    return [
        of_tags(kind, resource[_IDS[kind]], tags.from_list(resource["Tags"]))
        for kind, resources in described.items()
        for resource in resources
    ]


def of_tags(kind: LeftoverKind, name: str, own_tags: Mapping[str, str]) -> Leftover:
    """Return the leftover with these tags, one of which is EXPIRES or SELFTEST."""
    expires, owner = own_tags.get(tags.EXPIRES), own_tags.get(tags.OWNER, "")
    # What a command that `golden selftest` runs marks as temporary is still in use afterwards.
    if selftest := own_tags.get(tags.SELFTEST):
        expires, _, owner = selftest.partition(" ")
    is_kept = kind in (LeftoverKind.IMAGE, LeftoverKind.SNAPSHOT) and tags.BUILD_ID in own_tags
    return Leftover(
        kind=kind,
        id=name,
        owner=owner,
        image=own_tags.get(tags.IMAGE, ""),
        expires=optional(expires),
        is_selftest=selftest is not None,
        outlives_run=is_kept and selftest is None,
    )


def remove(ec2: Client, kind: LeftoverKind, name: str) -> None:
    """Remove one resource by its id, if it exists."""
    removers: Mapping[LeftoverKind, Callable[..., object]] = {
        LeftoverKind.IMAGE: ec2.deregister_image,
        LeftoverKind.VOLUME: ec2.delete_volume,
        LeftoverKind.SNAPSHOT: ec2.delete_snapshot,
        LeftoverKind.KEY_PAIR: ec2.delete_key_pair,
        LeftoverKind.SECURITY_GROUP: ec2.delete_security_group,
    }
    with tolerate(".NotFound", ".Unavailable"):
        if kind is LeftoverKind.INSTANCE:
            # Waits for the end, since its security group and volumes cannot go before.
            instances.terminate(ec2, name)
        else:
            removers[kind](**{_IDS[kind]: name})


def used_snapshots(ec2: Client, going: Container[str]) -> set[str]:
    """The snapshots that the account's AMIs are made of, except those AMIs that are `going`."""
    used = set[str]()
    for ami in inventory.amis(ec2):
        if ami.id not in going:
            used.update(ami.snapshots)
    return used
