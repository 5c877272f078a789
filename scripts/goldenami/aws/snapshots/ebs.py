"""A disk becomes an EBS snapshot by the EBS direct APIs: no builder instance, only the blocks that
are needed.

`count_to_send` says how much, `upload` sends it. A killed upload continues where it was (see
`journal`); a second call after a finished one sends nothing and returns the same snapshot.

Sources: EBS direct APIs, https://docs.aws.amazon.com/ebs/latest/userguide/writesnapshots.html and
https://docs.aws.amazon.com/ebs/latest/APIReference/API_PutSnapshotBlock.html.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
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


@dataclass(frozen=True)
class Encryption:
    """Encrypt with `kms_key` (an ARN; empty: the account's default key). A child is encrypted as
    its parent is."""

    kms_key: str = ""


@dataclass(frozen=True)
class UploadedSnapshot:
    """A completed snapshot; `blocks_sent` went out in this run."""

    id: str
    blocks_sent: int


def count_to_send(blocks: BlockMap, parent: Parent | None = None) -> int:
    """How many blocks `upload` would send, zeros that replace a parent's data among them."""
    return sum(1 for _ in differing(blocks, parent.blocks if parent else None))


def in_flight_of(blocks: int) -> int:
    """Blocks under way at once for a disk of so many: those are what a kill may cause to be sent
    again, and that shall be no more than 1 % of the disk."""
    return min(IN_FLIGHT, max(FEWEST_IN_FLIGHT, blocks // 100))


def upload(
    ebs: Client, ec2: Client, disk: Path, blocks: BlockMap, *, journal: Path,
    tags: Mapping[str, str],
    description: str, parent: Parent | None = None, encryption: Encryption | None = None,
    in_flight: int | None = None, budget: Budget | None = None,
    say: Callable[[str], None] = lambda _: None,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> UploadedSnapshot:
    """Have a completed snapshot of `disk`, whose bake listed its `blocks`, in the region of the
    clients.

    `journal` is a folder of this build and region; what an earlier run confirmed is not sent again.
    `tags` replace those of a snapshot that an earlier run began. `budget` is shared with other
    uploads. `on_bytes` is told of bytes that are there, those of an earlier run included, in any
    thread; `say` gets what a person has to know. Raises Unreachable when EBS stops confirming
    blocks, NotVerified when the disk is not as it was listed, StageFailed when EBS gives the
    snapshot up; in every case, and on an interrupt or a kill, a second call continues.
    """
    work = _Upload(ebs, ec2, disk, blocks, Journal(journal), dict(tags), description, parent,
                   encryption, say)
    with session.translated(work.region):
        state, sent = work.finished(), 0
        if state is None:
            state = work.begin()
            pool = WorkerPool(in_flight or in_flight_of(blocks.count()), budget)
            sent = work.send(state, pool, on_bytes)
            work.seal(state)
    return UploadedSnapshot(state.snapshot_id, sent)


class _Upload:
    """The steps of `upload`, which share what it was given."""

    def __init__(
        self, ebs: Client, ec2: Client, disk: Path, blocks: BlockMap, journal: Journal,
        tags: dict[str, str],
        description: str, parent: Parent | None, encryption: Encryption | None,
        say: Callable[[str], None],
    ) -> None:
        self.ebs, self.ec2, self.disk, self.blocks, self.journal = ebs, ec2, disk, blocks, journal
        self.tags, self.description, self.parent = tags, description, parent
        self.encryption, self.say = encryption, say
        self.region: str = ebs.meta.region_name
        self.content = blocks.content()

    def blocks_to_write(self) -> Iterator[tuple[int, bytes]]:
        """The blocks to write."""
        return differing(self.blocks, self.parent.blocks if self.parent else None)

    # --- the snapshot -----------------------------------------------------------------------------------------------

    def finished(self) -> UploadState | None:
        """What an earlier run completed, if EC2 has it still."""
        earlier = self.journal.load()
        if earlier is None or not (self._is_of_this_disk(earlier) and earlier.sealed):
            return None
        return earlier if self.status(earlier.snapshot_id) == "completed" else None

    def begin(self) -> UploadState:
        """The snapshot to write to: that of the run before, if it is of the same disk and still
        there, or a new one."""
        self.parent = self._usable(self.parent)
        earlier = self.journal.load()
        if earlier is None:
            return self._start(1)
        if not self._is_of_this_disk(earlier) or earlier.request.parent != self._parent_id():
            begun = earlier.snapshot_id or "what was begun before"
            self.say(f"{begun} is of another disk or parent: a new one is begun, and `golden "
                     "sweep` "
                     "removes that one when its time is over")
            return self._start(1)
        if not earlier.snapshot_id:
            # Killed around StartSnapshot: the same words give the same snapshot.
            return self._started(earlier)
        status = self.status(earlier.snapshot_id)
        if status == "pending":
            Patience(f"tagged {earlier.snapshot_id}").ask(lambda: self.ec2.create_tags(
                Resources=[earlier.snapshot_id], Tags=to_list(self.tags)))
            return earlier
        self.say(f"{earlier.snapshot_id}, begun {earlier.started_at}, is {status}: a new snapshot "
                 "is begun")
        return self._start(earlier.attempt + 1)

    def _is_of_this_disk(self, state: UploadState) -> bool:
        return (state.region, state.content) == (self.region, self.content)

    def _usable(self, parent: Parent | None) -> Parent | None:
        if parent is None:
            return None
        status = self.status(parent.snapshot_id)
        if status == "completed" and parent.blocks.gib <= self.blocks.gib:
            return parent
        why = (
            f"it is {status}"
            if status != "completed"
            else f"its volume of {parent.blocks.gib} GiB is larger"
        )
        self.say(f"no difference to {parent.snapshot_id}, {why}: the whole disk goes up")
        return None

    def status(self, snapshot_id: str) -> str:
        """The snapshot's state in EC2's words (`pending`, `completed`, `error`), or `gone`."""
        with tolerate("InvalidSnapshot.NotFound", "InvalidSnapshotID.NotFound"):
            answer = Patience(f"described {snapshot_id}").ask(
                lambda: self.ec2.describe_snapshots(SnapshotIds=[snapshot_id]))
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
        encrypted = self.encryption is not None and self.parent is None
        own = of_blocks(BLOCK * count_to_send(self.blocks, self.parent),
                        self._parent_id() or None)
        request = SnapshotRequest(
            volume_gib=self.blocks.gib, tags={**self.tags, **own}, description=self.description,
            timeout_min=PENDING_MIN, client_token=token, parent=self._parent_id(),
            encrypted=encrypted,
            kms_key=self.encryption.kms_key if self.encryption and encrypted else "",
        )
        return self._started(self.journal.save(UploadState(
            region=self.region, content=self.content, attempt=attempt, request=request,
            started_at=clock.stamp())))

    def _started(self, state: UploadState) -> UploadState:
        """Ask for the snapshot, in the words of `state`.

        A token whose snapshot was asked for in other words (by a run whose journal is lost: its
        tags differ), or is not pending any more, is used up: the next attempt's token is another. A
        parent that EBS refuses (encryption by default may have been switched on since the plan) is
        done without.
        """
        try:
            reply = Patience("begun a snapshot").ask(
                lambda: self.ebs.start_snapshot(**_start_arguments(state.request)))
            if reply["Status"] == "pending":
                return self.journal.save(
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

    # --- its blocks -------------------------------------------------------------------------------------------------

    def send(self, state: UploadState, pool: WorkerPool, on_bytes: Callable[[int], None]) -> int:
        """Send what EBS has not confirmed; returns the number of blocks."""
        count = itertools.count()
        sender = Sender(self.ebs, state.snapshot_id)
        with (
            self.journal.sent(state.snapshot_id, self.blocks.gib) as sent,
            self.disk.open("rb") as source,
        ):

            def work(item: tuple[int, bytes]) -> None:
                index, sha256 = item
                if not sent.has(index, sha256):
                    sender.put(index, sha256, read_block(source.fileno(), index))
                    sent.confirm(index, sha256)
                    next(count)
                on_bytes(BLOCK)

            pool.run(self.blocks_to_write(), work)
        return next(count)

    def seal(self, state: UploadState) -> None:
        """Complete the snapshot and wait until EC2 shows it so."""
        self.journal.save(state.model_copy(update={"sealed": True}))
        count, digest = 0, hashlib.sha256()
        for _index, sha256 in self.blocks_to_write():
            digest.update(sha256)
            count += 1
        limit_s, refused = SEAL_S, None
        try:
            Patience(f"completed {state.snapshot_id}").ask(lambda: self.ebs.complete_snapshot(
                SnapshotId=state.snapshot_id, ChangedBlocksCount=count, ChecksumAlgorithm="SHA256",
                Checksum=base64.b64encode(digest.digest()).decode(),
                ChecksumAggregationMethod="LINEAR"))
        except ClientError as error:
            limit_s, refused = RESEAL_S, error  # a call whose answer was lost may have sealed it
        self._wait(state.snapshot_id, limit_s, refused)

    def _wait(self, snapshot_id: str, limit_s: float, refused: ClientError | None) -> None:
        began, status = time.monotonic(), ""

        def ended() -> str | None:
            nonlocal status
            status = self.status(snapshot_id)
            return status if status in ("completed", "error") else None

        if wait_for(ended, limit_s=limit_s, pauses=growing(*POLLS_S)) == "completed":
            return
        if refused is not None:
            raise refused
        raise StageFailed(f"{snapshot_id} is {status} {time.monotonic() - began:.0f} s after it "
                          "was completed",
                          hint="run again: it begins a new snapshot if this one is lost")


def _start_arguments(request: SnapshotRequest) -> dict[str, Any]:
    """StartSnapshot's parameters; empty ones are left out, since `Encrypted` and a parent exclude
    each other."""
    optional = {"ParentSnapshotId": request.parent, "Encrypted": request.encrypted,
                "KmsKeyArn": request.kms_key}
    return {
        "VolumeSize": request.volume_gib, "Tags": to_list(request.tags),
        "Description": request.description,
        "ClientToken": request.client_token, "Timeout": request.timeout_min,
        **{name: value for name, value in optional.items() if value},
    }
