"""One file on its way to the bucket."""

from __future__ import annotations

import io
import os
import stat
import time
from pathlib import Path, PurePosixPath

from golden_keep.bucket import (
    ABSENT,
    PART,
    Bucket,
    Changed,
    Guard,
    Refused,
    Transfer,
    equal,
    same_content,
)
from golden_keep.index import OTHER
from golden_keep.scan import File

TICK_NS = 20_000_000
"""Longer than the clock of a file system stands still."""
LARGE = 1 << 20
"""Bytes of a file that shows how fast the way is."""
MOST_COPIED = 5 << 30
"""Bytes of an object that the bucket copies by one request."""


def beside(path: str, machine: str) -> str:
    """Return the path for a machine's file whose own path another machine's file has."""
    name = PurePosixPath(path)
    return str(name.with_name(f"{name.stem}.{machine}{name.suffix}"))


class Sending:
    """A file that is copied. `beside` is the other's path, where two machines have one each."""

    def __init__(self, bucket: Bucket, top: Path, file: File) -> None:
        self.file, self.transfer, self.beside = file, Transfer(), ""
        self._bucket, self._top, self._opened = bucket, top, -1

    @property
    def left(self) -> int:
        """Bytes."""
        return max(0, self.file.size - self.transfer.moved)

    @property
    def moved_at_full_speed(self) -> int:
        """Bytes that tell how fast the way to the bucket is: a small file waits for answers."""
        return self.transfer.moved if self.file.size >= LARGE else 0

    def run(self, known: tuple[File, str] | None, *, ask: bool) -> tuple[File, str]:
        """Copy the file; return it as it was then with its object's ETag.

        `known` is what the index has of it; `ask` says to look for an object first. Raises Changed,
        Refused or KeepError.
        """
        # O_NONBLOCK: opening a pipe would wait for its writer.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        self._opened = os.open(self._top / self.file.path, flags)
        try:
            if 0 <= time.time_ns() - self.file.ctime_ns < TICK_NS:
                time.sleep(TICK_NS / 1e9)  # or the next change might leave no trace
            self.file = file = self._look()
            if not stat.S_ISREG(file.mode):
                raise Changed
            etag = known[1] if known else None
            if (
                known
                and (known[0].size, known[0].mode) == (file.size, file.mode)
                and self._same(known[1])
            ):
                return file, known[1]
            # Parts are sent before the bucket refuses the whole.
            if file.size > PART or (ask and etag is None):
                return file, self._settle(etag)
            try:
                return file, self._put(file.path, equal(etag) if etag else ABSENT)
            except Refused:
                return file, self._settle(etag)
        finally:
            os.close(self._opened)

    def _settle(self, etag: str | None) -> str:
        """Copy the file beside or over the object that has its name."""
        file, found = self.file, self._bucket.head(self.file.path)
        if found is None:
            return self._put(file.path, ABSENT)
        unknown_but_equal = etag is None and found.mtime_ns == file.mtime_ns
        if found.size == file.size and (unknown_but_equal or self._same(found.etag)):
            return found.etag
        if found.etag == etag or found.machine == self._bucket.machine:
            return self._put(file.path, equal(found.etag))
        if file.mtime_ns > found.mtime_ns and found.size <= MOST_COPIED:
            self.beside = beside(file.path, found.machine)
            self._bucket.copy(found, self.beside)
            return self._put(file.path, equal(found.etag))
        self.beside = beside(file.path, self._bucket.machine)
        self._put(self.beside, {})
        return OTHER

    def _put(self, path: str, condition: dict[str, str]) -> str:
        source: str | io.BytesIO = f"/proc/self/fd/{self._opened}"
        if self.file.size <= PART:
            source = io.BytesIO(os.pread(self._opened, self.file.size, 0))
        return self._bucket.put(
            path, source, self.file, Guard(condition, self.transfer, self._check)
        )

    def _same(self, etag: str) -> bool:
        same = same_content(self._opened, self.file.size, etag)
        self._check()
        return same

    def _look(self) -> File:
        return File.of(self.file.path, os.fstat(self._opened))

    def _check(self) -> None:
        if self._look() != self.file:
            raise Changed
