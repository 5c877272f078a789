"""Storage for blocks of snapshots, each stored once, in an unnamed file: it needs little memory and
ends with the process."""

from __future__ import annotations

import os
import tempfile
import threading
import weakref

BLOCK = 524288
"""Bytes of a block (EBS direct APIs: "the block size is 512 KiB",
https://docs.aws.amazon.com/ebs/latest/userguide/ebs-accessing-snapshot.html)."""


class BlockStore:
    """Blocks by their SHA-256 digests."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - open as long as the process
        weakref.finalize(self, self._file.close)
        self._slots: dict[bytes, int] = {}
        self._lock = threading.Lock()

    def put(self, digest: bytes, data: bytes) -> None:
        """Keep one block of exactly `BLOCK` bytes."""
        with self._lock:
            slot = self._slots.get(digest)
            if slot is not None:
                return
            slot = len(self._slots)
            os.pwrite(self._file.fileno(), data, slot * BLOCK)
            self._slots[digest] = slot

    def get(self, digest: bytes) -> bytes:
        # No lock: a digest gets its slot after its block is written, and a slot never changes.
        return os.pread(self._file.fileno(), BLOCK, self._slots[digest] * BLOCK)

    def clear(self) -> None:
        with self._lock:
            self._slots.clear()
            self._file.truncate(0)
