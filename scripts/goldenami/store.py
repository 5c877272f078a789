"""The package store: a content-addressed folder that holds what locks name.

A file appears under its SHA-256 only after its size and content have been checked (written aside, fsynced,
renamed), so any number of processes may fill one store at once and a kill leaves nothing half-written.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import urllib3
from urllib3.util import Retry

from goldenami.errors import StageFailed, Unreachable, Vanished
from goldenami.records import sha256_file

PARALLEL = 8
"""Downloads in flight; more did not help on the 2-core machines that this was tried on."""
CHUNK = 1 << 20
BODY_TRIES = 3
"""urllib3 repeats a request that failed, but not a body that broke off: that is done here."""
BACKOFF = 0.5
"""Seconds before the second repetition of a request; each further one waits twice as long."""
TIMEOUT = urllib3.Timeout(connect=20, read=30)
"""Seconds without a connection, or without a byte, after which a try counts as failed."""


@dataclass(frozen=True)
class Wanted:
    """A file to have in the store: its SHA-256, size in bytes, where to get it and what to call it."""

    sha256: str
    size: int
    url: str
    name: str


def default_root() -> Path:
    """GOLDEN_CACHE, else the user's cache folder (XDG base directory specification)."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("GOLDEN_CACHE") or Path(base) / "goldenami")


class Store:
    """A store in `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root / "store"
        self.root.mkdir(parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        """Where the object is or would be; two hex digits of fan-out keep folders small."""
        return self.root / sha256[:2] / sha256

    def has(self, sha256: str, size: int) -> bool:
        """Whether the object is present with its full size (content is checked when it enters and by `check`)."""
        try:
            return self.path(sha256).stat().st_size == size
        except FileNotFoundError:
            return False

    def add(self, source: Path) -> str:
        """Copy a local file in; returns its SHA-256."""
        digest = sha256_file(source)
        target = self.path(digest)
        if not target.exists():
            target.parent.mkdir(exist_ok=True)
            aside = target.with_name(f"{digest}.{os.getpid()}.part")
            aside.write_bytes(source.read_bytes())
            aside.replace(target)
        return digest

    def check(self, sha256: str) -> bool:
        """Whether the object's bytes are what its name says; a corrupted one is removed."""
        path = self.path(sha256)
        if path.exists() and sha256_file(path) == sha256:
            return True
        path.unlink(missing_ok=True)
        return False

    def missing(self, wanted: Iterable[Wanted], *, thorough: bool = False) -> list[Wanted]:
        """Those that have to be fetched; `thorough` reads every object and removes damaged ones (1 s for 2 GB)."""
        items = list(wanted)
        with ThreadPoolExecutor() as pool:
            whole = list(pool.map(lambda item: self.has(item.sha256, item.size)
                                  and (not thorough or self.check(item.sha256)), items))
        return [item for item, good in zip(items, whole, strict=True) if not good]

    def objects(self) -> list[str]:
        """The SHA-256 of everything in the store."""
        return sorted(path.name for path in self.root.glob("??/*") if path.suffix == "")

    def verify(self) -> list[str]:
        """Read every object; returns those that were damaged, which are removed."""
        found = self.objects()
        with ThreadPoolExecutor() as pool:
            return [name for name, good in zip(found, pool.map(self.check, found), strict=True) if not good]

    def garbage(self, named: Iterable[str]) -> dict[str, int]:
        """Objects that nothing names, with their bytes."""
        kept = set(named)
        return {name: self.path(name).stat().st_size for name in self.objects() if name not in kept}

    def remove(self, sha256: str) -> None:
        """Delete one object."""
        self.path(sha256).unlink(missing_ok=True)

    def fetch(self, wanted: Iterable[Wanted], on_bytes: Callable[[int], None] = lambda _: None) -> int:
        """Fetch what is missing in parallel; returns the bytes fetched. All failures are raised as one error."""
        todo = self.missing({item.sha256: item for item in wanted}.values())
        self._sweep()
        problems: list[Unreachable] = []
        with urllib3.PoolManager(maxsize=PARALLEL, retries=_retries(), timeout=TIMEOUT) as http, \
                ThreadPoolExecutor(PARALLEL) as pool:
            jobs = {pool.submit(self._download, http, item, on_bytes): item for item in todo}
            try:
                for job in as_completed(jobs):
                    if job.cancelled():
                        continue
                    problem = job.exception()
                    if isinstance(problem, Unreachable):
                        problems.append(problem)
                        if not isinstance(problem, Vanished):  # the rest would only wait for the same mirror
                            for other in jobs:
                                other.cancel()
                    elif problem is not None:
                        raise problem
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        if problems:
            raise _worst(problems)
        return sum(item.size for item in todo)

    def _sweep(self) -> None:
        """Remove what killed processes left half-written."""
        for part in self.root.glob("*/*.part"):
            if not Path(f"/proc/{part.suffixes[-2][1:]}").exists():
                part.unlink(missing_ok=True)

    def _download(self, http: urllib3.PoolManager, item: Wanted, on_bytes: Callable[[int], None]) -> None:
        target = self.path(item.sha256)
        target.parent.mkdir(exist_ok=True)
        aside = target.with_name(f"{item.sha256}.{os.getpid()}.part")
        try:
            for left in reversed(range(BODY_TRIES)):
                try:
                    self._receive(http, item, aside, on_bytes)
                    break
                except (urllib3.exceptions.ProtocolError, urllib3.exceptions.ReadTimeoutError):
                    if not left:
                        raise
            aside.replace(target)
        except urllib3.exceptions.HTTPError as error:
            cause = getattr(error, "reason", None) or error
            raise Unreachable(f"{item.url}: {cause}", hint="check the mirror and the network, then run again") from None
        except OSError as error:
            raise StageFailed(f"the store cannot take {item.name}: {error.strerror}",
                              hint=f"free space below {self.root}, or set GOLDEN_CACHE to a larger disk") from error
        finally:
            aside.unlink(missing_ok=True)

    def _receive(self, http: urllib3.PoolManager, item: Wanted, aside: Path, on_bytes: Callable[[int], None]) -> None:
        digest, size = hashlib.sha256(), 0
        with http.request("GET", item.url, preload_content=False) as reply, aside.open("wb") as sink:
            if reply.status in (404, 410):
                raise Vanished(f"{item.name} is no longer at {item.url}",
                               hint="upstream replaced it: `make lock` takes its successor")
            if reply.status != 200:
                raise Unreachable(f"{item.url} answered {reply.status}", hint="check the mirror, then run again")
            for chunk in reply.stream(CHUNK):
                digest.update(chunk)
                size += len(chunk)
                sink.write(chunk)
                on_bytes(len(chunk))
            sink.flush()
            os.fsync(sink.fileno())
        if size != item.size or digest.hexdigest() != item.sha256:
            raise Unreachable(f"{item.url}: {size} bytes with SHA-256 {digest.hexdigest()[:12]}, expected {item.size} "
                              f"with {item.sha256[:12]}", hint="the mirror serves something else than the lock names")


def _retries() -> Retry:
    """Four tries with growing pauses; 404 is an answer, not a fault."""
    return Retry(total=3, backoff_factor=BACKOFF, status_forcelist=(429, 500, 502, 503, 504), raise_on_status=False)


def _worst(problems: list[Unreachable]) -> Unreachable:
    """One error for many: a mirror that is down outranks single vanished files."""
    first = next((problem for problem in problems if not isinstance(problem, Vanished)), problems[0])
    more = f" (and {len(problems) - 1} more files)" if len(problems) > 1 else ""
    return type(first)(f"{first.message}{more}", hint=first.hint)
