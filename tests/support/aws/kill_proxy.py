"""Killing `golden` at one call to AWS: a proxy that ends the process before or after it hands a
request on.

The process is forked from one that has imported everything, so that a run costs a fraction of a
second. The code under test knows nothing of it: it sees an endpoint, and SIGKILL.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import urllib3
from ec2_emulator import authorization

from support.loopback import Loopback, QuietHandler

ROOT = Path(__file__).resolve().parents[3]


class When(StrEnum):
    """Whether the server sees the call."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True)
class KillPoint:
    """The `number`th call of `action` in `region`, counted from one, and when to kill."""

    action: str
    region: str
    number: int
    when: When

    def __str__(self) -> str:
        return f"{self.when} {self.action} {self.number} in {self.region}"


class KillProxy:
    """A proxy in front of `upstream`, and the process from which runs are forked."""

    def __init__(self, upstream: str) -> None:
        self._upstream, self._http = upstream, urllib3.PoolManager(maxsize=32, retries=False)
        self._lock, self._seen = threading.Lock(), Counter[tuple[str, str]]()
        self._point: KillPoint | None = None
        self._pid, self._signal = 0, signal.SIGKILL
        self.struck = False
        proxy = self

        class Handler(QuietHandler):
            protocol_version = "HTTP/1.1"

            def handle(self) -> None:
                with suppress(ConnectionError):  # its client was killed
                    super().handle()

            def handle_any(self) -> None:
                proxy._handle(self)

            do_GET = do_POST = do_PUT = do_DELETE = handle_any

        self._served = Loopback(Handler)
        self.url = self._served.url
        self._forks = subprocess.Popen(
            [sys.executable, "-m", "support.aws.kill_proxy"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'scripts'}:{ROOT / 'tests'}"},
        )

    def close(self) -> None:
        self._served.close()
        assert self._forks.stdin and self._forks.stdout
        self._forks.stdin.close()
        self._forks.wait()
        self._forks.stdout.close()

    def run(
        self,
        root: Path,
        *args: str,
        point: KillPoint | None = None,
        days: float = 0,
        by: signal.Signals = signal.SIGKILL,
    ) -> tuple[int, str]:
        """Run `golden` in the checkout `root`, its clock `days` ahead; returns exit code (-9:
        killed) and output.

        At `point` it gets the signal `by`, and that call is never answered.
        """
        env = {
            name: value
            for name, value in os.environ.items()
            if name.startswith(("AWS_", "GOLDEN_"))
        }
        log = root / "out.log"
        log.write_text("", encoding="utf-8")
        assert self._forks.stdin and self._forks.stdout
        order = {
            "root": str(root),
            "argv": args,
            "log": str(log),
            "days": days,
            "env": {**env, "AWS_ENDPOINT_URL": self.url, "GOLDEN_CACHE": str(root / "cache")},
        }
        with self._lock:  # a call may come before this knows whom to kill
            self._point, self._signal, self.struck = point, by, False
            self._seen.clear()
            self._forks.stdin.write(json.dumps(order) + "\n")
            self._forks.stdin.flush()
            self._pid = int(self._forks.stdout.readline())
        return int(self._forks.stdout.readline()), log.read_text(encoding="utf-8")

    def calls(self) -> dict[tuple[str, str], int]:
        """How often the last run called each (`service:Action`, region)."""
        with self._lock:
            return dict(self._seen)

    def reset(self) -> None:
        self._http.request("POST", f"{self._upstream}/_emulator/reset", body=b"{}")

    def points(self) -> list[KillPoint]:
        """Every place where the last run could have been killed.

        A call that only reads leaves nothing: to be killed after it, before its answer, is to be
        killed before it.
        """
        return [
            KillPoint(action, region, number, when)
            for (action, region), count in self.calls().items()
            for number in range(1, count + 1)
            for when in When
            if when is When.BEFORE
            or not action.partition(":")[2].startswith(("Describe", "Get", "List"))
        ]

    def _handle(self, request: BaseHTTPRequestHandler) -> None:
        length = int(request.headers.get("Content-Length") or 0)
        body = request.rfile.read(length)
        path, _, query = request.path.partition("?")
        environ = {
            "REQUEST_METHOD": request.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "80",
            "wsgi.url_scheme": "http",
            **{
                f"HTTP_{name.upper().replace('-', '_')}": value
                for name, value in request.headers.items()
            },
        }
        call = authorization.identify(environ, body)
        assert call is not None, request.path
        hit = self._count(call.name, call.region)
        if hit is When.BEFORE:
            self._kill()
            return
        answer = self._http.request(
            request.command,
            self._upstream + request.path,
            body=body,
            headers={
                name: value
                for name, value in request.headers.items()
                if name.lower() not in ("connection", "expect")
            },
        )
        if hit is When.AFTER:
            self._kill()
            return
        self._reply(request, answer)

    def _count(self, action: str, region: str) -> When | None:
        with self._lock:
            self._seen[action, region] += 1
            point = self._point
            if point is None or (point.action, point.region, point.number) != (
                action,
                region,
                self._seen[action, region],
            ):
                return None
            self.struck = True
            return point.when

    def _kill(self) -> None:
        with self._lock:
            os.kill(self._pid, self._signal)

    @staticmethod
    def _reply(request: BaseHTTPRequestHandler, answer: Any) -> None:
        request.send_response(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in ("transfer-encoding", "connection", "content-length", "server"):
                request.send_header(name, value)
        request.send_header("Content-Length", str(len(answer.data)))
        request.end_headers()
        request.wfile.write(answer.data)


def _child(order: dict[str, Any]) -> int:
    from goldenami import cli
    from goldenami.core import clock

    for name in [name for name in os.environ if name.startswith(("AWS_", "GOLDEN_"))]:
        del os.environ[name]
    os.environ.update(order["env"])
    now, ahead = clock.now, timedelta(days=order["days"])
    clock.now = lambda: now() + ahead
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    return cli.main(["--root", order["root"], *order["argv"]])


def _serve() -> None:
    """Fork a `golden` for each line of orders; answer with its pid, then with its status."""
    import pytest
    from goldenami.commands import (  # noqa: F401 - what each fork would import
        gpu_test,
        publish,
        retire,
        status,
    )

    from support.aws import quick

    quick.apply(pytest.MonkeyPatch())
    quick.read_ahead()
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            # As a process of its own ends: atexit, threads that are left.
            sys.exit(_child(json.loads(line)))
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    _serve()
