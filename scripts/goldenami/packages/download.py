"""One file over HTTP, resumable: what a killed or broken transfer left is continued, if it is still
the same file.

A part stands beside its target and is locked while a process writes to it, so that a second one
that wants the same file waits for the first instead of fetching it again; the lock ends with the
process. Beside it a note says what the part is of: a server that has another file by now (If-Range,
RFC 9110 section 13.1.5) sends that from its beginning. The target appears by rename, after its size
and SHA-256 were checked.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

import urllib3
from urllib3.util import Retry

from goldenami.core.errors import Replaced, Unreachable, Vanished
from goldenami.core.web_address import without_login
from goldenami.packages import mirrors

CHUNK = 1 << 16
"""Bytes read at once: what a kill may cost of what had arrived."""
BODY_TRIES = 3
"""urllib3 repeats a request that failed, but not a body that broke off: that is done here."""
BACKOFF = 0.5
"""Seconds before the second repetition of a request; each further one waits twice as long."""
TIMEOUT = urllib3.Timeout(connect=20, read=30)
"""Seconds without a connection, or without a byte, after which a try counts as failed."""
WAIT_S = 0.2
"""Seconds between two looks at a part that another process holds."""
PART, NOTE = ".part", ".from"


@dataclass(frozen=True)
class StoreRequest:
    """A file to have: its SHA-256, size in bytes, where to get it and what to call it."""

    sha256: str
    size: int
    url: str
    name: str

    @property
    def address(self) -> str:
        """Without a login that it may hold."""
        return without_login(self.url)[0]


class Stopped(Exception):
    """The caller gave up meanwhile; what arrived so far is kept."""


class Http:
    """Connections to mirrors, by the proxies that apt would take."""

    def __init__(self, connections: int) -> None:
        self._options: dict[str, Any] = {
            "maxsize": connections,
            "retries": _retries(),
            "timeout": TIMEOUT,
        }
        self._pools: dict[str | None, urllib3.PoolManager] = {
            None: urllib3.PoolManager(**self._options)
        }
        self._lock = threading.Lock()

    def __enter__(self) -> Http:
        return self

    def __exit__(self, *_: object) -> None:
        for pool in self._pools.values():
            pool.clear()

    def get(self, url: str, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        url, login = without_login(url)
        headers = headers | ({"Authorization": login} if login else {})
        through = mirrors.proxy(url)
        with self._lock:
            if through not in self._pools:
                self._pools[through] = through_proxy(str(through), **self._options)
        return self._pools[through].request("GET", url, headers=headers, preload_content=False)


def through_proxy(proxy: str, **options: Any) -> urllib3.ProxyManager:
    """Connections through `proxy`, whose address may hold a name and a password."""
    parts = urlsplit(proxy)
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
    address = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return urllib3.ProxyManager(
        address, proxy_headers=urllib3.make_headers(proxy_basic_auth=login), **options
    )


def _retries() -> Retry:
    """Four tries with growing pauses; 404 is an answer, not a fault."""
    return Retry(
        total=3,
        backoff_factor=BACKOFF,
        status_forcelist=(429, 500, 502, 503, 504),
        raise_on_status=False,
    )


class Part:
    """What has arrived of a file: `size` bytes with the running `digest`, from what `origin` says
    (address, version).

    It is locked, and belongs to this process, while it is open. `fresh`: nothing in it is from an
    earlier one.
    """

    def __init__(self, target: Path, file: BinaryIO) -> None:
        self.target, self._file = target, file
        self._note = target.with_name(target.name + NOTE)
        file.seek(0)
        self.digest, self.size = hashlib.sha256(), 0
        while chunk := file.read(CHUNK):
            self.digest.update(chunk)
            self.size += len(chunk)
        lines = self._note.read_text(encoding="utf-8").splitlines() if self._note.is_file() else []
        self.origin = (lines[0], lines[1]) if len(lines) == 2 else ("", "")
        self.fresh = False

    def begin(self, address: str, version: str) -> None:
        self._file.seek(0)
        self._file.truncate()
        self.digest, self.size, self.origin, self.fresh = (
            hashlib.sha256(),
            0,
            (address, version),
            True,
        )
        self._note.write_text(f"{address}\n{version}\n", encoding="utf-8")

    def append(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self.digest.update(chunk)
        self.size += len(chunk)

    def holds(self, item: StoreRequest) -> bool:
        return self.size == item.size and self.digest.hexdigest() == item.sha256

    def finish(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._path.replace(self.target)
        self._note.unlink(missing_ok=True)

    def discard(self) -> None:
        self._path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    @property
    def _path(self) -> Path:
        return self.target.with_name(self.target.name + PART)


@contextlib.contextmanager
def part_of(target: Path, stop: threading.Event) -> Iterator[Part | None]:
    """The part of `target` for this process alone; None where another has completed it meanwhile. A
    part that is empty, or that the disk had no room for, is removed."""
    with _locked(target.with_name(target.name + PART), stop) as file:
        part = Part(target, file)
        if target.is_file():
            part.discard()
            yield None
            return
        try:
            yield part
        except OSError:
            part.discard()
            raise
        finally:
            if not part.size:
                part.discard()


@contextlib.contextmanager
def _locked(path: Path, stop: threading.Event) -> Iterator[BinaryIO]:
    while True:
        with path.open("ab+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if stop.wait(WAIT_S):
                    raise Stopped from None
                continue
            if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                yield file
                return  # else the one before us renamed or removed it


def receive(http: Http, item: StoreRequest, part: Part, on_chunk: Callable[[int], None]) -> None:
    """Complete `part`; Vanished, or Unreachable where what came is not the item."""
    _body(http, item, part, on_chunk)
    # What an earlier transfer had left was of something else after all.
    if not part.fresh and not part.holds(item):
        part.begin("", "")
        _body(http, item, part, on_chunk)
    if not part.holds(item):
        digest, size = part.digest.hexdigest(), part.size
        part.begin("", "")
        raise Replaced(
            f"{item.address}: {size} bytes with SHA-256 {digest[:12]}, expected "
            f"{item.size} with {item.sha256[:12]}",
            hint="the mirror serves something else than the lock names",
        )


def _body(http: Http, item: StoreRequest, part: Part, on_chunk: Callable[[int], None]) -> None:
    for left in reversed(range(BODY_TRIES)):
        try:
            return _transfer(http, item, part, on_chunk)
        except (urllib3.exceptions.ProtocolError, urllib3.exceptions.ReadTimeoutError):
            if not left:
                raise


def _transfer(http: Http, item: StoreRequest, part: Part, on_chunk: Callable[[int], None]) -> None:
    if part.holds(item):
        return
    address, version = part.origin
    rest = 0 < part.size < item.size and address == item.address and version != ""
    headers = {"Range": f"bytes={part.size}-", "If-Range": version} if rest else {}
    with http.get(item.url, {"Accept-Encoding": "identity", **headers}) as reply:
        if reply.status in (404, 410):
            raise Vanished(
                f"{item.name} is no longer at {item.address}",
                hint="upstream replaced it: `make lock` takes its successor",
            )
        if rest and (
            reply.status == 416 or (reply.status == 206 and not _continues(reply, part.size))
        ):
            part.begin("", "")
            raise urllib3.exceptions.ProtocolError("another range than the one that was asked for")
        if reply.status not in ((200, 206) if rest else (200,)):
            raise Unreachable(
                f"{item.address} answered {reply.status}", hint="check the mirror, then run again"
            )
        if reply.status == 200:
            part.begin(item.address, _version(reply))
        fill(part, _bounded(reply, part, item), on_chunk)


def _bounded(reply: urllib3.BaseHTTPResponse, part: Part, item: StoreRequest) -> Iterator[bytes]:
    """Up to where it is larger than the item. What an index lists is the file as it is sent."""
    for chunk in reply.stream(CHUNK, decode_content=False):
        yield chunk
        if part.size > item.size:
            return


def fill(
    part: Part, chunks: Iterable[bytes], on_chunk: Callable[[int], None] = lambda _: None
) -> None:
    """Append what arrives, telling how many bytes each time."""
    for chunk in chunks:
        part.append(chunk)
        on_chunk(len(chunk))


def _continues(reply: urllib3.BaseHTTPResponse, size: int) -> bool:
    return re.match(rf"bytes {size}-", reply.headers.get("Content-Range", "")) is not None


def _version(reply: urllib3.BaseHTTPResponse) -> str:
    """ "" where the server does not say it strongly."""
    etag = reply.headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else reply.headers.get("Last-Modified", "")
