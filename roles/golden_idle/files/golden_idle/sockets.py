"""TCP connections as the kernel counts them, by sock_diag(7).

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
_ESTABLISHED, _LISTEN = 1, 10
_STATES = 1 << _ESTABLISHED | 1 << _LISTEN
_OWN = Path("/proc/thread-self/ns/net")
_NETWORK = 0x40000000
"""CLONE_NEWNET, for setns(2)."""


@dataclass(frozen=True)
class Connection:
    """An established connection; bytes are of its whole life, and those that were sent arrived."""

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


def read(namespaces: Mapping[str, Path]) -> dict[str, Connection]:
    """All connections of the network namespaces, whose files are given, by namespace and inode."""
    found = dict[str, Connection]()
    for name, path in namespaces.items():
        try:
            with _within(path):
                rows = list(_rows())
        except OSError:
            continue  # it has ended meanwhile
        listening = {port for state, port, *_ in rows if state == _LISTEN}
        for state, port, inode, local, info in rows:
            if state == _ESTABLISHED and inode and len(info) >= 136:
                sent_ms, _, received_ms = struct.unpack_from("=3I", info, 44)
                sent, received = struct.unpack_from("=2Q", info, 120)
                found[f"{name} {inode}"] = Connection(
                    inode, port in listening, local, received, sent, sent_ms, received_ms
                )
    return found


@contextmanager
def _within(path: Path) -> Iterator[None]:
    """In another network namespace, this thread alone."""
    if path.stat().st_ino == _OWN.stat().st_ino:
        yield
        return
    own, other = os.open(_OWN, os.O_RDONLY), -1
    try:
        other = os.open(path, os.O_RDONLY)
        _enter(other)
        try:
            yield
        finally:
            _enter(own)
    finally:
        os.close(own)
        if other >= 0:
            os.close(other)


def _enter(file: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.setns(file, _NETWORK):
        raise OSError(ctypes.get_errno(), "setns")


def _rows() -> Iterator[tuple[int, int, int, bool, bytes]]:
    """State, own port, inode, whether the other end is here, and the bytes of struct tcp_info."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _DIAG) as kernel:
        for family in (socket.AF_INET, socket.AF_INET6):
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


def _answers(kernel: socket.socket) -> Iterator[tuple[int, int, int, bool, bytes]]:
    while True:
        data = kernel.recv(1 << 18)
        while len(data) >= 16:
            length, kind = struct.unpack_from("=IH", data)
            if kind in (_DONE, _ERROR):
                return
            yield _row(data[16:length])
            data = data[length + 3 & ~3 :]


def _row(message: bytes) -> tuple[int, int, int, bool, bytes]:
    """struct inet_diag_msg, with its attributes behind it."""
    (inode,) = struct.unpack_from("=I", message, 68)
    own, other, info, at = message[8:24], message[24:40], b"", 72
    while at + 4 <= len(message):
        length, kind = struct.unpack_from("=HH", message, at)
        if kind == _INFO:
            info = message[at + 4 : at + length]
        at += max(4, length + 3 & ~3)
    return (
        message[1],
        int.from_bytes(message[4:6]),
        inode,
        own == other or other[:1] == b"\x7f",
        info,
    )
