"""A way to the bucket that is as slow, as blocked or as deadly as a test wants."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import urllib3

from support.loopback import Loopback, QuietHandler

CHUNK = 1 << 16


class Proxy(Loopback):
    """Hands requests on to `upstream`, at most `rate` bytes a second (0: as fast as it can).

    `kill` is (pid, number, after): that process dies at the request of that number, after it was
    handed on or before. `meet` may answer a request instead: (status, body, headers).
    """

    def __init__(self, upstream: str, rate: float = 0) -> None:
        self.upstream, self.rate = upstream, rate
        self.requests: list[str] = []
        self.kill: tuple[int, int, bool] | None = None
        self.meet: Callable[[Any], tuple[int, bytes, dict[str, str]] | None] = lambda request: None
        self._lock, self._free = threading.Lock(), time.monotonic()
        self._http = urllib3.PoolManager(maxsize=32, retries=False)
        proxy = self

        class Handler(QuietHandler):
            protocol_version = "HTTP/1.1"

            def handle(self) -> None:
                with suppress(ConnectionError):
                    super().handle()

            def handle_any(self) -> None:
                proxy._handle(self)

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_any

        super().__init__(Handler)

    def _handle(self, request: Any) -> None:
        left, parts = int(request.headers.get("Content-Length") or 0), []
        while left:
            parts.append(request.rfile.read(min(left, CHUNK)))
            if not parts[-1]:
                raise ConnectionResetError
            left -= len(parts[-1])
            self._pay(len(parts[-1]))
        with self._lock:
            self.requests.append(f"{request.command} {request.path}")
            pid, number, after = self.kill or (0, 0, False)
            struck = number == len(self.requests)
        if struck and not after:
            os.kill(pid, signal.SIGKILL)
            raise ConnectionResetError
        if met := self.meet(request):
            request.answer(met[0], met[1], **met[2])
            return
        answer = self._http.request(
            request.command,
            self.upstream + request.path,
            body=b"".join(parts),
            headers={
                name: value
                for name, value in request.headers.items()
                if name.lower() not in ("connection", "expect")
            },
        )
        if struck:
            os.kill(pid, signal.SIGKILL)
            raise ConnectionResetError
        self._pay(len(answer.data))
        request.send_response(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in ("transfer-encoding", "connection", "server", "date"):
                request.send_header(name, value)
        request.end_headers()
        request.wfile.write(answer.data)

    def _pay(self, size: int) -> None:
        """Wait until all bytes so far would have passed."""
        if not self.rate:
            return
        with self._lock:
            self._free = max(self._free, time.monotonic()) + size / self.rate
            pause = self._free - time.monotonic()
        time.sleep(max(0.0, pause))
