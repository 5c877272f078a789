"""A temporary snapshot of an instance's volume: made, waited for, and removed whatever happens.

Its tags name the instance, the process that made it and when it may be swept. They are set by the
call that makes it, so the next run or `golden sweep` finds what a kill at any moment leaves.
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
"""Seconds that a snapshot may be pending. A volume's first snapshot has to copy all its blocks."""
LIFETIME = timedelta(seconds=PENDING_S) + timedelta(hours=2)
"""How long the snapshot may be needed. Afterwards it may be swept."""
POLLS_S = (1.0, 1.5, 15.0)
"""Pauses in seconds between polls: the first, the growth factor, the longest. EC2 throttles
DescribeSnapshots."""
UNKNOWN_S = 15.0
"""Seconds for which parts of EC2 may not know a new snapshot ("Eventual consistency in the Amazon
EC2 API"). Its removal is not tried for longer, as `golden sweep` would find it."""


@contextlib.contextmanager
def temporary_snapshot(ec2: Client, instance: str, volume: str) -> Iterator[str]:
    """Yield the id of a completed snapshot of a volume of `instance`, and remove it afterwards.

    Raises Unreachable if it stays pending, StageFailed if EBS gives it up.
    """
    remove_dead(ec2, instance)
    snapshot_tags = {tags.DRIFT_OF: instance, **tags.temporary(LIFETIME)}
    snapshot_id = ""
    try:
        snapshot_id = ec2.create_snapshot(
            VolumeId=volume,
            Description=f"golden drift of {instance}",
            TagSpecifications=tags.specifications(snapshot_tags, "snapshot"),
        )["SnapshotId"]
        try:
            _complete(ec2, snapshot_id)
            yield snapshot_id
        finally:
            _remove(ec2, snapshot_id)
    finally:
        # botocore repeats a call whose answer was lost, and CreateSnapshot takes no token, so there
        # may be a second snapshot.
        for snapshot in _owned_snapshots(ec2, instance):
            if (
                tags.from_list(snapshot["Tags"])[tags.OWNER] == snapshot_tags[tags.OWNER]
                and snapshot["SnapshotId"] != snapshot_id
            ):
                _remove(ec2, snapshot["SnapshotId"])


def remove_dead(ec2: Client, instance: str) -> None:
    """Remove snapshots of this instance whose run on this machine has ended, or that have
    expired."""
    for snapshot in _owned_snapshots(ec2, instance):
        snapshot_tags = tags.from_list(snapshot["Tags"])
        maker, expires = (
            ProcessId.parse(snapshot_tags[tags.OWNER]),
            optional(snapshot_tags.get(tags.EXPIRES)),
        )
        if (maker and maker.has_ended) or (expires is not None and expires < clock.now()):
            _remove(ec2, snapshot["SnapshotId"])


def _owned_snapshots(ec2: Client, instance: str) -> list[Any]:
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
    """Wait until the snapshot is completed."""
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
    """Remove a snapshot, which EC2 may not know for a while, or which may be gone."""
    with tolerate(*NOT_YET):
        wait_for(lambda: ec2.delete_snapshot(SnapshotId=snapshot_id), *NOT_YET, limit_s=UNKNOWN_S)
