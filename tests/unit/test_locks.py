"""Locks between processes: who is in whose way, and what a kill leaves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from goldenami.core import locks, shell
from goldenami.core.locks import AT_ONCE, EXCLUSIVE, SHARED

HOLDER = """
import sys
from pathlib import Path
from goldenami.core import locks
with locks.hold(Path(sys.argv[1])):
    print("holds", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize(("first", "second", "together"), [
    (SHARED, SHARED, True), (SHARED, EXCLUSIVE, False), (EXCLUSIVE, SHARED, False), (EXCLUSIVE, EXCLUSIVE, False),
])
def test_who_is_in_whose_way(tmp_path: Path, first: int, second: int, together: bool) -> None:
    path = tmp_path / "folder/lock"
    with locks.hold(path, first):
        if together:
            locks.hold(path, second | AT_ONCE).close()
        else:
            with pytest.raises(BlockingIOError):
                locks.hold(path, second | AT_ONCE)
    locks.hold(path, second | AT_ONCE).close()


def test_what_a_holder_wrote_can_be_read_by_who_asks(tmp_path: Path) -> None:
    with locks.hold(tmp_path / "lock") as handle:
        handle.write("4711")
        handle.flush()
        with pytest.raises(BlockingIOError):
            locks.hold(tmp_path / "lock", EXCLUSIVE | AT_ONCE)
        assert (tmp_path / "lock").read_text(encoding="utf-8") == "4711"


def test_a_kill_lets_go(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "lock")], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, env=shell.python_env()) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"holds\n"
        with pytest.raises(BlockingIOError):
            locks.hold(tmp_path / "lock", EXCLUSIVE | AT_ONCE)
        process.kill()
        locks.hold(tmp_path / "lock").close()


def test_a_program_that_was_started_meanwhile_does_not_hold_it(tmp_path: Path) -> None:
    with locks.hold(tmp_path / "lock"):
        process = shell.start(["sleep", "60"], log=tmp_path / "log")
    locks.hold(tmp_path / "lock", EXCLUSIVE | AT_ONCE).close()
    shell.stop(process)
