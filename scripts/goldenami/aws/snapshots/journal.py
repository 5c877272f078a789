"""What an upload has done so far, on disk, so that a killed one continues.

A folder with two files. `upload.json` says what was asked for and which snapshot came of it; it is
written before and after StartSnapshot, by an fsynced rename, because losing it would orphan a
snapshot. `<snapshot>.sent` has a slot for each block, as a BlockMap; a slot is written when EBS has
confirmed the block.

Slots need no fsync: a killed process loses none of them, since the kernel has them; a machine that
loses its power loses some, and those blocks are sent again. A slot lies within one sector, so that
it is there or not; and one that is damaged nevertheless is not the block's SHA-256, and the block
is sent again. No state of the file can lose a block.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from goldenami.core import records
from goldenami.core.errors import BadInput
from goldenami.core.records import Sha256
from goldenami.model.builds.build_records import Utc
from goldenami.model.builds.disk_blocks import PIECE, SLOT, BlockMap

STATE_FILE = "upload.json"


class SnapshotRequest(records.Record):
    """What StartSnapshot is asked, word for word: the same token with other words is refused
    (ConflictException)."""

    volume_gib: int
    tags: dict[str, str]
    description: str
    timeout_min: int
    client_token: str
    parent: str = ""
    kms_key: str = ""


class UploadState(records.Record):
    """One upload. `content` names the disk's bytes; `attempt` counts the snapshots that were begun
    for them."""

    schema_version: Literal[1] = 1
    region: str
    content: Sha256
    attempt: int
    request: SnapshotRequest
    started_at: Utc
    snapshot_id: str = ""
    sealed: bool = False
    """CompleteSnapshot is about to be called, or was."""


class Journal:
    """The journal in `folder`, which is one region's and one build's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self) -> UploadState | None:
        """The state that the last run left, if it can be used."""
        path = self.folder / STATE_FILE
        try:
            return records.read(path, UploadState) if path.exists() else None
        except BadInput:
            # Of another version, or damaged: the snapshot that it named is swept when its tag
            # expires.
            return None

    def save(self, state: UploadState) -> UploadState:
        records.write(self.folder / STATE_FILE, state)
        return state

    def sent(self, snapshot_id: str, gib: int) -> ConfirmedBlocks:
        """The blocks that EBS has confirmed for the snapshot; those of others are forgotten."""
        path = self.folder / f"{snapshot_id}.sent"
        for other in self.folder.glob("*.sent"):
            if other != path:
                other.unlink()
        return ConfirmedBlocks(path, gib)


class ConfirmedBlocks:
    """Confirmed blocks of one snapshot. A context manager; `confirm` may be called by many
    threads."""

    def __init__(self, path: Path, gib: int) -> None:
        self.map = BlockMap(path, gib)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self._lock, self._closed = threading.Lock(), False
        os.ftruncate(self._fd, gib * PIECE * SLOT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        with self._lock:
            self._closed = True
            os.close(self._fd)

    def confirm(self, index: int, sha256: bytes) -> None:
        """EBS has the block. A thread that outlived an interrupt writes nowhere: the number may be
        another file's."""
        with self._lock:
            if not self._closed:
                os.pwrite(self._fd, sha256, index * SLOT)

    def has(self, index: int, sha256: bytes) -> bool:
        return os.pread(self._fd, SLOT, index * SLOT) == sha256
