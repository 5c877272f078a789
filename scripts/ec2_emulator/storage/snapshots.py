"""Snapshots with content: blocks of 512 KiB by index, a parent for the rest, and real states."""

from __future__ import annotations

import base64
import hashlib
import time
from dataclasses import dataclass
from typing import Any

from moto.ec2.exceptions import InvalidSnapshotIdError
from moto.ec2.models import ec2_backends
from moto.ec2.models.elastic_block_store import Snapshot
from moto.ec2.utils import random_snapshot_id

from ec2_emulator.rules import rule
from ec2_emulator.state import STATE
from ec2_emulator.storage.block_store import BLOCK

BLOCKS_PER_GIB = 2**30 // BLOCK


@dataclass(frozen=True)
class NoVolume:
    """Stands for the volume of a snapshot that was not made from a volume: AWS shows this id."""

    size: int
    id: str = "vol-ffffffff"
    snapshot_id: str | None = None


class EmulatedSnapshot(Snapshot):
    """A snapshot. moto makes one from a volume, with the blocks that the volume has at that time;
    StartSnapshot makes one that waits for blocks. It is encrypted like its parent."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        source = getattr(self.volume, "snapshot_id", None)
        self.parent = find(self.ec2_backend, source) if source else None
        self.start_time = STATE.creation_date()
        # A copy: the volume may be written to later.
        self.written: dict[int, bytes] = dict(vars(self.volume).get("written", {}))
        if self.parent is not None and self.parent.encrypted:
            self.encrypted, self.kms_key_id = True, self.parent.kms_key_id
        self.sealed_at: float | None = time.monotonic()
        self.touched_at = time.monotonic()
        self.timeout_s = 60 * 60.0

    @property
    def status(self) -> str:
        """Return `pending` until the snapshot is sealed and for `pending_s` after that, or `error`
        if nobody wrote to it before its timeout."""
        if self.sealed_at is None:
            return pending_until_complete(self)
        return (
            "completed"
            if STATE.is_over(self.sealed_at, lambda settings: settings.pending_s)
            else "pending"
        )

    @status.setter
    def status(self, _value: str) -> None:
        """Do nothing: moto sets `completed` at once."""

    def content(self) -> dict[int, bytes]:
        """Return the digest, by index, of every block that is not known to be zero."""
        # A child's own blocks hide its parent's.
        inherited = self.parent.content() if self.parent is not None else {}
        return dict(sorted({**inherited, **self.written}.items()))

    def digest(self, index: int) -> bytes | None:
        written = self.written.get(index)
        return written if written is not None or self.parent is None else self.parent.digest(index)

    def lineage(self) -> set[str]:
        return {self.id} | (self.parent.lineage() if self.parent is not None else set())

    def blocks(self) -> int:
        return int(self.volume_size) * BLOCKS_PER_GIB

    @property
    def full_snapshot_size_in_bytes(self) -> int:
        return len(self.content()) * BLOCK


def find(backend: Any, snapshot_id: str) -> EmulatedSnapshot | None:
    """Return a snapshot of the backend's region, or None. It may be another account's, as an
    instance of a shared AMI needs that account's snapshot."""
    for owner in [backend.account_id, *ec2_backends]:
        if snapshot_id in ec2_backends[owner][backend.region_name].snapshots:
            snapshot = ec2_backends[owner][backend.region_name].snapshots[snapshot_id]
            return snapshot if isinstance(snapshot, EmulatedSnapshot) else None
    return None


def get_snapshot(self: Any, snapshot_id: str) -> EmulatedSnapshot:
    """Replaces moto's, which finds only the account's own snapshots."""
    snapshot = find(self, snapshot_id)
    if snapshot is None:
        raise InvalidSnapshotIdError
    return snapshot


def make(
    backend: Any,
    size_gib: int,
    description: str,
    *,
    parent: EmulatedSnapshot | None = None,
    kms_key: str | None = None,
) -> EmulatedSnapshot:
    """Make a snapshot in `backend` that comes from no volume."""
    snapshot = EmulatedSnapshot(
        backend,
        random_snapshot_id(),
        NoVolume(size_gib),
        description,
        encrypted=kms_key is not None,
        kms_key_id=kms_key,
    )
    snapshot.parent = parent
    backend.snapshots[snapshot.id] = snapshot
    return snapshot


@rule
def pending_until_complete(snapshot: EmulatedSnapshot) -> str:
    """A snapshot that was started is pending until it is completed, and is cancelled if nobody
    writes to it for the time of Timeout."""
    return "error" if time.monotonic() - snapshot.touched_at > snapshot.timeout_s else "pending"


def linear_checksum(written: dict[int, bytes]) -> str:
    """Return the checksum of a snapshot: that of its blocks' checksums, in ascending order of their
    index."""
    # AWS's own tools, such as coldsnap, join the digests themselves, not their Base64.
    return base64.b64encode(
        hashlib.sha256(b"".join(written[index] for index in sorted(written))).digest()
    ).decode()
