from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from goldenami.core import shell
from goldenami.core.errors import ExitCode, HostNotReady
from support.waiting import until

PYTHON = sys.executable


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_output_is_standard_output_in_a_predictable_locale() -> None:
    assert shell.output(["sh", "-c", "echo out; echo err >&2"]) == "out\n"
    assert (
        shell.output(["sh", "-c", "echo $LC_ALL $EXTRA"], env={"EXTRA": "more"}) == "C.UTF-8 more\n"
    )
    assert shell.output(["cat"]) == ""
    assert shell.Command(["cat"]).output(stdin="text") == "text"
    assert shell.output(["printf", r"\377"]) == "\N{REPLACEMENT CHARACTER}"


def test_a_failure_carries_status_and_last_lines() -> None:
    with pytest.raises(shell.CommandFailed) as caught:
        shell.output(["sh", "-c", "seq 1 40; echo reason >&2; exit 3"])
    error = caught.value
    assert (error.message, error.status, error.exit_code) == (
        "sh exited with status 3",
        3,
        ExitCode.STAGE_FAILED,
    )
    assert error.tail.splitlines() == [*map(str, range(27, 41)), "reason"]
    assert shell.output(["sh", "-c", "echo kept; exit 1"], check=False) == "kept\n"


def test_a_kill_is_told_from_an_exit() -> None:
    with pytest.raises(shell.CommandFailed, match="sh was killed by signal 9"):
        shell.output(["sh", "-c", "kill -9 $$"])


def test_a_command_that_is_not_installed(tmp_path: Path) -> None:
    with pytest.raises(HostNotReady, match="no-such-tool is not installed"):
        shell.output(["no-such-tool"])
    with pytest.raises(HostNotReady) as caught:
        shell.require("no-such-tool", "some-package")
    assert (caught.value.exit_code, caught.value.hint) == (
        ExitCode.HOST,
        "run `make setup` (Debian package some-package)",
    )
    with pytest.raises(FileNotFoundError):
        shell.output(["true"], cwd=tmp_path / "gone")


def test_stream_hands_on_lines_as_they_come(tmp_path: Path) -> None:
    log, seen = tmp_path / "deep/log", []
    script = f"echo first; read line < {tmp_path}/pipe; echo $line; echo last >&2"
    os.mkfifo(tmp_path / "pipe")

    def on_line(line: str) -> None:
        seen.append(line)
        if line == "first":  # the command waits for this: it cannot have ended
            (tmp_path / "pipe").write_text("answer\n", encoding="utf-8")

    shell.Command(["sh", "-c", script]).stream(log=log, on_line=on_line)
    assert seen == ["first", "answer", "last"]
    assert log.read_text(encoding="utf-8") == f"$ sh -c {script}\nfirst\nanswer\nlast\n"


def test_stream_names_the_log_on_failure(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n", encoding="utf-8")
    with pytest.raises(shell.CommandFailed) as caught:
        shell.stream(["sh", "-c", "echo why; exit 4"], log=log)
    assert (caught.value.status, caught.value.tail, caught.value.log) == (4, "why", log)
    assert log.read_text(encoding="utf-8").startswith("before\n$ sh")


def test_an_exception_ends_the_command(tmp_path: Path) -> None:
    pids: list[int] = []

    def on_line(line: str) -> None:
        pids.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shell.Command(
            [PYTHON, "-uc", "import os, time; print(os.getpid()); time.sleep(600)"]
        ).stream(log=tmp_path / "log", on_line=on_line)
    assert gone(pids[0])


@pytest.mark.parametrize(
    ("ignores", "grace_s", "expected"),
    [
        (False, 5.0, -signal.SIGTERM),
        (True, 0.2, -signal.SIGKILL),
        (False, 0.0, -signal.SIGKILL),
    ],
)
def test_stop_asks_then_kills(tmp_path: Path, ignores: bool, grace_s: float, expected: int) -> None:
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN);" if ignores else ""
    log = tmp_path / "log"
    process = shell.start(
        [PYTHON, "-uc", f"import signal, time; {ignore} print('up'); time.sleep(600)"], log=log
    )
    until("a process that is up", lambda: "up" in log.read_text(encoding="utf-8"))
    shell.stop(process, grace_s=grace_s)
    assert process.returncode == expected
    shell.stop(process)
