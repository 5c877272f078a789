"""The digests of a disk that is still being written. It is hashed right behind the writer, while
its pages are in memory."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from goldenami.core import records
from goldenami.model.builds import disk_blocks
from goldenami.model.builds.disk_blocks import BlockMap


class Abandoned(Exception):
    """The writer failed, so there is nothing to hash."""


class Follower:
    """A hasher that goes as far as `advance` allows."""

    def __init__(self) -> None:
        self._final, self._changed = 0, threading.Condition()
        self._abandoned = False
        self.digest: Future[str] = Future()
        self.blocks: Future[BlockMap] = Future()

    def advance(self, final: int) -> None:
        """No byte below `final` will change any more."""
        with self._changed:
            self._final = max(self._final, final)
            self._changed.notify_all()

    def abandon(self) -> None:
        with self._changed:
            self._abandoned = True
            self._changed.notify_all()

    def wait(self, at: int) -> int:
        """Wait until more than `at` bytes are final, and return how many are. Raises Abandoned if
        the writer failed."""
        with self._changed:
            self._changed.wait_for(lambda: self._final > at or self._abandoned)
            if self._abandoned:
                raise Abandoned
            return self._final

    def result(self, size: int) -> str:
        """Return the hex SHA-256 of all `size` bytes, every one of which is final now. The blocks
        are listed then, too."""
        self.advance(size)
        self.blocks.result()
        return self.digest.result()


@contextlib.contextmanager
def following(disk: Path, blocks: Path) -> Iterator[Follower]:
    """Yield a follower of `disk`, which has its full size already. Its threads end with the block,
    and `blocks` then holds the list of the disk's blocks."""
    follower = Follower()
    with ThreadPoolExecutor(2) as pool:
        follower.digest = pool.submit(records.sha256_sparse, disk, follower.wait)
        follower.blocks = pool.submit(disk_blocks.scan, disk, blocks, follower.wait)
        try:
            yield follower
        finally:
            # Else its threads would wait for ever for a writer that failed.
            follower.abandon()
