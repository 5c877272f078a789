"""Layers: made whole or not at all, found damaged, evicted by least use, never under somebody's
feet."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from goldenami.core import records, shell
from goldenami.local.tree import layers
from goldenami.local.tree.layers import RECORD, DamagedLayer, LayerRecord, Stack
from support import files
from support.waiting import LIMIT_S, until

KEYS = ("a" * 64, "b" * 64, "c" * 64)


def make(folder: Path, key: str, *, name: str = "demo", text: str = "content") -> Path:
    with Stack(folder) as stack, stack.make(key, name) as aside:
        assert aside is not None
        files.write(aside, {"root/etc/file": text})
        (aside / "root/etc/link").symlink_to("file")
    return folder / key / "root"


def test_a_layer_is_taken_under_its_key_only(tmp_path: Path) -> None:
    roots = [make(tmp_path, key, name=key[0]) for key in KEYS[:2]]
    with Stack(tmp_path) as stack:
        assert not stack.take(KEYS[2])
        assert all(stack.take(key) for key in KEYS[:2])
        # overlayfs takes the one on top first
        assert (stack.lowers, stack.reused) == (roots[::-1], ["a", "b"])
        stack.check_whole()


def test_one_that_failed_has_no_key(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError),
        Stack(tmp_path) as stack,
        stack.make(KEYS[0], "demo") as aside,
    ):
        assert aside is not None
        (aside / "root").mkdir()
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == [f"{KEYS[0]}.lock"]


def _relink(link: Path) -> None:
    link.unlink()
    link.symlink_to("other")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "content": lambda root: (root / "etc/file").write_text("CONTENT", encoding="utf-8"),
    "mode": lambda root: (root / "etc/file").chmod(0o600),
    "gone": lambda root: (root / "etc/file").unlink(),
    "one more": lambda root: (root / "etc/more").touch(),
    "owner": lambda root: os.chown(root / "etc/file", 1, 0),
    "target": lambda root: _relink(root / "etc/link"),
    "attribute": lambda root: os.setxattr(root / "etc", "user.golden", b"x"),
    "empty folder": lambda root: (root / "var").mkdir(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_and_removed(tmp_path: Path, damage: str) -> None:
    root = make(tmp_path, KEYS[0], name="cuda")
    status = (root / "etc/file").stat()
    DAMAGES[damage](root)
    if damage == "content":
        os.utime(root / "etc/file", ns=(status.st_atime_ns, status.st_mtime_ns))
    with Stack(tmp_path) as stack:
        assert stack.take(KEYS[0])
        with pytest.raises(DamagedLayer, match=r"^damaged layer removed \(cuda\)"):
            stack.check_whole()
    with Stack(tmp_path) as stack:
        assert not stack.take(KEYS[0])


def test_nothing_is_kept_of_what_was_made_on_a_damaged_layer(tmp_path: Path) -> None:
    root = make(tmp_path, KEYS[0], name="cuda")
    (root / "etc/file").write_text("other", encoding="utf-8")
    with pytest.raises(DamagedLayer), Stack(tmp_path) as stack:
        assert stack.take(KEYS[0])
        with stack.make(KEYS[1], "driver") as aside:
            assert aside is not None
            (aside / "root").mkdir()
    with Stack(tmp_path) as stack:
        assert not stack.take(KEYS[0]) and not stack.take(KEYS[1])


@pytest.mark.parametrize("record", ["", "{", "[]"])
def test_a_layer_whose_record_is_damaged_is_none(tmp_path: Path, record: str) -> None:
    make(tmp_path, KEYS[0])
    (tmp_path / KEYS[0] / RECORD).write_text(record, encoding="utf-8")
    with Stack(tmp_path) as stack:
        assert not stack.take(KEYS[0])
    make(tmp_path, KEYS[0])
    with Stack(tmp_path) as stack:
        assert stack.take(KEYS[0])


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    for age, key in enumerate(KEYS):
        make(tmp_path, key, name=key[0], text=key * 1000)
        os.utime(tmp_path / key, (1000 - age, 1000 - age))
    size = records.read(tmp_path / KEYS[0] / RECORD, LayerRecord).bytes
    with Stack(tmp_path) as stack:
        assert stack.take(KEYS[2])  # which makes it the newest
    assert layers.evict(tmp_path, 2 * size) == ["b"]
    assert layers.evict(tmp_path, 2 * size) == []
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == [KEYS[0], KEYS[2]]


def test_one_in_use_stays(tmp_path: Path) -> None:
    make(tmp_path, KEYS[0], name="kept")
    with Stack(tmp_path) as stack:
        assert stack.take(KEYS[0])
        assert layers.evict(tmp_path, 0) == []
    assert layers.evict(tmp_path, 0) == ["kept"]


MAKER = """
import sys, time
from pathlib import Path
from goldenami.local.tree.layers import Stack
with Stack(Path(sys.argv[1])) as stack, stack.make(sys.argv[2], "demo") as aside:
    (aside / "root").mkdir()
    print("making", flush=True)
    time.sleep(60)
"""


def _started(code: str, folder: Path, *before: str) -> subprocess.Popen[bytes]:
    """A process that does this with the first layer of the folder."""
    return subprocess.Popen(
        [*before, sys.executable, "-c", code, str(folder), KEYS[0]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=shell.python_env(),
    )


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    with _started(MAKER, tmp_path) as process:
        assert _line(process) == b"making\n"
        with Stack(tmp_path):
            assert list(tmp_path.glob("*.part")), "another one's work was swept while it was at it"
        process.kill()
    assert list(tmp_path.glob("*.part"))
    with Stack(tmp_path) as stack:
        assert not list(tmp_path.glob("*.part"))
        assert not stack.take(KEYS[0])


def _line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.readline()


def _until_it_waits(path: Path) -> None:
    """Return when the kernel has a process waiting for the lock on the file `path` (`->` in
    /proc/locks)."""
    number = path.stat().st_ino
    until(
        "a process that waits for the lock",
        lambda: re.search(
            rf"^\d+: -> FLOCK .*:{number} ", Path("/proc/locks").read_text(encoding="utf-8"), re.M
        ),
    )


USER = """
import sys, time
from pathlib import Path
from goldenami.local.tree.layers import Stack
with Stack(Path(sys.argv[1])) as stack:
    with stack.make(sys.argv[2], "demo") as aside:
        (aside / "root").mkdir()
        print("making", flush=True)
        sys.stdin.readline()
    print("made", flush=True)
    sys.stdin.readline()
"""


def test_a_maker_takes_what_another_has_made_and_does_not_wait_for_its_whole_bake(
    tmp_path: Path,
) -> None:
    """Both found that it is not there, as two bakes of one lock do; the other uses it until this
    test ends."""
    said: list[str] = []
    with _started(USER, tmp_path) as other, ThreadPoolExecutor(1) as pool:
        assert other.stdin is not None
        assert _line(other) == b"making\n"
        waits = pool.submit(_make, tmp_path, said)
        _until_it_waits(tmp_path / f"{KEYS[0]}.lock")
        other.stdin.write(b"go on\n")
        other.stdin.flush()
        assert _line(other) == b"made\n"
        try:
            assert waits.result(timeout=LIMIT_S) == (None, [tmp_path / KEYS[0] / "root"], ["demo"])
        finally:
            other.kill()
    assert said == ["waits for a layer that another bake makes"]


def _make(folder: Path, said: list[str]) -> tuple[Path | None, list[Path], list[str]]:
    with Stack(folder, say=said.append) as stack, stack.make(KEYS[0], "demo") as aside:
        return aside, stack.lowers, stack.reused


def test_what_is_not_there_is_not_held(tmp_path: Path) -> None:
    """Two that looked for it in vain would wait for each other."""
    with Stack(tmp_path) as first, Stack(tmp_path) as second:
        assert not first.take(KEYS[0])
        assert not second.take(KEYS[0])
        with first.make(KEYS[0], "demo") as aside:
            assert aside is not None
            (aside / "root").mkdir()
        assert second.take(KEYS[0])


def test_a_file_has_the_rank_of_the_highest_layer_that_holds_it(tmp_path: Path) -> None:
    files.write(tmp_path, dict.fromkeys(("0/etc/a", "0/etc/b", "0/top", "1/etc/b"), ""))
    assert layers.ranks([tmp_path / "0", tmp_path / "1"]) == {
        "./etc/a": 0,
        "./etc/b": 1,
        "./top": 0,
    }
    shutil.rmtree(tmp_path / "1")
    assert layers.ranks([tmp_path / "0", tmp_path / "1"])["./etc/b"] == 0
