"""Processes known by pid and start time, so that a pid that was used again is another process."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from goldenami.core.process import ProcessId


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def test_this_process_lives() -> None:
    assert ProcessId.current().pid == os.getpid()
    assert ProcessId.current() == ProcessId.of(os.getpid())
    assert ProcessId.current().alive


def test_start_time_is_that_of_ps(sleeper: subprocess.Popen[bytes]) -> None:
    process = ProcessId.of(sleeper.pid)
    assert process is not None
    ticks = os.sysconf("SC_CLK_TCK")
    assert 0 <= process.started - ProcessId.current().started < 3600 * ticks


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
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has collected it
    assert not process.alive
    assert ProcessId.of(sleeper.pid) is None


def test_no_such_process() -> None:
    assert ProcessId.of(2**22 + 1) is None
    assert not ProcessId(2**22 + 1, 1).alive


def test_text_and_back() -> None:
    process = ProcessId(4711, 1234567)
    assert str(process) == "4711-1234567"
    assert ProcessId.parse("4711-1234567") == process


@pytest.mark.parametrize(("name", "process"), [
    (".work-bake-4711-99", ProcessId(4711, 99)), (".work-wheel-123456789012-4711-99", ProcessId(4711, 99)),
    ("abc.4711-99", ProcessId(4711, 99)), (".work-bake-4711", None), ("4711", None), ("", None),
    ("4711-99.part", None), ("4711-99-x", None), ("x4711-99", None), ("-4711-99", ProcessId(4711, 99)),
])
def test_end_of_a_name(name: str, process: ProcessId | None) -> None:
    assert ProcessId.parse(name) == process
