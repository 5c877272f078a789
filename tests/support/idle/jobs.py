"""Jobs on a recorded machine: `python -m support.idle.jobs NAME [ARGUMENT]`."""

from __future__ import annotations

import http.client
import http.server
import json
import mmap
import os
import random
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

BLOCK = 4096


def compute() -> None:
    """One thread that never waits."""
    while True:
        sum(number * number for number in range(100_000))


def tenth() -> None:
    """A tenth of a core."""
    while True:
        until = time.process_time() + 0.02
        while time.process_time() < until:
            json.dumps(list(range(100)))
        time.sleep(0.18)


def ticks() -> None:
    """A daemon that looks at a clock."""
    while True:
        time.sleep(1)


def bursts() -> None:
    """Ten seconds of work in each minute."""
    while True:
        until = time.monotonic() + 10
        while time.monotonic() < until:
            sum(range(1000))
        time.sleep(50)


def cron() -> None:
    """A backup: twenty seconds of work and writing, then nothing."""
    time.sleep(90)
    until = time.monotonic() + 20
    with Path("/root/backup").open("wb") as file:
        while time.monotonic() < until:
            file.write(os.urandom(1 << 20))
            file.seek(0)
    time.sleep(3000)


def direct(path: str) -> None:
    """Read a disk past the page cache, in order."""
    file, room = os.open(path, os.O_RDONLY | os.O_DIRECT), mmap.mmap(-1, 1 << 17)
    while True:
        if os.readv(file, [room]) < len(room):
            os.lseek(file, 0, os.SEEK_SET)


def random_reads(path: str) -> None:
    """Read a disk past the page cache, anywhere."""
    file, room = os.open(path, os.O_RDONLY | os.O_DIRECT), mmap.mmap(-1, BLOCK)
    blocks = os.lseek(file, 0, os.SEEK_END) // BLOCK
    while True:
        os.preadv(file, [room], random.randrange(blocks) * BLOCK)


def mapped(path: str) -> None:
    """Read a disk by page faults."""
    file = os.open(path, os.O_RDONLY)
    size = os.lseek(file, 0, os.SEEK_END)
    while True:
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        with mmap.mmap(file, size, prot=mmap.PROT_READ) as room:
            for at in range(0, size, BLOCK):
                room[at]


def files(path: str) -> None:
    """Read a file, anew each time."""
    while True:
        with Path(path).open("rb", buffering=0) as file:
            while file.read(1 << 16):
                pass


def trickle() -> None:
    """What comes in goes out, slowly."""
    while data := os.read(0, 4096):
        os.write(1, data)
        time.sleep(0.1)


def ask(address: str) -> None:
    """Ask an API for one thing after the other."""
    while True:
        with urllib.request.urlopen(address, timeout=600) as answer:
            answer.read()


def ask_many(address: str) -> None:
    """Eight questions at once."""
    threads = [threading.Thread(target=ask, args=[address]) for _ in range(8)]
    for thread in threads:
        thread.start()


def keep(address: str) -> None:
    """Ask once, get the answer, and keep the connection open."""
    connection = http.client.HTTPConnection(address.partition("//")[2])
    connection.request("GET", "/")
    connection.getresponse().read()
    time.sleep(3000)


class _Model(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = b"ok"
        if self.path != "/health":
            body = json.dumps([random.random() for _ in range(20_000)]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def serve() -> None:
    """A model's server."""
    http.server.ThreadingHTTPServer(("0.0.0.0", 8000), _Model).serve_forever()


JOBS: dict[str, Callable[..., None]] = {
    "compute": compute,
    "tenth": tenth,
    "ticks": ticks,
    "bursts": bursts,
    "cron": cron,
    "serve": serve,
    "direct": direct,
    "files": files,
    "trickle": trickle,
    "random": random_reads,
    "mapped": mapped,
    "ask": ask,
    "ask_many": ask_many,
    "keep": keep,
}

if __name__ == "__main__":
    JOBS[sys.argv[1]](*sys.argv[2:])
