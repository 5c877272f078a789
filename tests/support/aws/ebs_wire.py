"""HTTP/1.1 as the EBS direct calls use it: requests read into one buffer, AWS's signature checked,
refusals worded."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, unquote, urlsplit
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


def check_signature(request: Request) -> None:
    """AWS signature version 4, computed anew (IAM user guide, "Create a signed AWS API
    request")."""
    given = re.fullmatch(r"AWS4-HMAC-SHA256 Credential=(\S+?)/(\d+)/([a-z0-9-]+)/([a-z0-9]+)/aws4_request, "
                         r"SignedHeaders=(\S+), Signature=([0-9a-f]{64})",
                         request.headers.get("authorization", ""))
    if given is None or given[1] != KEY_ID:
        raise Refused(403, "UnrecognizedClientException", "no signature, or of unknown keys")
    signed = given[5].split(";")
    must = {"host", "x-amz-date"} | {name for name in request.headers if name.startswith("x-amz-")}
    if not must <= set(signed):
        raise Refused(403, "InvalidSignatureException",
                      f"unsigned headers: {sorted(must - set(signed))}")
    hashed = request.headers.get("x-amz-content-sha256") or hashlib.sha256(request.body).hexdigest()
    if hashed not in ("UNSIGNED-PAYLOAD", hashlib.sha256(request.body).hexdigest()):
        raise Refused(403, "InvalidSignatureException", "the payload is not what was signed")
    query = "&".join(f"{quote(key, safe='')}={quote(value, safe='')}"
                     for key, value in sorted(request.query.items()))
    lines = [request.method, quote(request.path, safe="/-_.~"), query,
             *(f"{name}:{' '.join(request.headers[name].split())}" for name in signed), "",
             given[5], hashed]
    scope = "/".join([given[2], given[3], given[4], "aws4_request"])
    text = "\n".join(["AWS4-HMAC-SHA256", request.headers["x-amz-date"], scope,
                      hashlib.sha256("\n".join(lines).encode()).hexdigest()])
    key = b"AWS4" + SECRET.encode()
    for part in (*scope.split("/"), text):
        key = hmac.digest(key, part.encode(), "sha256")
    if key.hex() != given[6]:
        raise Refused(403, "InvalidSignatureException", "the signature does not match")
