"""Processes known by pid and start time, so that a pid that was used again is another process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from goldenami import cli
from goldenami.core.process import ProcessId, is_left, machine, scratch

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"
THERE = "0123456789ab"
"""Another machine."""
ONE = ProcessId(4711, 99, THERE)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def test_this_process_lives_and_no_other() -> None:
    me = ProcessId.current()
    assert (me.pid, me, me.alive) == (os.getpid(), ProcessId.of(os.getpid()), True)
    assert me.machine == ProcessId(4711, 1234567).machine == machine()
    assert ProcessId.of(2**22 + 1) is None
    assert not ProcessId(2**22 + 1, 1).alive


def test_program_s_name_with_spaces_and_brackets(tmp_path: Path) -> None:
    program = tmp_path / "a) Z 1 (b"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "60"]) as odd:
        process = ProcessId.of(odd.pid)
        odd.kill()
    assert process is not None
    assert process.started >= ProcessId.current().started


def test_pid_used_again_is_another_process(sleeper: subprocess.Popen[bytes]) -> None:
    process = ProcessId.of(sleeper.pid)
    assert process is not None and process.alive
    assert not ProcessId(process.pid, process.started - 1).alive


def test_zombie_is_dead(sleeper: subprocess.Popen[bytes]) -> None:
    process = ProcessId.of(sleeper.pid)
    assert process is not None
    os.kill(sleeper.pid, signal.SIGKILL)
    # It has ended, and nobody has collected it.
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert not process.alive
    assert ProcessId.of(sleeper.pid) is None


def test_of_a_process_elsewhere_only_age_tells(tmp_path: Path) -> None:
    here = ProcessId.current()
    names = [
        here,
        replace(here, started=here.started - 1),
        replace(here, machine=THERE),
        ONE,
        "4711-99",
        "4711",
    ]
    paths = [tmp_path / f"work-{name}" for name in names]
    for path in paths:
        path.mkdir()
    assert not ONE.alive and not ONE.has_ended
    assert [is_left(path) for path in paths] == [False, True, False, False, False, False]
    for path in paths:
        os.utime(path, (0, 0))
    assert [is_left(path) for path in paths] == [False, True, True, True, True, True]
    assert is_left(tmp_path / f"gone-{ONE}")


def test_a_proc_of_another_namespace_shows_no_machine(tmp_path: Path) -> None:
    """Without --mount-proc the pid that a process has for itself is another's in /proc."""
    program = (
        "from goldenami.core.process import *; me = ProcessId.current(); "
        "print(me, me.alive, me.has_ended)"
    )
    said = [
        subprocess.run(
            ["unshare", "--pid", "--fork", sys.executable, "-c", program],
            check=True,
            text=True,
            capture_output=True,
            env={"PYTHONPATH": str(SCRIPTS)},
        ).stdout.split()
        for _ in range(2)
    ]
    assert [words[1:] for words in said] == [["True", "False"]] * 2
    assert machine() not in {words[0].rpartition("-")[2] for words in said}


def test_what_a_killed_command_left_goes_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killed = (
        "import os; from goldenami.core import process; made = process.scratch(); "
        "os.kill(os.getpid(), 9)"
    )
    env = {"PYTHONPATH": str(SCRIPTS), "TMPDIR": str(tmp_path)}
    assert subprocess.run([sys.executable, "-c", killed], env=env).returncode == -signal.SIGKILL
    somebodys = tmp_path / "golden-rules"
    somebodys.mkdir()
    with scratch() as mine:
        assert Path(mine).stat().st_mode & 0o777 == 0o700
        assert len(list(tmp_path.iterdir())) == 3
        cli.main(["--help"])
        assert {*tmp_path.iterdir()} == {Path(mine), somebodys}
