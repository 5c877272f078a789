"""The messages of a reader and its parent, over one socket.

The reader gets the disk's bytes from its parent alone, and so needs no file, no network and no
rights. A message is its kind, the length of what follows, and that.
"""

from __future__ import annotations

import socket
import struct
from enum import IntEnum

from goldenami.local.reader.limits import OUTPUT_BYTES, Unreadable

_HEAD = struct.Struct(">BI")
READ = struct.Struct(">BQI")
"""A read request: which disk, offset and length."""


class Say(IntEnum):
    """The kind of a message."""

    ASKED = 1
    READ = 2
    DATA = 3
    ROWS = 4
    DONE = 5
    UNREADABLE = 6


def send(connection: socket.socket, kind: Say, data: bytes = b"") -> None:
    """Send one message."""
    connection.sendall(_HEAD.pack(kind, len(data)) + data)


def receive(connection: socket.socket) -> tuple[Say, bytes]:
    """Return the next message. Raises Unreadable if the other side has ended, or sends none."""
    kind, length = _HEAD.unpack(_exactly(connection, _HEAD.size))
    if kind not in Say.__members__.values() or length > OUTPUT_BYTES:
        raise Unreadable("the reader said something that is no answer")
    return Say(kind), _exactly(connection, length)


def _exactly(connection: socket.socket, length: int) -> bytes:
    data = bytearray(length)
    view, at = memoryview(data), 0
    while at < length:
        count = connection.recv_into(view[at:])
        if not count:
            raise Unreadable("the reader ended before its disk did")
        at += count
    return bytes(data)
