"""Uploads a disk as an EBS snapshot by the EBS direct APIs: without an instance, and only the
blocks that are needed.

A killed upload continues where it was (see `journal`). A second call after a finished one sends
nothing and returns the same snapshot.

Sources: EBS direct APIs, https://docs.aws.amazon.com/ebs/latest/userguide/writesnapshots.html and
https://docs.aws.amazon.com/ebs/latest/APIReference/API_PutSnapshotBlock.html.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from goldenami.aws import session
from goldenami.aws.calls import tolerate, wait_for
from goldenami.aws.snapshots.journal import Journal, SnapshotRequest, UploadState
from goldenami.aws.snapshots.send import Patience, Sender
from goldenami.aws.tags import of_blocks, to_list
from goldenami.core import clock
from goldenami.core.errors import StageFailed
from goldenami.core.wait import growing
from goldenami.core.worker_pool import Budget, WorkerPool
from goldenami.model.builds.disk_blocks import BlockMap, differing
from goldenami.model.builds.sparse_disk import BLOCK, read_block

Client = Any

IN_FLIGHT = 64
"""Most blocks in flight, over all regions of a publish (`Budget`). If EBS takes 100 ms for a block,
that makes 640 a second, 335 MB/s. Twice as many would exceed a snapshot's quota of 1,000 a second
(EBS quotas, PutSnapshotBlock)."""
FEWEST_IN_FLIGHT = 8
PENDING_MIN = 1440
"""Minutes that EBS keeps a snapshot to which nobody writes (StartSnapshot: Timeout, default 60). So
a run that was killed can be continued until the next day."""
SEAL_S = 3600
"""Seconds that a snapshot may take from CompleteSnapshot to `completed`."""
RESEAL_S = 60
"""The same if CompleteSnapshot was refused: an earlier call, whose answer was lost, may have
succeeded."""
POLLS_S = (0.25, 1.5, 15.0)
"""Pauses in seconds between polls of a sealed snapshot: the first, the growth factor, the
longest."""
MOST_ATTEMPTS = 100
"""Most snapshots begun for one disk in one region. Each one that was deleted, expired or begun by a
run whose journal is lost takes one."""


@dataclass(frozen=True)
class Parent:
    """A snapshot in the same region with an older disk, and the list of that disk's blocks."""

    snapshot_id: str
    blocks: BlockMap


def count_to_send(blocks: BlockMap, parent: Parent | None = None) -> int:
    """Count the blocks that an upload would send, including zeros that replace a parent's data."""
    return sum(1 for _ in differing(blocks, parent.blocks if parent else None))


@dataclass
class Upload:
    """The upload of a `disk`, whose bake listed its `blocks`, to the region of the clients.

    `journal` is a folder for this build and region: blocks that an earlier run confirmed are not
    sent again. `tags` replace those of a snapshot that an earlier run began. `kms_key` (an ARN)
    encrypts the snapshot, unless it has a parent: then the parent's key does. `budget` is shared
    with other uploads. `on_bytes` is called in any thread with bytes that EBS has, those of an
    earlier run included; `say` is called with messages for the user.
    """

    ebs: Client
    ec2: Client
    disk: Path
    blocks: BlockMap
    journal: Path
    tags: Mapping[str, str]
    description: str
    parent: Parent | None = None
    kms_key: str = ""
    budget: Budget | None = None
    say: Callable[[str], None] = lambda _: None
    on_bytes: Callable[[int], None] = lambda _: None

    def __post_init__(self) -> None:
        self.region: str = self.ebs.meta.region_name
        self.content, self._journal = self.blocks.content(), Journal(self.journal)

    def run(self) -> str:
        """Upload the disk, and return the id of the completed snapshot.

        Raises Unreachable if EBS stops confirming blocks, NotVerified if the disk differs from its
        list, StageFailed if EBS gives the snapshot up. In every case, and after an interrupt or a
        kill, a second call continues.
        """
        with session.translated(self.region):
            state = self._finished()
            if state is None:
                state = self._begin()
                self._send(state)
                self._seal(state)
        return state.snapshot_id

    def _blocks_to_write(self) -> Iterator[tuple[int, bytes]]:
        return differing(self.blocks, self.parent.blocks if self.parent else None)

    # --- the snapshot -----------------------------------------------------------------------------

    def _finished(self) -> UploadState | None:
        """The state of an earlier run that completed this disk's snapshot, or None."""
        earlier = self._journal.load()
        if earlier is None or not (self._is_of_this_disk(earlier) and earlier.sealed):
            return None
        if self._status(earlier.snapshot_id) != "completed":
            return None
        return earlier

    def _begin(self) -> UploadState:
        """The snapshot to write to: the last run's, if it is pending and of this disk, or a new
        one."""
        self.parent = self._usable(self.parent)
        earlier = self._journal.load()
        if earlier is None:
            return self._start(1)
        if not self._is_of_this_disk(earlier) or earlier.request.parent != self._parent_id():
            former = earlier.snapshot_id or "what was begun before"
            self.say(
                f"{former} is of another disk or parent: a new one is begun, and `golden "
                "sweep` "
                "removes that one when its time is over"
            )
            return self._start(1)
        if not earlier.snapshot_id:
            # The last run was killed around StartSnapshot; its request gives the same snapshot.
            return self._started(earlier)
        status = self._status(earlier.snapshot_id)
        if status == "pending":
            Patience(f"tagged {earlier.snapshot_id}").ask(
                lambda: self.ec2.create_tags(
                    Resources=[earlier.snapshot_id], Tags=to_list(self.tags)
                )
            )
            return earlier
        self.say(
            f"{earlier.snapshot_id}, begun {earlier.started_at}, is {status}: a new snapshot "
            "is begun"
        )
        return self._start(earlier.attempt + 1)

    def _is_of_this_disk(self, state: UploadState) -> bool:
        return (state.region, state.content) == (self.region, self.content)

    def _usable(self, parent: Parent | None) -> Parent | None:
        """The parent, or None if it is not completed or its volume is larger than the disk's."""
        if parent is None:
            return None
        status = self._status(parent.snapshot_id)
        if status == "completed" and parent.blocks.gib <= self.blocks.gib:
            return parent
        why = f"its volume of {parent.blocks.gib} GiB is larger"
        if status != "completed":
            why = f"it is {status}"
        self.say(f"no difference to {parent.snapshot_id}, {why}: the whole disk goes up")
        return None

    def _status(self, snapshot_id: str) -> str:
        """The snapshot's state by EC2 (`pending`, `completed`, `error`), or `gone`."""
        with tolerate("InvalidSnapshot.NotFound", "InvalidSnapshotID.NotFound"):
            answer = Patience(f"described {snapshot_id}").ask(
                lambda: self.ec2.describe_snapshots(SnapshotIds=[snapshot_id])
            )
            for snapshot in answer["Snapshots"]:
                return str(snapshot["State"])
        return "gone"

    def _parent_id(self) -> str:
        return self.parent.snapshot_id if self.parent else ""

    def _start(self, attempt: int) -> UploadState:
        """Begin a new snapshot. The journal has the request before it is sent."""
        # The same disk, region, parent and attempt always have the same token, so that a repeated
        # request gives the same snapshot.
        token = hashlib.sha256(
            f"{self.content} {self.region} {self._parent_id()} {attempt}".encode()
        ).hexdigest()
        block_tags = of_blocks(
            BLOCK * count_to_send(self.blocks, self.parent), self._parent_id() or None
        )
        request = SnapshotRequest(
            volume_gib=self.blocks.gib,
            tags={**self.tags, **block_tags},
            description=self.description,
            timeout_min=PENDING_MIN,
            client_token=token,
            parent=self._parent_id(),
            kms_key="" if self.parent else self.kms_key,
        )
        return self._started(
            self._journal.save(
                UploadState(
                    region=self.region,
                    content=self.content,
                    attempt=attempt,
                    request=request,
                    started_at=clock.stamp(),
                )
            )
        )

    def _started(self, state: UploadState) -> UploadState:
        """Send the request of `state`, and return the state with the snapshot's id.

        If the request's token is used up or EBS refuses the parent, another snapshot is begun.
        """
        try:
            reply = Patience("begun a snapshot").ask(
                lambda: self.ebs.start_snapshot(**_start_arguments(state.request))
            )
            if reply["Status"] == "pending":
                return self._journal.save(
                    state.model_copy(update={"snapshot_id": reply["SnapshotId"]})
                )
        except ClientError as error:
            # The account may have switched encryption by default on since the plan was made, and
            # EBS then refuses an unencrypted parent: the upload does without it.
            if session.code(error) == "ValidationException" and self.parent is not None:
                why = f"EBS refuses it ({error})"
                self.say(
                    f"no difference to {self.parent.snapshot_id}, {why}: the whole disk goes up"
                )
                self.parent = None
                return self._start(1)
            if session.code(error) != "ConflictException" or state.attempt >= MOST_ATTEMPTS:
                raise
        # The token's snapshot is not pending any more, or was requested with other tags by a run
        # whose journal is lost (ConflictException): the next attempt has another token.
        return self._start(state.attempt + 1)

    # --- its blocks -------------------------------------------------------------------------------

    def _send(self, state: UploadState) -> None:
        # A kill may cause the blocks in flight to be sent again: no more than 1 % of the disk.
        in_flight = min(IN_FLIGHT, max(FEWEST_IN_FLIGHT, self.blocks.count() // 100))
        sender = Sender(self.ebs, state.snapshot_id)
        with (
            self._journal.sent(state.snapshot_id, self.blocks.gib) as sent,
            self.disk.open("rb") as source,
        ):

            def work(item: tuple[int, bytes]) -> None:
                index, sha256 = item
                if not sent.has(index, sha256):
                    sender.put(index, sha256, read_block(source.fileno(), index))
                    sent.confirm(index, sha256)
                self.on_bytes(BLOCK)

            WorkerPool(in_flight, self.budget).run(self._blocks_to_write(), work)

    def _seal(self, state: UploadState) -> None:
        """Complete the snapshot, and wait until EC2 shows it as completed."""
        self._journal.save(state.model_copy(update={"sealed": True}))
        count, digest = 0, hashlib.sha256()
        for _index, sha256 in self._blocks_to_write():
            digest.update(sha256)
            count += 1
        limit_s, refused = SEAL_S, None
        try:
            Patience(f"completed {state.snapshot_id}").ask(
                lambda: self.ebs.complete_snapshot(
                    SnapshotId=state.snapshot_id,
                    ChangedBlocksCount=count,
                    ChecksumAlgorithm="SHA256",
                    Checksum=base64.b64encode(digest.digest()).decode(),
                    ChecksumAggregationMethod="LINEAR",
                )
            )
        except ClientError as error:
            # An earlier call, whose answer was lost, may have completed it.
            limit_s, refused = RESEAL_S, error
        self._wait(state.snapshot_id, limit_s, refused)

    def _wait(self, snapshot_id: str, limit_s: float, refused: ClientError | None) -> None:
        began, status = time.monotonic(), ""

        def ended() -> str | None:
            nonlocal status
            status = self._status(snapshot_id)
            return status if status in ("completed", "error") else None

        what = f"EBS completes {snapshot_id} in {self.region}"
        if wait_for(ended, limit_s=limit_s, pauses=growing(*POLLS_S), what=what) == "completed":
            return
        if refused is not None:
            raise refused
        raise StageFailed(
            f"{snapshot_id} is {status} {time.monotonic() - began:.0f} s after it was completed",
            hint="run again: it begins a new snapshot if this one is lost",
        )


def _start_arguments(request: SnapshotRequest) -> dict[str, Any]:
    """The arguments of StartSnapshot."""
    # Empty ones are left out, since `Encrypted` and a parent exclude each other.
    optional = {
        "ParentSnapshotId": request.parent,
        "Encrypted": bool(request.kms_key),
        "KmsKeyArn": request.kms_key,
    }
    return {
        "VolumeSize": request.volume_gib,
        "Tags": to_list(request.tags),
        "Description": request.description,
        "ClientToken": request.client_token,
        "Timeout": request.timeout_min,
        **{name: value for name, value in optional.items() if value},
    }
