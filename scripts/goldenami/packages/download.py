"""Resumable download of one file over HTTP.

A killed or broken transfer leaves a part beside the target. The part is locked while a process
writes to it: a second process that wants the same file waits for the first instead of fetching it
again. The kernel releases the lock when the process ends. A note beside the part has its address
and version, for If-Range (RFC 9110 section 13.1.5): a server that has another file by now sends
that from its beginning. The part is renamed to the target after its size and SHA-256 were checked.
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
"""Bytes read at once; a kill may lose so many of those that had arrived."""
BODY_TRIES = 3
"""Tries for a body that breaks off. urllib3 repeats only requests that failed, not these."""
BACKOFF = 0.5
"""Seconds before the second repetition of a request. Each further one waits twice as long."""
TIMEOUT = urllib3.Timeout(connect=20, read=30)
"""Seconds after which a try without a connection, or without a further byte, fails."""
WAIT_S = 0.2
"""Seconds between two tries to lock a part that another process holds."""
PART, NOTE = ".part", ".from"


@dataclass(frozen=True)
class StoreRequest:
    """A file that the store shall have. `size` is in bytes, `name` is for messages."""

    sha256: str
    size: int
    url: str
    name: str

    @property
    def address(self) -> str:
        """The URL without its login."""
        return without_login(self.url)[0]


class Stopped(Exception):
    """The caller gave up meanwhile. The bytes that arrived so far are kept."""


class Http:
    """Connections to mirrors, through the proxies that apt would take."""

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
        if login:
            headers = headers | {"Authorization": login}
        proxy_url = mirrors.proxy(url)
        with self._lock:
            if proxy_url not in self._pools:
                self._pools[proxy_url] = through_proxy(str(proxy_url), **self._options)
        return self._pools[proxy_url].request("GET", url, headers=headers, preload_content=False)


def through_proxy(proxy: str, **options: Any) -> urllib3.ProxyManager:
    """Return connections through `proxy`, whose address may hold a user and a password."""
    parts = urlsplit(proxy)
    login = None
    if parts.username:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    address = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return urllib3.ProxyManager(
        address, proxy_headers=urllib3.make_headers(proxy_basic_auth=login), **options
    )


def _retries() -> Retry:
    """Return urllib3's policy: four tries with growing pauses."""
    # 404 is not in the list: it is an answer, not a fault.
    return Retry(
        total=3,
        backoff_factor=BACKOFF,
        status_forcelist=(429, 500, 502, 503, 504),
        raise_on_status=False,
    )


class Part:
    """The bytes of a file that have arrived: `size` bytes with the running `digest`. They are from
    `origin` (address, version).

    It is locked for this process while it is open. `fresh` is true if no byte is from an earlier
    process.
    """

    def __init__(self, target: Path, file: BinaryIO) -> None:
        self.target, self._file = target, file
        self._note = target.with_name(target.name + NOTE)
        file.seek(0)
        self.digest, self.size = hashlib.sha256(), 0
        while chunk := file.read(CHUNK):
            self.digest.update(chunk)
            self.size += len(chunk)
        self.origin = _noted_origin(self._note)
        self.fresh = False

    def begin(self, address: str, version: str) -> None:
        """Drop what has arrived, and start again from another origin."""
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


def _noted_origin(note: Path) -> tuple[str, str]:
    """Return the origin in a part's note, or two "" if there is no whole note."""
    if not note.is_file():
        return "", ""
    lines = note.read_text(encoding="utf-8").splitlines()
    if len(lines) != 2:
        return "", ""
    return lines[0], lines[1]


@contextlib.contextmanager
def part_of(target: Path, stop: threading.Event) -> Iterator[Part | None]:
    """Yield the part of `target`, locked for this process, or None if another process completed the
    target meanwhile. An empty part is removed, and one for which the disk had no room."""
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
                return
            # The process before us renamed or removed the file that we locked: open the new one.


def receive(http: Http, item: StoreRequest, part: Part, on_chunk: Callable[[int], None]) -> None:
    """Complete `part`. Raises Vanished if the server has no such file, Replaced if it sends another
    one, Unreachable for any other failure."""
    _body(http, item, part, on_chunk)
    # The bytes that an earlier transfer had left were of another file after all.
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
    for tries_left in reversed(range(BODY_TRIES)):
        try:
            return _transfer(http, item, part, on_chunk)
        except (urllib3.exceptions.ProtocolError, urllib3.exceptions.ReadTimeoutError):
            if not tries_left:
                raise


def _transfer(http: Http, item: StoreRequest, part: Part, on_chunk: Callable[[int], None]) -> None:
    if part.holds(item):
        return
    address, version = part.origin
    # Without a strong version nobody can tell whether the rest would be of the same file.
    resumes = 0 < part.size < item.size and address == item.address and version != ""
    headers, accepted = {"Accept-Encoding": "identity"}, [200]
    if resumes:
        headers |= {"Range": f"bytes={part.size}-", "If-Range": version}
        accepted.append(206)
    with http.get(item.url, headers) as reply:
        if reply.status in (404, 410):
            raise Vanished(
                f"{item.name} is no longer at {item.address}",
                hint="upstream replaced it: `make lock` takes its successor",
            )
        # Raised as a body that broke off, so that `_body` asks for the whole file.
        if resumes and (
            reply.status == 416 or (reply.status == 206 and not _continues(reply, part.size))
        ):
            part.begin("", "")
            raise urllib3.exceptions.ProtocolError("another range than the one that was asked for")
        if reply.status in mirrors.REFUSALS:
            raise mirrors.refused(
                f"{item.address} answered {reply.status}", has_login=item.url != item.address
            )
        if reply.status not in accepted:
            raise Unreachable(
                f"{item.address} answered {reply.status}", hint="check the mirror, then run again"
            )
        if reply.status == 200:
            part.begin(item.address, _version(reply))
        fill(part, _bounded(reply, part, item), on_chunk)


def _bounded(reply: urllib3.BaseHTTPResponse, part: Part, item: StoreRequest) -> Iterator[bytes]:
    """Yield the body's chunks, and stop once there are more bytes than the item has."""
    # Not decoded: an index lists size and SHA-256 of the file as it is sent.
    for chunk in reply.stream(CHUNK, decode_content=False):
        yield chunk
        if part.size > item.size:
            return


def fill(
    part: Part, chunks: Iterable[bytes], on_chunk: Callable[[int], None] = lambda _: None
) -> None:
    """Append the chunks to `part`, and call `on_chunk` with the bytes of each."""
    for chunk in chunks:
        part.append(chunk)
        on_chunk(len(chunk))


def _continues(reply: urllib3.BaseHTTPResponse, size: int) -> bool:
    return re.match(rf"bytes {size}-", reply.headers.get("Content-Range", "")) is not None


def _version(reply: urllib3.BaseHTTPResponse) -> str:
    """Return the file's version: a strong ETag or the date of its last change, else ""."""
    etag = reply.headers.get("ETag", "")
    if etag and not etag.startswith("W/"):
        return etag
    return reply.headers.get("Last-Modified", "")
