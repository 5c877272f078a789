"""A server on loopback that accepts the EBS direct calls and nothing else, strictly, for tests.

It checks what AWS checks, but for the signature, which is botocore's: lengths, checksums, counts,
states, tokens. It answers the two calls of EC2 that an upload makes, too (DescribeSnapshots,
CreateTags). Faults are the test's own: `Faults`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import socket
import ssl
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from support.aws.door import Door
from support.aws.ebs_wire import KEY_ID, SECRET, Refused, Request, receive, refusal

BLOCK = 524288
PER_GIB = 2048
PAGE = 1000


def invalid(message: str, reason: str = "INVALID_PARAMETER_VALUE") -> Refused:
    return Refused(400, "ValidationException", message, reason)


def lost(snapshot: str) -> Refused:
    return Refused(404, "ResourceNotFoundException", f"The snapshot '{snapshot}' does not exist.",
                   "SNAPSHOT_NOT_FOUND")


@dataclass
class Snap:
    """A snapshot: blocks as (offset in the file of blocks, SHA-256)."""

    id: str
    gib: int
    parent: str
    tags: dict[str, str]
    asked: str
    state: str = "pending"
    blocks: dict[int, tuple[int, bytes]] = field(default_factory=dict)


@dataclass
class Faults:
    """What goes wrong. The callables get the action and the number of the call among those of its
    action.

    `before` may raise Refused, or return False to close the connection unanswered; `after` the
    same, when the call has taken effect. `cut` gets the number of the PUT and says after how many
    bytes of its body the connection breaks.
    """

    before: Callable[[str, int], bool | None] = lambda _action, _count: None
    after: Callable[[str, int], bool | None] = lambda _action, _count: None
    cut: Callable[[int], int | None] = lambda _count: None
    latency_s: float = 0.0
    seal_s: float = 0.0


class Sink:
    """The account: snapshots, what was called, what goes wrong."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.faults, self._tls = Faults(), tls
        self.snaps: dict[str, Snap] = {}
        self.calls: Counter[str] = Counter()
        self.stored: Counter[tuple[str, int]] = Counter()
        """How often each block was stored: what was sent twice."""
        self.heads = 0
        """PUTs whose headers have come."""
        self.retired: set[str] = set()
        """Deleted snapshots: their tokens go on naming them."""
        self._tokens: dict[str, str] = {}
        self._lock = threading.Lock()
        self._block_file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the sink
        self._used = 0
        self.door = Door(self._serve)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.door.port}"

    def close(self) -> None:
        self.door.close()
        self._block_file.close()

    def environment(self) -> dict[str, str]:
        """What makes a client come here."""
        return {"AWS_ENDPOINT_URL": self.url, "AWS_ACCESS_KEY_ID": KEY_ID,
                "AWS_SECRET_ACCESS_KEY": SECRET,
                "AWS_DEFAULT_REGION": "us-east-1", "AWS_REGION": "us-east-1",
                "AWS_EC2_METADATA_DISABLED": "true"}

    # --- what a test looks at ---------------------------------------------------------------------------------------

    def read(self, snapshot: str, index: int) -> bytes:
        """A block as a volume would show it: the snapshot's own, its parent's, or zeros."""
        snap: Snap | None = self.snaps[snapshot]
        while snap is not None:
            if index in snap.blocks:
                return os.pread(self._block_file.fileno(), BLOCK, snap.blocks[index][0])
            snap = self.snaps.get(snap.parent)
        return bytes(BLOCK)

    def differences(self, snapshot: str, disk: Path) -> list[int]:
        """Blocks in which the volume differs from the disk, zeros behind the disk's end
        included."""
        known, snap = set(), self.snaps.get(snapshot)
        while snap is not None:
            known |= set(snap.blocks)
            snap = self.snaps.get(snap.parent)
        size = disk.stat().st_size
        assert -(-size // BLOCK) <= self.snaps[snapshot].gib * PER_GIB, "the volume is too small"
        with disk.open("rb") as source:
            at = 0
            while at < size:  # what the file holds; the rest of it is holes, which are zeros
                try:
                    at = os.lseek(source.fileno(), at, os.SEEK_DATA)
                except OSError:
                    break
                end = os.lseek(source.fileno(), at, os.SEEK_HOLE)
                known |= set(range(at // BLOCK, -(-end // BLOCK)))
                at = end
            return [index for index in sorted(known) if self.read(snapshot, index) !=
                    os.pread(source.fileno(), BLOCK, index * BLOCK).ljust(BLOCK, b"\0")]

    def flip(self, snapshot: str, index: int, bit: int) -> None:
        """Damage one bit of a stored block."""
        at, _sha256 = self.snaps[snapshot].blocks[index]
        old = os.pread(self._block_file.fileno(), 1, at + bit // 8)
        os.pwrite(self._block_file.fileno(), bytes([old[0] ^ 1 << bit % 8]), at + bit // 8)

    def delete(self, snapshot: str) -> None:
        with self._lock:
            del self.snaps[snapshot]
            self.retired.add(snapshot)

    # --- the actions ------------------------------------------------------------------------------------------------

    def _snap(self, name: str) -> Snap:
        if name not in self.snaps:
            raise lost(name)
        return self.snaps[name]

    def start(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        asked = json.loads(bytes(request.body))
        gib, parent, token = (
            asked.get("VolumeSize"),
            asked.get("ParentSnapshotId", ""),
            asked.get("ClientToken", ""),
        )
        if not isinstance(gib, int) or not 1 <= gib <= 65536:
            raise invalid("VolumeSize", "INVALID_VOLUME_SIZE")
        if not 10 <= asked.get("Timeout", 60) <= 4320 or len(asked.get("Tags", [])) > 50:
            raise invalid("Timeout or Tags")
        if not re.fullmatch(r"[!-~]{1,64}", token):
            raise invalid("ClientToken")
        if parent and "Encrypted" in asked:
            raise invalid("ParentSnapshotId and Encrypted exclude each other")
        words = json.dumps(asked, sort_keys=True)
        with self._lock:
            if parent and (self._snap(parent).state != "completed" or self._snap(parent).gib > gib):
                raise invalid("the parent is not completed, or larger", "INVALID_SNAPSHOT_ID")
            if (known := self._tokens.get(token)) in self.retired:
                return 201, {}, json.dumps({"SnapshotId": known, "Status": "error"}).encode()
            if known is not None and self.snaps[known].asked != words:
                raise Refused(409, "ConflictException", "the token was used with other parameters")
            if known is None:
                known = f"snap-{len(self._tokens) + len(self.retired):017x}"
                self._tokens[token] = known
                tags = {tag["Key"]: tag["Value"] for tag in asked.get("Tags", [])}
                self.snaps[known] = Snap(known, gib, parent, tags, words)
            snap = self.snaps[known]
        return 201, {}, json.dumps({"SnapshotId": known, "Status": snap.state, "VolumeSize": gib,
                                    "BlockSize": BLOCK}).encode()

    def put(self, request: Request, name: str, index: int) -> tuple[int, dict[str, str], bytes]:
        headers = request.headers
        if headers.get("x-amz-data-length") != str(BLOCK) or len(request.body) != BLOCK:
            raise invalid("DataLength must be 524288", "INVALID_BLOCK")
        if headers.get("x-amz-checksum-algorithm") != "SHA256" or "x-amz-checksum" not in headers:
            raise invalid("a checksum is required")
        digest = hashlib.sha256(request.body).digest()
        if base64.b64encode(digest).decode() != headers["x-amz-checksum"]:
            raise invalid("the checksum is not the block's", "INVALID_BLOCK")
        with self._lock:
            snap = self._snap(name)
            if snap.state != "pending":
                raise invalid(f"{name} is {snap.state}", "INVALID_SNAPSHOT_ID")
            if not 0 <= index < snap.gib * PER_GIB:
                raise invalid("BlockIndex", "INVALID_BLOCK")
            at, self._used = self._used, self._used + BLOCK
        os.pwrite(self._block_file.fileno(), request.body, at)
        with self._lock:
            snap.blocks[index] = at, digest
            self.stored[name, index] += 1
        return 201, {"x-amz-Checksum": headers["x-amz-checksum"],
                     "x-amz-Checksum-Algorithm": "SHA256"}, b""

    def complete(self, request: Request, name: str) -> tuple[int, dict[str, str], bytes]:
        headers = request.headers
        with self._lock:
            snap = self._snap(name)
            if snap.state != "pending":
                raise invalid(f"{name} is {snap.state}", "INVALID_SNAPSHOT_ID")
            linear = hashlib.sha256(b"".join(snap.blocks[index][1]
                                             for index in sorted(snap.blocks))).digest()
            if headers.get("x-amz-changedblockscount") != str(len(snap.blocks)):
                raise invalid(f"{headers.get('x-amz-changedblockscount')} blocks are not "
                              f"{len(snap.blocks)}")
            if headers.get("x-amz-checksum") != base64.b64encode(linear).decode() or \
                    headers.get("x-amz-checksum-aggregation-method") != "LINEAR":
                raise invalid("the aggregated checksum is wrong")
            snap.state = "sealing"
        timer = threading.Timer(self.faults.seal_s, setattr, (snap, "state", "completed"))
        timer.daemon = True
        timer.start()
        return 202, {}, b'{"Status": "pending"}'

    def listing(self, request: Request, name: str) -> tuple[int, dict[str, str], bytes]:
        with self._lock:
            snap: Snap | None = self._snap(name)
            assert snap is not None
            if snap.state != "completed":
                raise invalid(f"{name} is {snap.state}", "INVALID_SNAPSHOT_ID")
            gib, known = snap.gib, set()
            while snap is not None:
                known |= set(snap.blocks)
                snap = self.snaps.get(snap.parent)
        size = min(int(request.query.get("maxResults", PAGE)), PAGE)
        first = int(request.query.get("pageToken", "0"))
        rest = [index for index in sorted(known) if index >= first]
        reply: dict[str, Any] = {
            "Blocks": [{"BlockIndex": index, "BlockToken": f"{name}.{index}"}
                       for index in rest[:size]],
            "BlockSize": BLOCK, "VolumeSize": gib, "ExpiryTime": 2000000000}
        if len(rest) > size:
            reply["NextToken"] = str(rest[size])
        return 200, {}, json.dumps(reply).encode()

    def get(self, request: Request, name: str, index: int) -> tuple[int, dict[str, str], bytes]:
        self._snap(name)
        if request.query.get("blockToken") != f"{name}.{index}":
            raise invalid("BlockToken", "INVALID_BLOCK_TOKEN")
        block = self.read(name, index)
        return 200, {"x-amz-Data-Length": str(BLOCK), "x-amz-Checksum-Algorithm": "SHA256",
                     "x-amz-Checksum": base64.b64encode(hashlib.sha256(block).digest()).decode()}, block

    def ec2(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        form = {key: values[0] for key, values in parse_qs(bytes(request.body).decode()).items()}
        with self._lock:
            if form["Action"] == "CreateTags":
                self._snap(form["ResourceId.1"]).tags |= {
                    form[f"Tag.{n}.Key"]: form[f"Tag.{n}.Value"] for n in range(1, 51)
                    if f"Tag.{n}.Key" in form}
                return 200, {"Content-Type": "text/xml"}, b"<CreateTagsResponse/>"
            if form["Action"] != "DescribeSnapshots" or form["SnapshotId.1"] not in self.snaps:
                raise Refused(400, "InvalidSnapshot.NotFound",
                              f"{form.get('SnapshotId.1')} does not exist.")
            snap = self.snaps[form["SnapshotId.1"]]
            state = "pending" if snap.state == "sealing" else snap.state
            text = (
                f"<DescribeSnapshotsResponse><snapshotSet><item><snapshotId>{escape(snap.id)}</snapshotId>"
                f"<status>{state}</status><volumeSize>{snap.gib}</volumeSize></item></snapshotSet>"
                "</DescribeSnapshotsResponse>"
            )
        return 200, {"Content-Type": "text/xml"}, text.encode()

    # --- HTTP -------------------------------------------------------------------------------------------------------

    def _route(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        match request.method, request.path.strip("/").split("/"):
            case "POST", ["snapshots"]:
                return self._counted("StartSnapshot", self.start, request)
            case "POST", ["snapshots", "completion", name]:
                return self._counted("CompleteSnapshot", self.complete, request, name)
            case "PUT", ["snapshots", name, "blocks", index]:
                return self._counted("PutSnapshotBlock", self.put, request, name, int(index))
            case "GET", ["snapshots", name, "blocks"]:
                return self._counted("ListSnapshotBlocks", self.listing, request, name)
            case "GET", ["snapshots", name, "blocks", index]:
                return self._counted("GetSnapshotBlock", self.get, request, name, int(index))
            case "POST", [""]:
                return self._counted("EC2", self.ec2, request)
        raise Refused(404, "UnknownOperationException", f"{request.method} {request.path}")

    def _counted(self, action: str, run: Callable[..., tuple[int, dict[str, str], bytes]],
                 request: Request, *arguments: Any) -> tuple[int, dict[str, str], bytes]:
        with self._lock:
            self.calls[action] += 1
            count = self.calls[action]
        if self.faults.latency_s:
            time.sleep(self.faults.latency_s)
        if self.faults.before(action, count) is False:
            raise ConnectionError
        answer = run(request, *arguments)
        if self.faults.after(action, count) is False:
            raise ConnectionError
        return answer

    def _cut(self, method: str) -> int | None:
        if method != "PUT":
            return None
        with self._lock:
            self.heads += 1
            return self.faults.cut(self.heads)

    def _serve(self, connection: socket.socket) -> None:
        buffer = bytearray(BLOCK + 65536)
        try:
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with connection:
                while (request := receive(connection, buffer, self._cut)) is not None:
                    try:
                        status, headers, body = self._route(request)
                    except Refused as refused:
                        status, headers, body = refusal(request, refused)
                    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
                    head += f"Content-Length: {len(body)}\r\n\r\n"
                    connection.sendall(f"HTTP/1.1 {status} -\r\n{head}".encode() + body)
        except OSError:
            connection.close()
        except ValueError:
            if not self._block_file.closed:  # else the test has ended before its last request
                raise
