"""The package store: a content-addressed folder with the files that locks name.

A file is written aside, checked, fsynced and renamed to its SHA-256. So any number of processes may
fill one store at once, and a killed one leaves nothing half-written.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import urllib3

from goldenami.core import locks
from goldenami.core.cache_paths import CachePaths
from goldenami.core.errors import Busy, HostNotReady, Unreachable, Vanished
from goldenami.core.locks import AT_ONCE, EXCLUSIVE, SHARED
from goldenami.core.records import sha256_file
from goldenami.core.worker_pool import WorkerPool
from goldenami.packages import download
from goldenami.packages.download import Http, Part, Stopped, StoreRequest

PARALLEL = 8
"""Parallel downloads; more were not faster on the 2-core machines on which this was measured."""


class Remote(Protocol):
    """A store that several machines share. Its errors are GoldenErrors. Its files are checked like
    those of a mirror."""

    def get(self, sha256: str, start: int) -> Iterator[bytes] | None:
        """Return the bytes of an object from byte `start` on, or None if it has no such object."""

    def put(self, sha256: str, source: Path) -> bool:
        """Send the object if it is missing there. Return whether it was sent."""


REMOTE = "remote store"
"""Origin of a part that comes from the remote store, in place of an address."""


class Store:
    """The store of the cache in `folder`, with a `remote` one behind it. It is locked as in use
    until it is closed."""

    def __init__(self, folder: Path, *, remote: Remote | None = None) -> None:
        self.cache = CachePaths(folder)
        self.folder = self.cache.store
        self.folder.mkdir(parents=True, exist_ok=True)
        self.remote = remote
        self._use = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(self._use, SHARED)
        self.close = weakref.finalize(self, os.close, self._use)

    def path(self, sha256: str) -> Path:
        # Two hex digits of fan-out keep folders small.
        return self.folder / sha256[:2] / sha256

    def has(self, sha256: str, size: int) -> bool:
        """Whether the store has the object undamaged. Reads it (1 s for 2 GB) and removes a damaged
        one."""
        path = self.path(sha256)
        return path.is_file() and self.check(sha256) and path.stat().st_size == size

    def add(self, source: Path) -> str:
        """Copy a local file into the store and return its SHA-256."""
        digest = sha256_file(source)
        target = self.path(digest)
        if not self.check(digest):
            target.parent.mkdir(exist_ok=True)
            with download.part_of(target, threading.Event()) as part, source.open("rb") as content:
                if part is not None:
                    part.begin("", "")
                    download.fill(part, iter(lambda: content.read(download.CHUNK), b""))
                    part.finish()
        return digest

    def check(self, sha256: str) -> bool:
        """Whether the object is there and its SHA-256 is right. A damaged one is removed."""
        path = self.path(sha256)
        with suppress(FileNotFoundError), path.open("rb") as content:
            if hashlib.file_digest(content, "sha256").hexdigest() == sha256:
                return True
            # Remove only the file that was read: another process may have replaced it meanwhile.
            if path.stat().st_ino == os.fstat(content.fileno()).st_ino:
                path.unlink()
        return False

    def missing(self, requests: Iterable[StoreRequest]) -> list[StoreRequest]:
        wanted = list(requests)
        with ThreadPoolExecutor() as pool:
            is_whole = list(pool.map(lambda item: self.has(item.sha256, item.size), wanted))
        return [item for item, is_good in zip(wanted, is_whole, strict=True) if not is_good]

    def objects(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("??/*") if path.suffix == "")

    def verify(self) -> list[str]:
        """Read all objects, remove the damaged ones and return their digests."""
        digests = self.objects()
        with ThreadPoolExecutor() as pool:
            return [
                name
                for name, is_good in zip(digests, pool.map(self.check, digests), strict=True)
                if not is_good
            ]

    def garbage(self, named: Iterable[str]) -> dict[Path, int]:
        """Return the files that are not among `named`, with their sizes in bytes."""
        kept = set(named)
        return {
            path: path.stat().st_size
            for path in sorted(self.folder.glob("??/*"))
            if path.name not in kept
        }

    def send(self, digests: Iterable[str]) -> list[str]:
        """Send objects to the remote store, and return the digests of those that it lacked."""
        assert self.remote is not None
        return [digest for digest in digests if self.remote.put(digest, self.path(digest))]

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Use the store exclusively during the block. Raises Busy if another process uses it."""
        # flock(2) releases the shared lock before it takes the exclusive one. Only the holder of
        # the second lock file may try that, so nobody else can get the exclusive lock in between,
        # and taking the shared one again never waits.
        try:
            with locks.hold(self.folder / ".alone", EXCLUSIVE | AT_ONCE):
                try:
                    fcntl.flock(self._use, EXCLUSIVE | AT_ONCE)
                    yield
                finally:
                    fcntl.flock(self._use, SHARED)
        except BlockingIOError:
            raise Busy(
                f"another process uses {self.folder}", hint="run again when it has ended"
            ) from None

    def fetch(
        self, requests: Iterable[StoreRequest], on_bytes: Callable[[int], None] = lambda _: None
    ) -> int:
        """Fetch the files that the store lacks, and return their size in bytes. Raises one error
        for all failures. `on_bytes` is called with the number of bytes that arrived."""
        missing = self.missing({item.sha256: item for item in requests}.values())
        stop = threading.Event()

        def on_chunk(size: int) -> None:
            if stop.is_set():
                raise Stopped
            on_bytes(size)

        errors = list[Unreachable]()
        with Http(PARALLEL) as http:

            def have_item(item: StoreRequest) -> None:
                try:
                    self._have(http, item, on_chunk, stop)
                except Vanished as error:
                    # Other files may still be there. Any other error, such as a mirror that is
                    # down, ends all downloads.
                    errors.append(error)

            try:
                WorkerPool(PARALLEL).run(missing, have_item)
            except Unreachable as error:
                errors.insert(0, error)
            finally:
                stop.set()
        if errors:
            message = errors[0].message
            if len(errors) > 1:
                message += f" (and {len(errors) - 1} more files)"
            raise type(errors[0])(message, hint=errors[0].hint)
        return sum(item.size for item in missing)

    def pull(self, requests: Iterable[StoreRequest]) -> None:
        """Fetch files from the remote store only, as for compiled ones, which no mirror has. Files
        that it lacks stay missing."""
        if self.remote is not None:
            for item in self.missing(requests):
                with self._part(item, threading.Event()) as part:
                    if part is not None and self._from_remote(item, part, lambda _: None):
                        part.finish()

    def _have(
        self, http: Http, item: StoreRequest, on_chunk: Callable[[int], None], stop: threading.Event
    ) -> None:
        with self._part(item, stop) as part:
            if part is not None:
                if not self._from_remote(item, part, on_chunk):
                    download.receive(http, item, part, on_chunk)
                part.finish()

    @contextmanager
    def _part(self, item: StoreRequest, stop: threading.Event) -> Iterator[Part | None]:
        """Yield the part of an object, or None if it is complete. A damaged object is removed."""
        target = self.path(item.sha256)
        try:
            target.parent.mkdir(exist_ok=True)
            if target.is_file() and not self.has(item.sha256, item.size):
                target.unlink(missing_ok=True)
            with download.part_of(target, stop) as part:
                yield part
        except urllib3.exceptions.HTTPError as error:
            cause = getattr(error, "reason", None) or error
            raise Unreachable(
                f"{item.address}: {cause}", hint="check the mirror and the network, then run again"
            ) from None
        except OSError as error:
            raise HostNotReady(
                f"the store cannot take {item.name}: {error.strerror}",
                hint=f"free space below {self.folder}, or set GOLDEN_CACHE to a larger disk",
            ) from error

    def _from_remote(self, item: StoreRequest, part: Part, on_chunk: Callable[[int], None]) -> bool:
        """Fill `part` from the remote store. Return False if that has no such object, or a damaged
        one, which then comes from the mirror."""
        if self.remote is None:
            return False
        resumes = part.origin == (REMOTE, item.sha256)
        chunks = self.remote.get(item.sha256, part.size if resumes else 0)
        if chunks is None:
            return False
        if not resumes:
            part.begin(REMOTE, item.sha256)
        download.fill(part, chunks, on_chunk)
        if not part.holds(item):
            part.begin("", "")
        return part.holds(item)
