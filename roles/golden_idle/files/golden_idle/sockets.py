"""TCP connections with the kernel's counts, by sock_diag(7).

Numbers and layouts are those of linux/inet_diag.h and linux/tcp.h.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_DIAG, _BY_FAMILY, _DUMP, _INFO, _DONE, _ERROR = 4, 20, 0x301, 2, 3, 2
"""NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, REQUEST and DUMP, INET_DIAG_INFO, NLMSG_DONE,
NLMSG_ERROR."""
_ESTABLISHED, _OPENS, _LISTEN = 1, 2, 10
"""TCP_ESTABLISHED, TCP_SYN_SENT, TCP_LISTEN."""
_STATES = 1 << _ESTABLISHED | 1 << _OPENS | 1 << _LISTEN
_Row = tuple[int, tuple[int, int], int, bool, bytes]
"""A socket's state, its own and the other port, its inode, whether the other end is on this
machine, and the bytes of struct tcp_info."""
_OWN = Path("/proc/thread-self/ns/net")
_NETWORK = 0x40000000
"""CLONE_NEWNET, for setns(2)."""


@dataclass(frozen=True)
class Connection:
    """A connection that is established, or that nobody has taken yet. Bytes are those of its
    whole life; sent ones have been acknowledged."""

    inode: int
    accepted: bool
    """whether this machine listens at its port: the other end is a client"""
    local: bool
    """whether both ends are on this machine"""
    received: int
    sent: int
    sent_ms: int
    """milliseconds since something was last sent, as of the look"""
    received_ms: int
    peer: int = 0
    """the other end's inode, if it is on this machine"""
    opens: bool = False
    """whether the other end has not answered at all"""

    def since(self, before: Connection) -> int:
        """Return the bytes that were moved since then."""
        return self.received + self.sent - before.received - before.sent


def read(namespaces: Mapping[str, Path]) -> dict[str, Connection]:
    """Return the connections of the network namespaces, by namespace and inode. `namespaces` has
    the namespaces' files."""
    connections = dict[str, Connection]()
    for name, path in namespaces.items():
        try:
            with _within(path):
                rows = list(_rows())
        except OSError:
            continue  # the namespace has ended meanwhile
        listening = {port for state, (port, _), *_ in rows if state == _LISTEN}
        ends = {ports: inode for state, ports, inode, *_ in rows if state == _ESTABLISHED}
        for state, ports, inode, local, tcp_info in rows:
            if state != _LISTEN and inode and len(tcp_info) >= 136:
                # struct tcp_info: tcpi_last_data_sent, ..._ack_sent, ..._data_recv; then at 120
                # tcpi_bytes_acked and tcpi_bytes_received.
                sent_ms, _, received_ms = struct.unpack_from("=3I", tcp_info, 44)
                sent, received = struct.unpack_from("=2Q", tcp_info, 120)
                connections[f"{name} {inode}"] = Connection(
                    inode,
                    ports[0] in listening,
                    local,
                    received,
                    sent,
                    sent_ms,
                    received_ms,
                    ends.get(ports[::-1], 0) if local else 0,
                    state == _OPENS,
                )
    return connections


@contextmanager
def _within(path: Path) -> Iterator[None]:
    """Run the block in another network namespace, for this thread alone."""
    if path.stat().st_ino == _OWN.stat().st_ino:
        yield
        return
    own_file, other_file = os.open(_OWN, os.O_RDONLY), -1
    try:
        other_file = os.open(path, os.O_RDONLY)
        _enter(other_file)
        try:
            yield
        finally:
            _enter(own_file)
    finally:
        os.close(own_file)
        if other_file >= 0:
            os.close(other_file)


def _enter(file: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.setns(file, _NETWORK):
        raise OSError(ctypes.get_errno(), "setns")


def _rows() -> Iterator[_Row]:
    """Yield the row of each socket."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _DIAG) as kernel:
        for family in (socket.AF_INET, socket.AF_INET6):
            # struct nlmsghdr, then struct inet_diag_req_v2 without a socket's address.
            kernel.send(
                struct.pack(
                    "=IHHII BBBBI 48x",
                    72,
                    _BY_FAMILY,
                    _DUMP,
                    0,
                    0,
                    family,
                    socket.IPPROTO_TCP,
                    1 << _INFO - 1,
                    0,
                    _STATES,
                )
            )
            yield from _answers(kernel)


def _answers(kernel: socket.socket) -> Iterator[_Row]:
    while True:
        data = kernel.recv(1 << 18)
        while len(data) >= 16:
            length, kind = struct.unpack_from("=IH", data)
            if kind in (_DONE, _ERROR):
                return
            yield _row(data[16:length])
            # Messages are aligned to 4 bytes (NLMSG_ALIGN).
            data = data[length + 3 & ~3 :]


def _row(message: bytes) -> _Row:
    """Return the row of a struct inet_diag_msg and the attributes behind it."""
    (inode,) = struct.unpack_from("=I", message, 68)
    source, destination, tcp_info, offset = message[8:24], message[24:40], b"", 72
    while offset + 4 <= len(message):
        length, attribute = struct.unpack_from("=HH", message, offset)
        if attribute == _INFO:
            tcp_info = message[offset + 4 : offset + length]
        offset += max(4, length + 3 & ~3)
    return (
        message[1],
        (int.from_bytes(message[4:6]), int.from_bytes(message[6:8])),
        inode,
        source == destination or destination[:1] == b"\x7f",
        tcp_info,
    )
