"""One open shell: what a command prints, how it ends, and what it may do to the shell."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from goldenami.local.machine.machine_shell import OPENED, Done, MachineShell, ShellLost
from support.builds.checkout import processes
from support.waiting import until

BYTES = bytes(range(256)) * 400
"""More than a pipe holds."""


@pytest.fixture
def shell() -> Iterator[MachineShell]:
    opened = MachineShell(["sh", "-c", f"exec {OPENED}"], "a machine", limit_s=20.0)
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("command", "done"),
    [
        ("echo one; echo two >&2", (0, b"one\n", b"two\n")),
        ("printf 'no newline'", (0, b"no newline", b"")),
        ("exit 7", (7, b"", b"")),
        ("false", (1, b"", b"")),
        ("kill -TERM $(exec sh -c 'echo $PPID')", (128 + signal.SIGTERM, b"", b"Terminated\n")),
        ("cat", (0, b"", b"")),
        ("read line || echo at once", (0, b"at once\n", b"")),
        ("""echo "it's" 'a "$HOME"' \\\\ '%s' \\$x""", (0, b'it\'s a "$HOME" \\ %s $x\n', b"")),
        ("echo $# $0", (0, b"0 sh\n", b"")),
        ("echo a\necho b # and c", (0, b"a\nb\n", b"")),
        ("cat <<'END'\ntext\nEND", (0, b"text\n", b"")),
        ("", (0, b"", b"")),
    ],
)
def test_a_command_is_what_it_is_alone(
    shell: MachineShell, command: str, done: tuple[int, bytes, bytes]
) -> None:
    assert shell.run(command.encode()) == Done(*done)


def test_output_may_hold_any_bytes(shell: MachineShell, tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(BYTES)
    found = shell.run(f"cat {tmp_path}/bytes; cat {tmp_path}/bytes >&2".encode())
    assert found == Done(0, BYTES, BYTES)


def test_a_long_command_and_one_in_bytes_of_no_text(shell: MachineShell) -> None:
    long = "x" * 200_000
    assert shell.run(f": {long}; echo {long}".encode()).out == f"{long}\n".encode()
    assert shell.run(b"printf '\xff\xfe'").out == b"\xff\xfe"


def test_what_is_wrong_as_shell_ends_the_command_alone(shell: MachineShell) -> None:
    wrong = shell.run(b"if then '")
    assert wrong.status == 2 and wrong.err
    assert shell.run(b"echo well").out == b"well\n"


def test_a_command_leaves_nothing_to_the_next(shell: MachineShell) -> None:
    shell.run(b"cd /tmp; export LEFT=1; umask 0; set -- a b; exec >/dev/null; alias echo=false")
    assert shell.run(b'pwd; echo "$LEFT $#"; umask').out == f"{Path.cwd()}\n 0\n0022\n".encode()


def test_a_child_s_late_words_are_no_answer(shell: MachineShell) -> None:
    began = time.monotonic()
    assert shell.run(b"(sleep 0.3; echo late) & echo now").out == b"now\n"
    assert time.monotonic() - began < 20
    time.sleep(0.6)
    assert shell.run(b"echo then").out == b"then\n"


def test_a_command_that_kills_the_shell_is_named_and_the_next_has_a_new_one(
    shell: MachineShell, tmp_path: Path
) -> None:
    """And it runs once."""
    first = shell.run(b"echo $$").out
    with pytest.raises(ShellLost, match=r"the shell on a machine ended before `kill -KILL \$\$"):
        shell.run(f"kill -KILL $$ $(echo once >>{tmp_path}/runs)".encode())
    assert (tmp_path / "runs").read_text(encoding="utf-8") == "once\n"
    assert shell.run(b"echo $$").out not in (b"", first)


def test_a_shell_that_went_between_commands_is_opened_anew(shell: MachineShell) -> None:
    found = int(shell.run(b"echo $$").out)
    os.kill(found, signal.SIGKILL)
    until("the shell to end", lambda: not Path(f"/proc/{found}/cmdline").read_bytes(), limit_s=9)
    assert shell.run(b"echo here").out == b"here\n"


def test_a_command_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    shell = MachineShell(["sh", "-c", f"exec {OPENED}"], "a machine", limit_s=1.0)
    hangs = f"sh -c 'sleep 618; : {tmp_path}'; echo never"
    with pytest.raises(TimeoutError, match=r"`sh -c 'sleep 618; .*` gave no answer in 1 s"):
        shell.run(hangs.encode())
    until("its children to end", lambda: not processes(str(tmp_path)), limit_s=9)
    assert shell.run(b"echo here").out == b"here\n"
    shell.close()


def test_a_way_that_leads_nowhere_says_why() -> None:
    shell = MachineShell(["sh", "-c", "echo no route to host >&2; exit 255"], "ssh://gone")
    with pytest.raises(
        ShellLost, match="the shell on ssh://gone ended before `true` did: no route"
    ):
        shell.run(b"true")
