"""Read one file system, for the parent at the other end: `python -m
goldenami.local.reader.read_disk DESCRIPTOR`.

Everything that a disk can do to a program happens here. The kernel ends this process if it takes
too much memory or time, and whatever it raises becomes `could not look`.
"""

from __future__ import annotations

import itertools
import json
import resource
import socket
import sys
from typing import Any

from goldenami.core.errors import GoldenError
from goldenami.local.reader import ext4_journal, limits, wire
from goldenami.local.reader.ext4 import Ext4
from goldenami.local.reader.walk import Walk
from goldenami.local.reader.wire import Say

_CHUNK = 64 << 10
"""Bytes that are requested at once if little is wanted: inodes lie together, folders do not."""
_CHUNKS = 1024
"""Chunks that are kept: 64 MiB."""
_BATCH = 500
"""Rows of one message."""


class _ParentsDisk:
    """A disk whose bytes are requested from the parent."""

    def __init__(self, connection: socket.socket, disk: int, size: int) -> None:
        self.size = size
        self._connection, self._disk = connection, disk
        self._chunks: dict[int, bytes] = {}

    def read(self, offset: int, length: int) -> bytes:
        if length > _CHUNK or offset // _CHUNK != (offset + length - 1) // _CHUNK:
            return self._ask(offset, length)
        number = offset // _CHUNK
        if number not in self._chunks:
            if len(self._chunks) >= _CHUNKS:
                del self._chunks[next(iter(self._chunks))]
            start = number * _CHUNK
            self._chunks[number] = self._ask(start, min(_CHUNK, self.size - start))
        at = offset - number * _CHUNK
        return self._chunks[number][at : at + length]

    def _ask(self, offset: int, length: int) -> bytes:
        if not 0 <= offset <= offset + length <= self.size:
            raise limits.Unreadable(
                f"bytes {offset} to {offset + length} are behind the end of the file system"
            )
        wire.send(self._connection, Say.READ, wire.READ.pack(self._disk, offset, length))
        kind, data = wire.receive(self._connection)
        if kind is not Say.DATA or len(data) != length:
            raise limits.Unreadable("the disk's bytes did not come")
        return data


def _walk(connection: socket.socket, request: dict[str, Any]) -> tuple[str, Walk]:
    """Return the file system's settings, and its paths."""
    system = Ext4(_ParentsDisk(connection, 0, request["size"]), request["changed"])
    ext4_journal.replay(system)
    system.check_groups()
    baked = (
        Ext4(_ParentsDisk(connection, 1, request["base_size"]), [])
        if request["base_size"]
        else None
    )
    if baked:
        system.compare_with(baked)
    return system.settings, Walk(system, request, baked)


def _serve(connection: socket.socket) -> None:
    """Read the request, send rows, and end with the figures or with the reason why the disk cannot
    be read."""
    _, text = wire.receive(connection)
    try:
        request = json.loads(text)
        resource.setrlimit(resource.RLIMIT_CPU, (request["cpu_s"], request["cpu_s"]))
        settings, walk = _walk(connection, request)
        rows = walk.rows()
        while batch := list(itertools.islice(rows, _BATCH)):
            wire.send(connection, Say.ROWS, json.dumps(batch).encode())
    except GoldenError as error:
        wire.send(connection, Say.UNREADABLE, error.message.encode("utf-8", "backslashreplace"))
    except (
        MemoryError,
        RecursionError,
        ValueError,
        LookupError,
        ArithmeticError,
        TypeError,
    ) as error:
        message = (
            f"could not look: the reader failed on this disk ({type(error).__name__}: {error})"
        )
        wire.send(connection, Say.UNREADABLE, message.encode("utf-8", "backslashreplace"))
    else:
        wire.send(
            connection, Say.DONE, json.dumps({"settings": settings, "areas": walk.counted}).encode()
        )


def main() -> int:
    """Serve the one request that comes."""
    resource.setrlimit(resource.RLIMIT_AS, (limits.MEMORY_BYTES, limits.MEMORY_BYTES))
    # The process writes no file and leaves no core dump, whatever the disk makes of it.
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        _serve(connection)
    return 0


if __name__ == "__main__":
    sys.exit(main())
