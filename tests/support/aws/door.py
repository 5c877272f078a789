"""A listening socket on loopback that can be out for a while: connections refused, or left without
an answer."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable


class Door:
    """Accepts connections, each for `serve` in a thread of its own, on a port that stays the
    same."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self._serve = serve
        self._open, self._silent = set[socket.socket](), list[socket.socket]()
        self._reachable, self._lock = threading.Event(), threading.Lock()
        # It does not listen: connections are refused, and nobody else gets the port.
        self._kept = socket.socket()
        self._kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._kept.bind(("127.0.0.1", 0))
        self.port, self._server = self._kept.getsockname()[1], socket.socket()
        self.come_back()

    def close(self) -> None:
        """Accept no more."""
        self._server.close()
        self._kept.close()

    def go_out(self, *, silent: bool) -> None:
        """Break every connection, and refuse new ones; `silent`: leave them without an answer
        instead."""
        self._reachable.clear()
        if silent:
            self._server.listen(0)
            for _ in range(3):  # one is accepted, the others are the whole queue
                self._silent.append(socket.socket())
                self._silent[-1].setblocking(False)
                self._silent[-1].connect_ex(("127.0.0.1", self.port))
        else:
            self._server.shutdown(socket.SHUT_RDWR)
            self._server.close()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def come_back(self) -> None:
        """Answer (again)."""
        for filler in self._silent:
            filler.close()
        if self._silent:
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._silent.clear()
        self._server = socket.create_server(("127.0.0.1", self.port), backlog=512, reuse_port=True)
        self._reachable.set()
        threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()

    def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                self._reachable.wait()
                connection, _address = server.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._hand_over, args=(connection,), daemon=True).start()

    def _hand_over(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)
        try:
            self._serve(connection)
        finally:
            with self._lock:
                self._open.discard(connection)
