"""HTTP/1.1 as the EBS direct calls use it: requests read into one buffer, refusals worded."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

KEY_ID, SECRET = "AKIASINK000000000000", "not-a-secret"


class Refused(Exception):
    """An answer other than success."""

    def __init__(self, status: int, code: str, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.reason = status, code, message, reason


@dataclass
class Request:
    """One request. `block` is the body's buffer, which the connection uses again."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: memoryview


def refusal(request: Request, refused: Refused) -> tuple[int, dict[str, str], bytes]:
    """An error as EC2 (XML) or EBS direct (JSON) words it."""
    if request.path == "/":
        text = (
            f"<Response><Errors><Error><Code>{refused.code}</Code><Message>{escape(refused.message)}</Message>"
            "</Error></Errors><RequestID>0</RequestID></Response>"
        )
        return refused.status, {"Content-Type": "text/xml"}, text.encode()
    body = {"Message": refused.message} | ({"Reason": refused.reason} if refused.reason else {})
    return refused.status, {"x-amzn-ErrorType": refused.code}, json.dumps(body).encode()


def receive(
    connection: socket.socket, buffer: bytearray,
    cut: Callable[[str], int | None] = lambda _method: None,
) -> Request | None:
    """The next request; its body stays in `buffer`. None when the client has closed."""
    view, have = memoryview(buffer), 0
    while (end := buffer.find(b"\r\n\r\n", 0, have)) < 0:
        got = connection.recv_into(view[have:have + 65536] if have else view[:65536])
        if not got:
            return None
        have += got
    first, *lines = bytes(view[:end]).decode("latin-1").split("\r\n")
    method, target, _version = first.split(" ")
    headers = {name.lower(): value.strip()
               for name, _colon, value in (line.partition(":") for line in lines)}
    start, length = end + 4, int(headers.get("content-length", "0"))
    if headers.get("expect", "").lower() == "100-continue":
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    broken = cut(method)
    while have < start + length:
        got = connection.recv_into(view[have:start + length])
        if not got or (broken is not None and have + got > start + broken):
            raise ConnectionError
        have += got
    parts = urlsplit(target)
    query = {key: values[0]
             for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
    return Request(method, unquote(parts.path), query, headers, view[start:start + length])
