"""A snapshot of an instance's volume for a while: made, waited for, and removed whatever happens.

Its tags say of which instance it is, which process made it and when it may be swept. They come with
the call that makes it: a kill at any moment leaves nothing that the next run, or `golden sweep`,
does not find.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from goldenami.aws import tags
from goldenami.aws.calls import NOT_YET, pages, tolerate, wait_for
from goldenami.aws.session import Client
from goldenami.aws.tags import optional
from goldenami.core import clock
from goldenami.core.errors import StageFailed, Unreachable
from goldenami.core.process import ProcessId
from goldenami.core.wait import growing

PENDING_S = 2 * 3600.0
"""Seconds that a snapshot may be pending: the first one of a volume has all its blocks to copy."""
LIFETIME = timedelta(seconds=PENDING_S) + timedelta(hours=2)
"""How long the snapshot may be needed: then it may be swept."""
POLLS_S = (1.0, 1.5, 15.0)
"""The first pause between two looks, its growth, and the longest: DescribeSnapshots is a call that
EC2 throttles."""
UNKNOWN_S = 15.0
"""Seconds for which a snapshot that was made may be unknown to some of EC2 ("Eventual consistency
in the Amazon EC2 API"); what is tagged as ours is not waited for longer: `golden sweep` would find
it."""


@contextlib.contextmanager
def temporary_snapshot(ec2: Client, instance: str, volume: str) -> Iterator[str]:
    """A completed snapshot of a volume of `instance` for as long as the context lasts.

    Raises Unreachable where it stays pending, StageFailed where EBS gives it up.
    """
    remove_dead(ec2, instance)
    own = {tags.DRIFT_OF: instance, **tags.temporary(LIFETIME)}
    made = ""
    try:
        made = ec2.create_snapshot(
            VolumeId=volume,
            Description=f"golden drift of {instance}",
            TagSpecifications=tags.specifications(own, "snapshot"),
        )["SnapshotId"]
        try:
            _complete(ec2, made)
            yield made
        finally:
            _remove(ec2, made)
    finally:
        # A call whose answer was lost is made again by the client, and CreateSnapshot knows no
        # token: there may be two.
        for snapshot in _of(ec2, instance):
            if (
                tags.from_list(snapshot["Tags"])[tags.OWNER] == own[tags.OWNER]
                and snapshot["SnapshotId"] != made
            ):
                _remove(ec2, snapshot["SnapshotId"])


def remove_dead(ec2: Client, instance: str) -> None:
    """Remove what earlier runs on this instance left that ended here, or have expired."""
    for snapshot in _of(ec2, instance):
        own = tags.from_list(snapshot["Tags"])
        maker, expires = ProcessId.parse(own[tags.OWNER]), optional(own.get(tags.EXPIRES))
        if (maker and maker.has_ended) or (expires is not None and expires < clock.now()):
            _remove(ec2, snapshot["SnapshotId"])


def _of(ec2: Client, instance: str) -> list[Any]:
    return list(
        pages(
            ec2,
            "describe_snapshots",
            "Snapshots",
            1000,
            OwnerIds=["self"],
            Filters=[
                {"Name": f"tag:{tags.DRIFT_OF}", "Values": [instance]},
                {"Name": "tag-key", "Values": [tags.OWNER]},
            ],
        )
    )


def _complete(ec2: Client, snapshot_id: str) -> None:
    seen: dict[str, Any] = {}

    def finished() -> bool | None:
        nonlocal seen
        seen = wait_for(lambda: ec2.describe_snapshots(SnapshotIds=[snapshot_id]), *NOT_YET)[
            "Snapshots"
        ][0]
        return None if seen["State"] == "pending" else True

    if not wait_for(
        finished, limit_s=PENDING_S, pauses=growing(*POLLS_S), what=f"{snapshot_id} is pending"
    ):
        raise Unreachable(
            f"{snapshot_id} is pending after {PENDING_S:.0f} s "
            f"({seen.get('Progress') or 'no progress'})",
            hint="EBS is slow with this volume: run again later",
        )
    if seen["State"] != "completed":
        raise StageFailed(
            f"{snapshot_id} is {seen['State']}: "
            f"{seen.get('StateMessage') or 'EC2 does not say why'}",
            hint="run again; a volume's key may be disabled, or not be yours",
        )


def _remove(ec2: Client, snapshot_id: str) -> None:
    """Remove a snapshot, which may be unknown for a while, or gone."""
    with tolerate(*NOT_YET):
        wait_for(lambda: ec2.delete_snapshot(SnapshotId=snapshot_id), *NOT_YET, limit_s=UNKNOWN_S)
