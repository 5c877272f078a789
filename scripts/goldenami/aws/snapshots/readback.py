"""A snapshot read back and compared with the disk that it should hold, block by block.

Every block that the snapshot lists is fetched and hashed here: EBS's own checksum would only say that EBS is at one
with itself. A block that is not listed is zeros.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from goldenami.aws import session
from goldenami.aws.snapshots.fetch import IN_FLIGHT, SnapshotSource
from goldenami.core.errors import GoldenError
from goldenami.core.worker_pool import WorkerPool
from goldenami.model.builds.build_records import Outcome
from goldenami.model.builds.disk_blocks import EMPTY, PIECE, SLOT, ZEROS_SHA256, BlockMap
from goldenami.model.builds.sparse_disk import BLOCK, ZEROS

READS = 3
"""Times that a block is read before it counts as different: what a network damages is no fault of the snapshot."""
SHOWN = 8
"""Indexes that a message names of each kind of difference."""
_NO_SNAPSHOT = frozenset({"ResourceNotFoundException", "InvalidSnapshot.NotFound"})


@dataclass
class _Difference:
    """Blocks of one kind: how many, and the first of them."""

    count: int = 0
    first: list[int] = field(default_factory=list)

    def add(self, index: int) -> None:
        """Note a block."""
        self.count += 1
        if len(self.first) < SHOWN:
            self.first.append(index)

    def text(self, one: str, many: str) -> str:
        """`3 blocks differ (7, 8, 9)`, or nothing."""
        if not self.count:
            return ""
        more = ", ..." if self.count > len(self.first) else ""
        what = f"block {one}" if self.count == 1 else f"blocks {many}"
        return f"{self.count} {what} ({', '.join(map(str, sorted(self.first)))}{more})"


def scan_snapshot(
    source: SnapshotSource, listed: Iterable[tuple[int, str]], target: Path,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> BlockMap:
    """Read and hash the blocks that `source` listed into `target`: the file is equal to that of the disk's own blocks.
    """
    blocks = BlockMap.create(target, source.gib)
    with target.open("r+b") as sink:

        def note(item: tuple[int, str]) -> None:
            index, data = item[0], source.block(*item)
            if data != ZEROS:
                os.pwrite(sink.fileno(), hashlib.sha256(data).digest(), index * SLOT)
            on_bytes(BLOCK)

        source.pool.run(listed, note)
    return blocks


@dataclass(frozen=True)
class Readback:
    """What a snapshot holds against a disk. `detail` says what differs or why nobody could look."""

    snapshot_id: str
    outcome: Outcome
    blocks_read: int
    seconds: float
    detail: str = ""


def verify(
    ebs: Any, snapshot_id: str, blocks: BlockMap, *, in_flight: int = IN_FLIGHT,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> Readback:
    """Read the whole snapshot and compare it with `blocks`.

    `correct`: every byte is the disk's. `incorrect`: a block differs, is missing or is there without need. `missing`:
    there is no such snapshot. `unreachable`: it could not be read to its end, whatever the reason.
    """
    began, reading = time.monotonic(), _Reading(ebs, snapshot_id, blocks, in_flight, on_bytes)
    try:
        with session.translated(ebs.meta.region_name):
            outcome, detail = reading.compare()
    except GoldenError as error:
        outcome, detail = Outcome.UNREACHABLE, f"{error.message}; {error.hint}"
    return Readback(snapshot_id, outcome, reading.count, time.monotonic() - began, detail)


class _Reading:
    """One comparison."""

    def __init__(
        self, ebs: Any, snapshot_id: str, blocks: BlockMap, in_flight: int, on_bytes: Callable[[int], None],
    ) -> None:
        self.ebs, self.id, self.blocks, self.on_bytes = ebs, snapshot_id, blocks, on_bytes
        self.pool, self.count, self.gib = WorkerPool(in_flight), 0, blocks.gib
        self.wrong, self.extra, self.absent = _Difference(), _Difference(), _Difference()
        self.source, self._lock = SnapshotSource(ebs, snapshot_id, self.pool), threading.Lock()

    def compare(self) -> tuple[Outcome, str]:
        """The outcome and its detail."""
        listed = bytearray(self.blocks.gib * PIECE)
        with self.blocks.path.open("rb") as slots:
            try:
                self.pool.run(self._listed(listed), lambda item: self._check(item, slots.fileno()))
            except ClientError as error:
                if session.code(error) in _NO_SNAPSHOT:
                    return Outcome.MISSING, f"{self.id} does not exist in {self.ebs.meta.region_name}"
                raise
        for index, _sha256 in self.blocks:
            if not listed[index]:
                self.absent.add(index)
        problems = [self.wrong.text("differs", "differ"), self.absent.text("is missing", "are missing"),
                    self.extra.text("should be zeros", "should be zeros")]
        if self.gib != self.blocks.gib:
            problems.append(f"the volume has {self.gib} GiB, the disk needs {self.blocks.gib}")
        detail = "; ".join(text for text in problems if text)
        return (Outcome.INCORRECT if detail else Outcome.CORRECT), detail

    def _listed(self, listed: bytearray) -> Iterator[tuple[int, str]]:
        """Index and token of each block that the snapshot lists; they are noted in `listed`."""
        for index, token in self.source.listed():
            if index < len(listed):
                listed[index] = 1
            yield index, token
        self.gib = self.source.gib

    def _check(self, item: tuple[int, str], slots: int) -> None:
        index, token = item
        slot = os.pread(slots, SLOT, index * SLOT)  # nothing behind the volume's end
        expected = ZEROS_SHA256 if slot in (EMPTY, b"") else slot
        is_equal = any(hashlib.sha256(self.source.block(index, token)).digest() == expected for _ in range(READS))
        with self._lock:
            self.count += 1
            if not is_equal:
                (self.extra if expected == ZEROS_SHA256 else self.wrong).add(index)
        self.on_bytes(BLOCK)
