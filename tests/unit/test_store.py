from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import debrepo
import pytest
import urllib3
from debrepo import Fault
from goldenami import download, store
from goldenami.download import Wanted
from goldenami.errors import Busy, ExitCode, StageFailed, Unreachable, Vanished
from goldenami.records import sha256_file
from goldenami.store import Store

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
FILL = """
import sys
from pathlib import Path
from goldenami.errors import GoldenError
from goldenami.download import Wanted
from goldenami.store import Store
rows = [line.split() for line in sys.stdin]
try:
    Store(Path(sys.argv[1])).fetch([Wanted(digest, int(size), url, url) for digest, size, url in rows])
except GoldenError as error:
    sys.exit(f"{type(error).__name__}: {error.message} / {error.hint}")
"""


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[debrepo.Mirror]:
    """Thirty files of a few KB, and one of 3 MB."""
    monkeypatch.setattr(download, "BACKOFF", 0.02)
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number:02}").write_bytes(bytes([number]) * (1000 + number))
    (folder / "large").write_bytes(os.urandom(3 << 20))
    mirror = debrepo.Mirror(folder)
    yield mirror
    mirror.close()


def wanted(served: debrepo.Mirror, *names: str) -> list[Wanted]:
    paths = [served.folder / name for name in names] or sorted(served.folder.iterdir())
    return [Wanted(sha256_file(path), path.stat().st_size, f"{served.uri}/{path.name}", path.name) for path in paths]


def objects(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and path.name != ".lock"]


def filler(root: Path, items: list[Wanted]) -> subprocess.Popen[str]:
    """A process that fills the store in `root`."""
    process = subprocess.Popen([sys.executable, "-c", FILL, str(root)], text=True, stdin=subprocess.PIPE,
                               stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(SCRIPTS)})
    assert process.stdin is not None
    process.stdin.write("".join(f"{item.sha256} {item.size} {item.url}\n" for item in items))
    process.stdin.close()
    process.stdin = None
    return process


def assert_whole(root: Path, items: list[Wanted]) -> None:
    """The store holds exactly `items`, each under the digest of its content."""
    found = objects(root)
    assert sorted(path.name for path in found) == sorted(item.sha256 for item in items)
    assert all(hashlib.sha256(path.read_bytes()).hexdigest() == path.name for path in found)


def test_a_file_is_fetched_once(tmp_path: Path, served: debrepo.Mirror) -> None:
    kept, items, counted = Store(tmp_path / "cache"), wanted(served), []
    assert kept.fetch(items * 2, counted.append) == sum(item.size for item in items) == sum(counted)
    assert_whole(tmp_path / "cache", items)
    assert kept.fetch(items) == 0
    assert len(served.requests) == len(items)
    assert kept.missing(items) == []


def test_a_server_that_stumbles_once_is_asked_again(tmp_path: Path, served: debrepo.Mirror) -> None:
    served.faults = {"/0*": Fault.BROKEN_ONCE}
    items = wanted(served, "00", "01", "20")
    Store(tmp_path / "cache").fetch(items)
    assert_whole(tmp_path / "cache", items)


def test_a_body_that_breaks_off_is_asked_for_again(tmp_path: Path, served: debrepo.Mirror) -> None:
    served.faults, served.ranges = {"/00": Fault.TRUNCATED}, False
    with pytest.raises(Unreachable, match=r"/00: .*bytes read"):
        Store(tmp_path / "cache").fetch(wanted(served, "00"))
    assert served.requests.count("/00") == download.BODY_TRIES
    assert Store(tmp_path / "cache").objects() == []


@pytest.mark.parametrize(("fault", "kind", "complaint"), [
    (Fault.LOST, Vanished, "05 is no longer at http://127.0.0.1"),
    (Fault.BROKEN, Unreachable, "/05 answered 503"),
    (Fault.CORRUPTED, Unreachable, "/05: 1005 bytes with SHA-256 "),
    (Fault.HANG, Unreachable, "/05: "),
    (Fault.STALLED, Unreachable, "/05: "),
])
def test_what_was_not_served_properly_is_never_visible(
    tmp_path: Path, served: debrepo.Mirror, monkeypatch: pytest.MonkeyPatch, fault: Fault, kind: type[Unreachable],
    complaint: str,
) -> None:
    monkeypatch.setattr(download, "TIMEOUT", urllib3.Timeout(0.2))
    served.faults = {"/05": fault}
    items = wanted(served, "04", "05")
    with pytest.raises(Unreachable) as caught:
        Store(tmp_path / "cache").fetch(items)
    assert type(caught.value) is kind
    assert complaint in caught.value.message
    assert caught.value.exit_code is ExitCode.UNREACHABLE
    assert items[1].sha256 not in [path.name for path in objects(tmp_path / "cache")]
    served.faults = {}
    Store(tmp_path / "cache").fetch(items)
    assert_whole(tmp_path / "cache", items)


def test_vanished_files_are_counted_and_a_dead_mirror_outranks_them(tmp_path: Path, served: debrepo.Mirror) -> None:
    served.faults = {"/0*": Fault.LOST}
    with pytest.raises(Vanished, match=r"\(and 9 more files\)"):
        Store(tmp_path / "cache").fetch(wanted(served))
    served.faults = {"/00": Fault.LOST, "/01": Fault.CORRUPTED}
    with pytest.raises(Unreachable, match="/01: ") as caught:
        Store(tmp_path / "cache").fetch(wanted(served, "00", "01"))
    assert type(caught.value) is Unreachable


def test_a_mirror_that_is_down_is_not_asked_for_every_file(tmp_path: Path, served: debrepo.Mirror) -> None:
    served.faults = {"*": Fault.BROKEN}
    with pytest.raises(Unreachable, match="answered 503"):
        Store(tmp_path / "cache").fetch(wanted(served))
    assert len(set(served.requests)) < len(list(served.folder.iterdir()))


def test_a_mirror_that_refuses_is_named(tmp_path: Path, served: debrepo.Mirror) -> None:
    items = wanted(served, "00")
    served.close()
    with pytest.raises(Unreachable) as caught:
        Store(tmp_path / "cache").fetch(items)
    assert caught.value.message.startswith(f"{served.uri}/00: ")
    assert "Connection refused" in caught.value.message


def test_two_processes_fill_one_store(tmp_path: Path, served: debrepo.Mirror) -> None:
    items = wanted(served)
    both = [filler(tmp_path / "cache", items), filler(tmp_path / "cache", items[::-1])]
    for process in both:
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")
    assert_whole(tmp_path / "cache", items)


def kept_part(root: Path) -> int:
    """Bytes of the one part in the store."""
    return sum(path.stat().st_size for path in root.rglob("*.part"))


def kill_halfway(root: Path, served: debrepo.Mirror) -> Wanted:
    """A process that is killed when half of the large file has arrived."""
    served.faults = {"/large": Fault.STALLED}
    items = wanted(served, "large")
    process = filler(root, items)
    while kept_part(root) < items[0].size // 2:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    served.faults = {}
    assert Store(root).objects() == []
    assert Store(root).missing(items) == items
    return items[0]


def test_a_kill_leaves_nothing_visible_and_the_next_run_continues(tmp_path: Path, served: debrepo.Mirror) -> None:
    item = kill_halfway(tmp_path / "cache", served)
    counted: list[int] = []
    Store(tmp_path / "cache").fetch([item], counted.append)
    assert served.headers[-1]["Range"] == f"bytes={item.size // 2}-"
    assert sum(counted) == item.size - item.size // 2
    assert_whole(tmp_path / "cache", [item])


def test_a_server_that_knows_no_ranges_sends_all_of_it(tmp_path: Path, served: debrepo.Mirror) -> None:
    served.ranges = False
    item = kill_halfway(tmp_path / "cache", served)
    counted: list[int] = []
    Store(tmp_path / "cache").fetch([item], counted.append)
    assert sum(counted) == item.size
    assert_whole(tmp_path / "cache", [item])


def test_a_file_that_changed_meanwhile_is_sent_from_its_beginning(tmp_path: Path, served: debrepo.Mirror) -> None:
    """Not the old beginning with the new end: If-Range. The new file is not the wanted one, so nothing is visible."""
    item = kill_halfway(tmp_path / "cache", served)
    (served.folder / "large").write_bytes(os.urandom(item.size))
    with pytest.raises(Unreachable, match="bytes with SHA-256"):
        Store(tmp_path / "cache").fetch([item])
    assert served.requests.count("/large") == 2
    assert objects(tmp_path / "cache") == []


@pytest.mark.parametrize("damage", ["other bytes", "too long", "another address", "no note"])
def test_a_part_that_is_not_of_the_file_costs_only_time(tmp_path: Path, served: debrepo.Mirror, damage: str) -> None:
    item = kill_halfway(tmp_path / "cache", served)
    part = next((tmp_path / "cache").rglob("*.part"))
    note = next((tmp_path / "cache").rglob("*.from"))
    if damage == "other bytes":
        part.write_bytes(b"x" * 1000)
    elif damage == "too long":
        part.write_bytes(b"x" * (item.size + 1))
    elif damage == "another address":
        note.write_text("http://127.0.0.1:9/large\n" + note.read_text(encoding="utf-8").splitlines()[1])
    else:
        note.unlink()
    Store(tmp_path / "cache").fetch([item])
    assert_whole(tmp_path / "cache", [item])


def test_a_server_that_answers_with_another_range(tmp_path: Path, served: debrepo.Mirror) -> None:
    item = kill_halfway(tmp_path / "cache", served)
    served.faults = {"/large": Fault.WRONG_RANGE}
    Store(tmp_path / "cache").fetch([item])
    assert "Range" not in served.headers[-1]
    assert_whole(tmp_path / "cache", [item])


def test_each_try_continues_where_the_last_one_broke_off(tmp_path: Path, served: debrepo.Mirror) -> None:
    """Every answer breaks off after half of what it should send: three tries bring seven eighths, the next run more."""
    served.faults = {"/large": Fault.TRUNCATED}
    item = wanted(served, "large")[0]
    with pytest.raises(Unreachable):
        Store(tmp_path / "cache").fetch([item])
    assert kept_part(tmp_path / "cache") == item.size - item.size // 8
    served.faults = {}
    Store(tmp_path / "cache").fetch([item])
    assert_whole(tmp_path / "cache", [item])


def test_a_file_that_another_process_fetches_is_waited_for(tmp_path: Path, served: debrepo.Mirror) -> None:
    """The second process asks the mirror for nothing while the first one lives, and goes on where that was killed."""
    served.faults = {"/large": Fault.STALLED}
    items = wanted(served, "large")
    first = filler(tmp_path / "cache", items)
    while not kept_part(tmp_path / "cache"):
        time.sleep(0.02)
    second = filler(tmp_path / "cache", items)
    time.sleep(1)
    assert (first.poll(), second.poll(), served.requests) == (None, None, ["/large"])
    served.faults = {}
    first.send_signal(signal.SIGKILL)
    first.communicate()
    _, errors = second.communicate(timeout=60)
    assert (second.returncode, errors) == (0, "")
    assert_whole(tmp_path / "cache", items)


def test_an_interrupt_does_not_wait_for_a_stalled_mirror(tmp_path: Path, served: debrepo.Mirror) -> None:
    """Who waits for another process's download is free at once; what has arrived stays."""
    served.faults = {"/large": Fault.STALLED}
    items = wanted(served, "large")
    first = filler(tmp_path / "cache", items)
    while not kept_part(tmp_path / "cache"):
        time.sleep(0.02)
    second = filler(tmp_path / "cache", items)
    time.sleep(1)
    second.send_signal(signal.SIGINT)
    second.communicate(timeout=20)
    first.kill()
    first.communicate()
    assert kept_part(tmp_path / "cache") > 0


def test_a_proxy_gets_the_requests_that_are_its_own(tmp_path: Path, served: debrepo.Mirror) -> None:
    """The mirror stands in for the proxy: a host that does not resolve is reached through it, with its login."""
    item = wanted(served, "00")[0]
    behind = Wanted(item.sha256, item.size, "http://mirror.invalid/00", item.name)
    through = Store(tmp_path / "cache", proxy=lambda _: served.uri.replace("//", "//user:p%40ss@"))
    through.fetch([behind])
    assert_whole(tmp_path / "cache", [item])
    assert served.headers[-1]["proxy-authorization"] == "Basic dXNlcjpwQHNz"
    assert served.headers[-1]["Host"] == "mirror.invalid"


def test_a_full_disk_is_not_the_mirrors_fault(tmp_path: Path, served: debrepo.Mirror) -> None:
    """A limit on the size of files stands in for the disk: the write fails in the same place."""
    script = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n" + FILL
    items = wanted(served, "large")
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "cache")], text=True, capture_output=True,
                          check=False, env={**os.environ, "PYTHONPATH": str(SCRIPTS), "PYTHONDONTWRITEBYTECODE": "1"},
                          input="".join(f"{item.sha256} {item.size} {item.url}\n" for item in items))
    assert done.returncode == 1
    assert done.stderr.startswith("StageFailed: the store cannot take ")
    assert "File too large" in done.stderr
    assert "set GOLDEN_CACHE to a larger disk" in done.stderr
    assert objects(tmp_path / "cache") == []


def test_a_local_file_is_added_under_its_digest(tmp_path: Path) -> None:
    kept = Store(tmp_path / "cache")
    (tmp_path / "x.deb").write_bytes(b"content")
    digest = kept.add(tmp_path / "x.deb")
    assert kept.add(tmp_path / "x.deb") == digest == hashlib.sha256(b"content").hexdigest()
    assert kept.has(digest, 7)
    assert not kept.has(digest, 8)
    assert kept.check(digest)


def test_a_damaged_object_is_noticed(tmp_path: Path, served: debrepo.Mirror) -> None:
    kept, items = Store(tmp_path / "cache"), wanted(served, "00", "01")
    kept.fetch(items)
    kept.path(items[0].sha256).write_bytes(b"short")
    assert kept.missing(items) == items[:1]  # the size gives it away
    kept.path(items[1].sha256).write_bytes(b"x" * items[1].size)
    assert not kept.check(items[1].sha256)
    assert not kept.path(items[1].sha256).exists()
    kept.fetch(items)
    assert_whole(tmp_path / "cache", items)


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GOLDEN_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/root")
    assert store.default_root() == Path("/root/.cache/goldenami")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache")
    assert store.default_root() == Path("/var/cache/goldenami")
    monkeypatch.setenv("GOLDEN_CACHE", "/srv/golden")
    assert store.default_root() == Path("/srv/golden")


def test_an_unwritable_store_is_told(tmp_path: Path, served: debrepo.Mirror) -> None:
    kept = Store(tmp_path / "cache")
    item = wanted(served, "00")[0]
    (kept.root / item.sha256[:2]).mkdir()
    (kept.root / item.sha256[:2] / item.sha256).mkdir()  # a folder where the object should go
    with pytest.raises(StageFailed, match="the store cannot take 00"):
        kept.fetch([item])


class SharedFolder:
    """A remote store of plain files, that can be told to spoil what it gives."""

    def __init__(self, folder: Path, *, spoil: bool = False) -> None:
        self.folder, self.spoil, self.asked = folder, spoil, list[tuple[str, int]]()

    def get(self, sha256: str, start: int) -> Iterator[bytes] | None:
        self.asked.append((sha256, start))
        path = self.folder / sha256
        if not path.is_file():
            return None
        content = path.read_bytes()[start:]
        return iter([bytes(byte ^ 255 for byte in content) if self.spoil else content])

    def put(self, sha256: str, source: Path) -> bool:
        if (self.folder / sha256).is_file():
            return False
        (self.folder / sha256).write_bytes(source.read_bytes())
        return True


@pytest.fixture
def shared(tmp_path: Path, served: debrepo.Mirror) -> SharedFolder:
    """A remote store that has the files 00 and 01."""
    (tmp_path / "shared").mkdir()
    remote = SharedFolder(tmp_path / "shared")
    for item in wanted(served, "00", "01"):
        assert remote.put(item.sha256, served.folder / item.name)
    return remote


def test_the_remote_store_is_asked_before_the_mirror(
    tmp_path: Path, served: debrepo.Mirror, shared: SharedFolder,
) -> None:
    items = wanted(served, "00", "01", "02")
    Store(tmp_path / "cache", remote=shared).fetch(items)
    assert served.requests == ["/02"]
    assert_whole(tmp_path / "cache", items)


def test_what_the_remote_store_has_spoilt_comes_from_the_mirror(
    tmp_path: Path, served: debrepo.Mirror, shared: SharedFolder,
) -> None:
    shared.spoil = True
    items = wanted(served, "00")
    Store(tmp_path / "cache", remote=shared).fetch(items)
    assert served.requests == ["/00"]
    assert_whole(tmp_path / "cache", items)


def test_a_part_of_the_mirror_outlives_a_remote_store_without_the_file(
    tmp_path: Path, served: debrepo.Mirror, shared: SharedFolder,
) -> None:
    item = kill_halfway(tmp_path / "cache", served)
    Store(tmp_path / "cache", remote=shared).fetch([item])
    assert shared.asked == [(item.sha256, 0)]
    assert "Range" in served.headers[-1]


def test_what_was_compiled_elsewhere_is_pulled(tmp_path: Path, served: debrepo.Mirror, shared: SharedFolder) -> None:
    there, missing = wanted(served, "00", "02")
    kept = Store(tmp_path / "cache", remote=shared)
    kept.pull([there, missing])
    assert served.requests == []
    assert_whole(tmp_path / "cache", [there])
    shared.spoil = True
    kept.pull(wanted(served, "01"))
    assert_whole(tmp_path / "cache", [there])


def test_garbage_is_what_nothing_names(tmp_path: Path, served: debrepo.Mirror) -> None:
    item = kill_halfway(tmp_path / "cache", served)
    kept = Store(tmp_path / "cache")
    first, second = wanted(served, "00", "01")
    kept.fetch([first, second])
    found = kept.garbage([first.sha256])
    assert {path.name: size for path, size in found.items() if path.suffix != ".from"} == {
        second.sha256: second.size, f"{item.sha256}.part": item.size // 2}


def test_nothing_is_deleted_under_another_process(tmp_path: Path) -> None:
    kept, other = Store(tmp_path / "cache"), Store(tmp_path / "cache")
    with pytest.raises(Busy, match="another process uses"), kept.alone():
        pass
    other.close()
    with kept.alone():
        pass
    Store(tmp_path / "cache").close()  # a lock that was not given back would hold this up for ever
