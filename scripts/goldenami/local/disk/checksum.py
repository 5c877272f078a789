"""The SHA-256 of a disk that is still being written: hashed right behind the writer, while its pages are in memory.

A disk is hashed in one piece, on one core, for as long as it takes to write its files on the other.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from goldenami.core import records


class Abandoned(Exception):
    """The writer failed, so there is nothing to hash."""


class Follower:
    """Hashes as far as `advance` allows; `result` is the digest of the whole file."""

    def __init__(self) -> None:
        self._final, self._changed = 0, threading.Condition()
        self._abandoned = False
        self.digest: Future[str] = Future()

    def advance(self, final: int) -> None:
        """No byte below `final` will change any more."""
        with self._changed:
            self._final = max(self._final, final)
            self._changed.notify()

    def abandon(self) -> None:
        """There will be no more."""
        with self._changed:
            self._abandoned = True
            self._changed.notify()

    def wait(self, at: int) -> int:
        """Wait until more than `at` bytes are final; returns how many."""
        with self._changed:
            self._changed.wait_for(lambda: self._final > at or self._abandoned)
            if self._abandoned:
                raise Abandoned
            return self._final

    def result(self, size: int) -> str:
        """Hex SHA-256 of all `size` bytes, every one of which is final now."""
        self.advance(size)
        return self.digest.result()


@contextlib.contextmanager
def following(disk: Path) -> Iterator[Follower]:
    """A follower of `disk`, which has its full size already; its thread ends with the block."""
    follower = Follower()
    with ThreadPoolExecutor(1) as pool:
        follower.digest = pool.submit(records.sha256_sparse, disk, follower.wait)
        try:
            yield follower
        finally:
            follower.abandon()
