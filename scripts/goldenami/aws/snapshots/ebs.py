"""A disk becomes an EBS snapshot by the EBS direct APIs: no builder instance, only the blocks that
are needed.

A killed upload continues where it was (see
`journal`); a second call after a finished one sends nothing and returns the same snapshot.

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
"""Blocks under way at once, at most, over all regions of a publish (`Budget`). Where EBS takes 100
ms for one they are 640 a second, 335 MB/s. Twice as many would be more than a snapshot may be sent
(1,000 a second; EBS quotas, PutSnapshotBlock)."""
FEWEST_IN_FLIGHT = 8
PENDING_MIN = 1440
"""Minutes that EBS keeps a snapshot to which nobody writes (StartSnapshot: Timeout, default 60): a
run that was killed may be continued until the next day."""
SEAL_S = 3600
"""Seconds that a snapshot may take from CompleteSnapshot to `completed`."""
RESEAL_S = 60
"""The same, where CompleteSnapshot was refused: an earlier call, whose answer was lost, may have
done it."""
POLLS_S = (0.25, 1.5, 15.0)
"""Pauses in seconds between looks at a sealed snapshot: the first, its growth, the longest."""
MOST_ATTEMPTS = 100
"""Snapshots begun for one disk in one region; each that was deleted, expired or begun by a lost run
costs one."""


@dataclass(frozen=True)
class Parent:
    """A snapshot of the same region that holds an older disk, and that disk's blocks."""

    snapshot_id: str
    blocks: BlockMap


def count_to_send(blocks: BlockMap, parent: Parent | None = None) -> int:
    """How many blocks an upload would send, zeros that replace a parent's data among them."""
    return sum(1 for _ in differing(blocks, parent.blocks if parent else None))


@dataclass
class Upload:
    """What is to be a completed snapshot: a `disk`, whose bake listed its `blocks`, in the region
    of the clients.

    `journal` is a folder of this build and region; what an earlier run confirmed is not sent again.
    `tags` replace those of a snapshot that an earlier run began. `kms_key` (an ARN) encrypts it;
    a child is encrypted as its parent is. `budget` is shared with other uploads. `on_bytes` is told
    of bytes that are there, those of an earlier run included, in any thread; `say` gets what a
    person has to know.
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
        """The id of the completed snapshot.

        Raises Unreachable when EBS stops confirming blocks, NotVerified when the disk is not as it
        was listed, StageFailed when EBS gives the snapshot up; in every case, and on an interrupt
        or a kill, a second call continues.
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
        earlier = self._journal.load()
        if earlier is None or not (self._is_of_this_disk(earlier) and earlier.sealed):
            return None
        return earlier if self._status(earlier.snapshot_id) == "completed" else None

    def _begin(self) -> UploadState:
        """The snapshot to write to: that of the run before, if it is of this disk and there, or a
        new one."""
        self.parent = self._usable(self.parent)
        earlier = self._journal.load()
        if earlier is None:
            return self._start(1)
        if not self._is_of_this_disk(earlier) or earlier.request.parent != self._parent_id():
            begun = earlier.snapshot_id or "what was begun before"
            self.say(
                f"{begun} is of another disk or parent: a new one is begun, and `golden "
                "sweep` "
                "removes that one when its time is over"
            )
            return self._start(1)
        if not earlier.snapshot_id:
            # Killed around StartSnapshot: the same words give the same snapshot.
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
        if parent is None:
            return None
        status = self._status(parent.snapshot_id)
        if status == "completed" and parent.blocks.gib <= self.blocks.gib:
            return parent
        why = (
            f"it is {status}"
            if status != "completed"
            else f"its volume of {parent.blocks.gib} GiB is larger"
        )
        self.say(f"no difference to {parent.snapshot_id}, {why}: the whole disk goes up")
        return None

    def _status(self, snapshot_id: str) -> str:
        """The snapshot's state in EC2's words (`pending`, `completed`, `error`), or `gone`."""
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
        """A new snapshot. What is asked for is kept before it is asked."""
        token = hashlib.sha256(
            f"{self.content} {self.region} {self._parent_id()} {attempt}".encode()
        ).hexdigest()
        own = of_blocks(BLOCK * count_to_send(self.blocks, self.parent), self._parent_id() or None)
        request = SnapshotRequest(
            volume_gib=self.blocks.gib,
            tags={**self.tags, **own},
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
        """Ask for the snapshot, in the words of `state`.

        A token whose snapshot was asked for in other words (by a run whose journal is lost: its
        tags differ), or is not pending any more, is used up: the next attempt's token is another. A
        parent that EBS refuses (encryption by default may have been switched on since the plan) is
        done without.
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
            if session.code(error) == "ValidationException" and self.parent is not None:
                why = f"EBS refuses it ({error})"
                self.say(
                    f"no difference to {self.parent.snapshot_id}, {why}: the whole disk goes up"
                )
                self.parent = None
                return self._start(1)
            if session.code(error) != "ConflictException" or state.attempt >= MOST_ATTEMPTS:
                raise
        return self._start(state.attempt + 1)

    # --- its blocks -------------------------------------------------------------------------------

    def _send(self, state: UploadState) -> None:
        # Those in flight are what a kill may cause to be sent again: no more than 1 % of the disk.
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
        """Complete the snapshot and wait until EC2 shows it so."""
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
            limit_s, refused = RESEAL_S, error  # a call whose answer was lost may have sealed it
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
    """Empty parameters are left out, since `Encrypted` and a parent exclude each other."""
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
