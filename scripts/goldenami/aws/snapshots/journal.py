"""The progress of an upload on disk, so that a killed upload can continue.

It is a folder with two files. `upload.json` has the request and the snapshot that came of it. It is
written before and after StartSnapshot, by an fsynced rename, because losing it would orphan a
snapshot. `<snapshot>.sent` has a slot for each block, as a BlockMap; a slot is written when EBS has
confirmed the block.

Slots need no fsync. If the process is killed, the kernel still has them; if the machine loses its
power, some are lost and those blocks are sent again. A slot lies within one sector, so it is
written whole or not at all. Even a damaged slot only differs from the block's SHA-256, and the
block is sent again. No state of the file can lose a block.
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
    """The request to StartSnapshot, kept exactly: EBS refuses the same token with other arguments
    (ConflictException)."""

    volume_gib: int
    tags: dict[str, str]
    description: str
    timeout_min: int
    client_token: str
    parent: str = ""
    kms_key: str = ""


class UploadState(records.Record):
    """The state of an upload. `content` identifies the disk's bytes; `attempt` counts the snapshots
    that were begun for them."""

    schema_version: Literal[1] = 1
    region: str
    content: Sha256
    attempt: int
    request: SnapshotRequest
    started_at: Utc
    snapshot_id: str = ""
    sealed: bool = False
    """True from just before CompleteSnapshot is called."""


class Journal:
    """The journal in `folder`, which is for one region and one build."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self) -> UploadState | None:
        """The state that the last run left, or None if there is none or it cannot be read."""
        path = self.folder / STATE_FILE
        try:
            return records.read(path, UploadState) if path.exists() else None
        except BadInput:
            # Another schema version, or damaged. `golden sweep` removes its snapshot when that has
            # expired.
            return None

    def save(self, state: UploadState) -> UploadState:
        records.write(self.folder / STATE_FILE, state)
        return state

    def sent(self, snapshot_id: str, gib: int) -> ConfirmedBlocks:
        """The blocks that EBS has confirmed for the snapshot. Files of other snapshots are
        removed."""
        path = self.folder / f"{snapshot_id}.sent"
        for sent_file in self.folder.glob("*.sent"):
            if sent_file != path:
                sent_file.unlink()
        return ConfirmedBlocks(path, gib)


class ConfirmedBlocks:
    """The confirmed blocks of one snapshot, as a context manager. Many threads may call
    `confirm`."""

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
        """Note that EBS has the block."""
        with self._lock:
            # A thread may outlive an interrupt, and the descriptor may be another file's by then.
            if not self._closed:
                os.pwrite(self._fd, sha256, index * SLOT)

    def has(self, index: int, sha256: bytes) -> bool:
        """Whether EBS has confirmed the block with this SHA-256."""
        return os.pread(self._fd, SLOT, index * SLOT) == sha256
