"""The package store: a content-addressed folder that holds what locks name.

A file appears under its SHA-256 only after its size and content have been checked (written aside,
fsynced, renamed), so any number of processes may fill one store at once and a kill leaves nothing
half-written.
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
"""Downloads in flight; more did not help on the 2-core machines that this was tried on."""


class Remote(Protocol):
    """A store that several machines share. Its errors are GoldenErrors; what it gives is checked
    like a mirror's."""

    def get(self, sha256: str, start: int) -> Iterator[bytes] | None:
        """The bytes of an object from byte `start` on, or None where it has no such object."""

    def put(self, sha256: str, source: Path) -> bool:
        """Have the object; whether it had to be sent."""


REMOTE = "remote store"
"""Where a part is from that the remote store gave."""


class Store:
    """The store of the cache in `folder`, a `remote` one behind it."""

    def __init__(self, folder: Path, *, remote: Remote | None = None) -> None:
        self.cache = CachePaths(folder)
        self.folder = self.cache.store
        self.folder.mkdir(parents=True, exist_ok=True)
        self.remote = remote
        self._use = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(self._use, SHARED)
        self.close = weakref.finalize(self, os.close, self._use)

    def path(self, sha256: str) -> Path:
        """Two hex digits of fan-out keep folders small."""
        return self.folder / sha256[:2] / sha256

    def has(self, sha256: str, size: int) -> bool:
        """Its bytes are read (1 s for 2 GB); an object that is damaged is removed."""
        path = self.path(sha256)
        return path.is_file() and self.check(sha256) and path.stat().st_size == size

    def add(self, source: Path) -> str:
        """Copy a local file in; returns its SHA-256."""
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
        """A corrupted object is removed."""
        path = self.path(sha256)
        with suppress(FileNotFoundError), path.open("rb") as content:
            if hashlib.file_digest(content, "sha256").hexdigest() == sha256:
                return True
            # Only what was read: another process may have put the whole object there meanwhile.
            if path.stat().st_ino == os.fstat(content.fileno()).st_ino:
                path.unlink()
        return False

    def missing(self, requests: Iterable[StoreRequest]) -> list[StoreRequest]:
        todo = list(requests)
        with ThreadPoolExecutor() as pool:
            whole = list(pool.map(lambda item: self.has(item.sha256, item.size), todo))
        return [item for item, good in zip(todo, whole, strict=True) if not good]

    def objects(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("??/*") if path.suffix == "")

    def verify(self) -> list[str]:
        digests = self.objects()
        with ThreadPoolExecutor() as pool:
            return [
                name
                for name, good in zip(digests, pool.map(self.check, digests), strict=True)
                if not good
            ]

    def garbage(self, named: Iterable[str]) -> dict[Path, int]:
        names = set(named)
        return {
            path: path.stat().st_size
            for path in sorted(self.folder.glob("??/*"))
            if path.name not in names
        }

    def send(self, digests: Iterable[str]) -> list[str]:
        """Returns those that the remote store lacked."""
        assert self.remote is not None
        return [digest for digest in digests if self.remote.put(digest, self.path(digest))]

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else uses the store meanwhile; Busy where somebody does.

        flock(2) lets go of the shared lock before it asks for the exclusive one. Only who holds the
        second lock file asks, so meanwhile nobody can be alone, and the shared lock is had again at
        once.
        """
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
        """Returns the bytes fetched. All failures are raised as one error."""
        todo = self.missing({item.sha256: item for item in requests}.values())
        stop = threading.Event()

        def on_chunk(size: int) -> None:
            if stop.is_set():
                raise Stopped
            on_bytes(size)

        gone = list[Unreachable]()
        with Http(PARALLEL) as http:

            def have(item: StoreRequest) -> None:
                try:
                    self._have(http, item, on_chunk, stop)
                except Vanished as error:  # the others may be there; a mirror that is down ends all
                    gone.append(error)

            try:
                WorkerPool(PARALLEL).run(todo, have)
            except Unreachable as error:
                gone.insert(0, error)
            finally:
                stop.set()
        if gone:
            more = f" (and {len(gone) - 1} more files)" if len(gone) > 1 else ""
            raise type(gone[0])(f"{gone[0].message}{more}", hint=gone[0].hint)
        return sum(item.size for item in todo)

    def pull(self, requests: Iterable[StoreRequest]) -> None:
        """What was compiled is nowhere else."""
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
        """An object that is not the item gives way."""
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
        """What it has damaged is fetched from the mirror instead."""
        if self.remote is None:
            return False
        mine = part.origin == (REMOTE, item.sha256)
        chunks = self.remote.get(item.sha256, part.size if mine else 0)
        if chunks is None:
            return False
        if not mine:
            part.begin(REMOTE, item.sha256)
        download.fill(part, chunks, on_chunk)
        if not part.holds(item):
            part.begin("", "")
        return part.holds(item)
