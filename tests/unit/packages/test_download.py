"""Downloads that break off, are killed or shared by processes, and those through a proxy."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from goldenami.core.errors import Unreachable
from goldenami.packages import download, http_documents
from goldenami.packages.download import StoreRequest
from goldenami.packages.store import Store
from support.debian import debrepo
from support.debian.debrepo import Fault
from support.debian.store_process import (
    assert_whole,
    fill_process,
    kept_part,
    kill_halfway,
    objects,
    wanted,
)
from support.loopback import Loopback, QuietHandler
from support.waiting import until


def test_a_kill_leaves_nothing_visible_and_the_next_run_continues(
    tmp_path: Path, served: debrepo.Mirror
) -> None:
    item = kill_halfway(tmp_path / "cache", served)
    counted: list[int] = []
    Store(tmp_path / "cache").fetch([item], counted.append)
    assert served.headers[-1]["Range"] == f"bytes={item.size // 2}-"
    assert sum(counted) == item.size - item.size // 2
    assert_whole(tmp_path / "cache", [item])


def test_a_file_that_changed_meanwhile_is_sent_from_its_beginning(
    tmp_path: Path, served: debrepo.Mirror
) -> None:
    """Not the old beginning with the new end: If-Range. The new file is not the wanted one, so
    nothing is visible."""
    item = kill_halfway(tmp_path / "cache", served)
    (served.folder / "large").write_bytes(os.urandom(item.size))
    with pytest.raises(Unreachable, match="bytes with SHA-256"):
        Store(tmp_path / "cache").fetch([item])
    assert served.requests.count("/large") == 2
    assert objects(tmp_path / "cache") == []


def other_address(note: Path) -> None:
    digest = note.read_text(encoding="utf-8").splitlines()[1]
    note.write_text(f"http://127.0.0.1:9/large\n{digest}", encoding="utf-8")


def test_a_part_that_is_not_of_the_file_costs_only_time(
    tmp_path: Path,
    served: debrepo.Mirror,
) -> None:
    item = kill_halfway(tmp_path / "killed", served)
    damages: list[tuple[str, Callable[[Path], object]]] = [
        ("part", lambda part: part.write_bytes(b"x" * 1000)),
        ("part", lambda part: part.write_bytes(b"x" * (item.size + 1))),
        ("from", other_address),
        ("from", Path.unlink),
    ]
    for number, (suffix, damage) in enumerate(damages):
        cache = Path(shutil.copytree(tmp_path / "killed", tmp_path / str(number)))
        damage(next(cache.rglob(f"*.{suffix}")))
        Store(cache).fetch([item])
        assert_whole(cache, [item])


def test_each_try_continues_where_the_last_one_broke_off(
    tmp_path: Path, served: debrepo.Mirror
) -> None:
    """Every answer breaks off after half of what it should send: three tries bring seven eighths,
    the next run more."""
    served.faults = {"/large": Fault.TRUNCATED}
    item = wanted(served, "large")[0]
    with pytest.raises(Unreachable):
        Store(tmp_path / "cache").fetch([item])
    assert kept_part(tmp_path / "cache") == item.size - item.size // 8
    served.faults = {}
    Store(tmp_path / "cache").fetch([item])
    assert_whole(tmp_path / "cache", [item])


def waiting(root: Path, items: list[StoreRequest]) -> subprocess.Popen[str]:
    """A process that has come as far as the part, which another one holds."""
    process = fill_process(root, items)

    def holds_it() -> bool:
        assert process.poll() is None
        return any(
            path.resolve().suffix == ".part" for path in Path(f"/proc/{process.pid}/fd").iterdir()
        )

    until("a process that has opened the part", holds_it)
    return process


def two_fill_processes(
    root: Path, items: list[StoreRequest]
) -> tuple[subprocess.Popen[str], subprocess.Popen[str]]:
    """One that has begun the part, and one that waits for it."""
    first = fill_process(root, items)
    until("a part", lambda: kept_part(root))
    return first, waiting(root, items)


def test_a_file_that_another_process_fetches_is_waited_for(
    tmp_path: Path, served: debrepo.Mirror
) -> None:
    """The second process asks the mirror for nothing while the first one lives, and goes on where
    that was killed."""
    served.faults, items = {"/large": Fault.STALLED}, wanted(served, "large")
    first, second = two_fill_processes(tmp_path / "cache", items)
    time.sleep(2 * download.WAIT_S)
    assert (first.poll(), second.poll(), served.requests) == (None, None, ["/large"])
    served.faults = {}
    first.send_signal(signal.SIGKILL)
    first.communicate()
    _, errors = second.communicate(timeout=60)
    assert (second.returncode, errors) == (0, "")
    assert_whole(tmp_path / "cache", items)


def test_an_interrupt_does_not_wait_for_a_stalled_mirror(
    tmp_path: Path, served: debrepo.Mirror
) -> None:
    """Who waits for another process's download is free at once; what has arrived stays."""
    served.faults, items = {"/large": Fault.STALLED}, wanted(served, "large")
    first, second = two_fill_processes(tmp_path / "cache", items)
    second.send_signal(signal.SIGINT)
    second.communicate()
    assert first.poll() is None, "the other one has given up meanwhile"
    first.send_signal(signal.SIGINT)
    # It does not wait for the mirror's silence either.
    first.communicate(timeout=download.TIMEOUT.read_timeout)
    assert kept_part(tmp_path / "cache") > 0


class Odd(QuietHandler):
    """A server that wants a login, calls an archive's own compression the connection's, and never
    stops sending."""

    sent = 0

    def do_GET(self) -> None:
        if self.headers["Authorization"] != "Basic dXNlcjpwQHNz":
            self.send_error(401)
            return
        self.send_response(200)
        self.send_header("Content-Encoding", "x-gzip")
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(gzip.compress(b"a source", mtime=0))
            while self.path == "/endless":
                self.wfile.write(bytes(1 << 16))
                Odd.sent += 1 << 16


@pytest.fixture
def odd() -> Iterator[str]:
    with Loopback(Odd) as server:
        yield f"127.0.0.1:{server.port}"


def test_a_file_is_what_is_sent_and_its_address_may_hold_a_login(tmp_path: Path, odd: str) -> None:
    data, store = gzip.compress(b"a source", mtime=0), Store(tmp_path / "cache")
    digest = hashlib.sha256(data).hexdigest()
    with pytest.raises(Unreachable) as caught:
        store.fetch([StoreRequest(digest, len(data), f"http://user:wrong@{odd}/source", "source")])
    assert caught.value.message == f"http://{odd}/source answered 401"
    store.fetch([StoreRequest(digest, len(data), f"http://user:p%40ss@{odd}/source", "source")])
    assert store.path(digest).read_bytes() == data
    assert http_documents.read(f"http://user:p%40ss@{odd}/source").data == data


def test_a_body_without_an_end_is_left(tmp_path: Path, odd: str) -> None:
    with pytest.raises(
        Unreachable, match=r"http://127\.0\.0\.1:\d+/endless: \d+ bytes with SHA-256"
    ):
        Store(tmp_path / "cache").fetch(
            [StoreRequest("0" * 64, 10, f"http://user:p%40ss@{odd}/endless", "endless")]
        )
    assert Odd.sent < 64 << 20
    assert objects(tmp_path / "cache") == []


@pytest.mark.usefixtures("offline")
def test_a_proxy_gets_the_requests_that_are_its_own(
    tmp_path: Path,
    served: debrepo.Mirror,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The mirror stands in for the proxy: a host that does not resolve is reached through it, with
    its login."""
    item = wanted(served, "00")[0]
    behind = StoreRequest(item.sha256, item.size, "http://mirror.invalid/00", item.name)
    monkeypatch.setenv("http_proxy", served.uri.replace("//", "//user:p%40ss@"))
    Store(tmp_path / "cache").fetch([behind])
    assert_whole(tmp_path / "cache", [item])
    assert served.headers[-1]["proxy-authorization"] == "Basic dXNlcjpwQHNz"
    assert served.headers[-1]["Host"] == "mirror.invalid"
