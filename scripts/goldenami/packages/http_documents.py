"""Small documents over HTTP or from a file, with limits of bytes, redirects and time. Every failure
is an Unreachable."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import urllib3
from urllib3.util import Retry

from goldenami.core.errors import Unreachable
from goldenami.core.web_address import without_login
from goldenami.packages import download, mirrors

LIMIT = 32 << 20
"""Largest size of a document in bytes. NVIDIA's list has about 100 KB, the largest project page of
PyPI some MB."""
REDIRECTS = 5
TIMEOUT = urllib3.Timeout(connect=10, read=20)
"""Seconds after which a try without a connection, or without a further byte, fails."""
DEADLINE_S = 60
"""Seconds for a whole document: a server that sends one byte a second must not block a run."""
CHUNK = 1 << 16
_FAILURES = (urllib3.exceptions.HTTPError, ValueError)
"""Exceptions of a failed request. ValueError means a malformed address, of the document or of the
proxy in the environment."""


class NotThere(Unreachable):
    """The server has no such document (404)."""


@dataclass(frozen=True)
class Document:
    """A document's bytes, and the day of its last change, or None if the server does not say."""

    data: bytes
    changed: date | None

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    def json(self, where: str) -> Any:
        try:
            return json.loads(self.data)
        except (ValueError, RecursionError) as error:
            raise Unreachable(
                f"{where} is not JSON: {error}", hint="is it truncated, or an error page?"
            ) from None


def read(
    where: str,
    *,
    limit: int = LIMIT,
    headers: Mapping[str, str] | None = None,
    deadline_s: float | None = None,
) -> Document:
    """Return the document at a URL or a path. Raises Unreachable for any failure.
    `deadline_s` limits the seconds for the whole document."""
    if not where.startswith(("http://", "https://")):
        return _file(Path(where.removeprefix("file://")), limit)
    with _answer("GET", where, headers) as (address, reply):
        _check_there(where, reply)
        data = _bounded(reply, address, limit, DEADLINE_S if deadline_s is None else deadline_s)
        return Document(data, _day(reply.headers.get("Last-Modified")))


@dataclass(frozen=True)
class RemoteFile:
    """A file of any size: its length in bytes, and its hex SHA-256, or "" if it was not read."""

    size: int
    sha256: str = ""


def remote_file(where: str, *, size: int | None = None) -> RemoteFile:
    """Return the length that the server states, with the SHA-256 if it equals `size`. The bytes
    are read for that, but not kept."""
    with _answer("GET", where) as (address, reply):
        _check_there(where, reply)
        stated = reply.headers.get("Content-Length") or ""
        if not stated.isdecimal():
            raise Unreachable(
                f"{address} states no length", hint="put a copy on a server that does"
            )
        if int(stated) != size:
            return RemoteFile(int(stated))
        digest = hashlib.sha256()
        for chunk in reply.stream(CHUNK, decode_content=False):
            digest.update(chunk)
        return RemoteFile(size, digest.hexdigest())


def changed(where: str) -> date | None:
    """Return the day of the document's last change, or None if the server does not say."""
    return _day(_head(where).get("Last-Modified"))


def length(where: str) -> int | None:
    """Return the document's length in bytes, or None if the server does not say."""
    stated = _head(where).get("Content-Length", "")
    return int(stated) if stated.isdecimal() else None


def _head(where: str) -> Mapping[str, str]:
    with _answer("HEAD", where) as (_, reply):
        if reply.status in mirrors.REFUSALS:
            _check_there(where, reply)
        return reply.headers if reply.status == 200 else {}


@contextmanager
def _answer(
    method: str,
    where: str,
    headers: Mapping[str, str] | None = None,
) -> Iterator[tuple[str, urllib3.BaseHTTPResponse]]:
    try:
        where, login = without_login(where)
        # Not compressed, so that the limit on transferred bytes is one on memory, too.
        sent = {"Accept-Encoding": "identity", "User-Agent": "goldenami", **(headers or {})}
        if login:
            sent["Authorization"] = login
        with (
            _pool(where) as http,
            http.request(method, where, preload_content=False, headers=sent) as reply,
        ):
            yield where, reply
    except _FAILURES as error:
        raise _unreachable(where, error) from None


def _check_there(where: str, reply: urllib3.BaseHTTPResponse) -> None:
    if reply.status == 200:
        return
    where, login = without_login(where)
    message = f"{where} answered {reply.status}"
    if reply.status in mirrors.REFUSALS:
        raise mirrors.refused(message, has_login=bool(login))
    kind = NotThere if reply.status == 404 else Unreachable
    raise kind(message, hint="check the address, then run again")


def post(url: str, body: Any, *, name: str) -> None:
    """Send JSON. The address may hold a secret, so errors call it `name`. Raises Unreachable, which
    says so if the message may have arrived."""
    try:
        with _pool(url, redirects=0) as http:
            reply = http.request("POST", url, json=body)
    except (urllib3.exceptions.ReadTimeoutError, urllib3.exceptions.ProtocolError):
        raise Unreachable(
            f"{name} took the message and did not answer", hint="look whether it arrived"
        ) from None
    except _FAILURES as error:
        cause = getattr(error, "reason", None) or error
        raise Unreachable(
            f"{name} could not be reached ({type(cause).__name__})",
            hint="check the address in the environment and the network",
        ) from None
    if not 200 <= reply.status < 300:
        raise Unreachable(
            f"{name} answered {reply.status}", hint="is the address in the environment still valid?"
        )


def _pool(url: str, redirects: int = REDIRECTS) -> urllib3.PoolManager:
    retries = Retry(
        total=None,
        connect=1,
        read=1,
        redirect=redirects,
        status=2,
        other=0,
        backoff_factor=0.5,
        status_forcelist=(429, 500, 502, 503, 504),
        raise_on_status=False,
    )
    options: dict[str, Any] = {"retries": retries, "timeout": TIMEOUT}
    proxy = mirrors.proxy(url)
    if proxy:
        return download.through_proxy(proxy, **options)
    return urllib3.PoolManager(**options)


def _bounded(reply: urllib3.BaseHTTPResponse, where: str, limit: int, deadline_s: float) -> bytes:
    too_large = Unreachable(
        f"{where} is larger than {limit >> 20} MiB", hint="is this the right address?"
    )
    stated = reply.headers.get("Content-Length") or "0"
    if not stated.isdecimal():
        raise Unreachable(
            f"{where} states a length that is none: {stated[:40]!r}", hint="check the address"
        )
    if int(stated) > limit:
        raise too_large
    data, began = bytearray(), time.monotonic()
    # `read1` returns the bytes that have arrived. `stream` would wait for a full CHUNK, and the
    # deadline with it.
    while chunk := reply.read1(CHUNK, decode_content=False):
        data += chunk
        if len(data) > limit:
            raise too_large
        if time.monotonic() - began > deadline_s:
            raise Unreachable(
                f"{where} sent {len(data)} bytes in {deadline_s:.0f} s", hint="run again later"
            )
    return bytes(data)


def _file(path: Path, limit: int) -> Document:
    try:
        with path.open("rb") as source:
            data = source.read(limit + 1)
        when = datetime.fromtimestamp(path.stat().st_mtime, UTC).date()
    except OSError as error:
        raise Unreachable(f"{path}: {error.strerror}", hint="check the path") from None
    if len(data) > limit:
        raise Unreachable(
            f"{path} is larger than {limit >> 20} MiB", hint="is this the right file?"
        )
    return Document(data, when)


def _day(text: str | None) -> date | None:
    if not text:
        return None
    try:
        return parsedate_to_datetime(text).date()
    except ValueError:
        return None


def _unreachable(where: str, error: Exception) -> Unreachable:
    cause = getattr(error, "reason", None) or error
    if isinstance(cause, urllib3.exceptions.ResponseError):
        return Unreachable(f"{where}: {cause}", hint="the server redirects in a circle, or fails")
    # urllib3's message begins with `HTTPSConnection(host=..., ...): `: the address has the host.
    return Unreachable(
        f"{where}: {str(cause).partition('): ')[2] or cause}",
        hint="check the address and the network, then run again",
    )
