"""A shell that stays open on a machine. A command in it costs a fork; over SSH it would cost a new
session, which takes a second under emulation.

Before and after each command the shell prints a mark on both output streams, so output may hold any
bytes. What a process in the background prints after its command has ended belongs to no command.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import selectors
import shlex
import subprocess
import time
from collections.abc import Sequence
from typing import NamedTuple

from goldenami.core import shell

LIMIT_S = 1800.0
"""Seconds that a command may take: under emulation some take minutes."""
OPENED = "setsid --wait sh"
"""Command that opens the shell. It has a session of its own, so that a command that hangs is ended
with all that it started."""
OPEN_LIMIT_S = 120.0
"""Seconds to the shell's first answer: a busy emulated machine takes ten."""
_CHUNK, _SHOWN, _MARK_BYTES = 1 << 16, 80, 80


class ShellLost(ConnectionError):
    """The shell ended, or the way to it: nobody knows what became of the command."""


class Done(NamedTuple):
    """A command's exit status and what it printed."""

    status: int
    out: bytes
    err: bytes


class _Ended(Exception):
    """The shell ended. The message is what came over the error stream."""

    def __init__(self, begun: bool, errors: bytes) -> None:
        super().__init__(errors.decode(errors="replace").strip())
        self.begun = begun


class _Stream:
    """One output stream of a command, between its marks."""

    def __init__(self, mark: str) -> None:
        self._begin, self._end = f"{mark}b\n".encode(), re.compile(rf"{mark}e(\d+)\n".encode())
        self.received = bytearray()
        self.end: re.Match[bytes] | None = None

    def add(self, chunk: bytes) -> None:
        """Add a chunk that was read."""
        before = max(0, len(self.received) - _MARK_BYTES)
        self.received += chunk
        # A mark may come in two parts: search from a little before the chunk.
        self.end = self._end.search(self.received, before)

    @property
    def begun(self) -> bool:
        return self._begin in self.received

    def done(self) -> tuple[int, bytes]:
        """Return the exit status and the output between the marks."""
        assert self.end is not None
        start = self.received.index(self._begin) + len(self._begin)
        return int(self.end[1]), bytes(self.received[start : self.end.start()])


class MachineShell:
    """A shell behind `argv`, which runs OPENED on the machine; `name` is the machine's in messages.
    The first command opens it, and so does the first one after it was lost."""

    def __init__(self, argv: Sequence[str], name: str, limit_s: float = LIMIT_S) -> None:
        self._argv, self._name, self._limit_s = list(argv), name, limit_s
        self._process: subprocess.Popen[bytes] | None = None
        self._session = b""

    def run(self, command: bytes) -> Done:
        """Run a command line with /dev/null for standard input. Raises TimeoutError if it takes
        longer than the limit, and ends it; ShellLost if no status came back."""
        was_open = self._process is not None
        try:
            return self._try(command)
        except _Ended as ended:
            if was_open and not ended.begun:
                # The way broke before the command began, such as by a restart of sshd: try again.
                return self.run(command)
            raise ShellLost(
                f"the shell on {self._name} ended before `{_short(command)}` did: "
                + (str(ended) or "it said nothing")
            ) from None

    def close(self) -> None:
        process, self._process = self._process, None
        if process:
            shell.stop(process, grace_s=0)
            for stream in (process.stdin, process.stdout, process.stderr):
                assert stream is not None
                stream.close()

    def _try(self, command: bytes) -> Done:
        if self._process is None:
            self._process = shell.conversation(self._argv)
            self._session = self._ask(b"echo $$", OPEN_LIMIT_S).out.strip()
        try:
            return self._ask(command, self._limit_s)
        except TimeoutError:
            self._end(self._session)
            raise

    def _end(self, session: bytes) -> None:
        """End a command that hangs, with all that it started."""
        # From a new shell, since the kernel ends nothing when a connection goes.
        self.close()
        with contextlib.suppress(_Ended, TimeoutError):
            self._try(b"kill -KILL -" + session)

    def _ask(self, command: bytes, limit_s: float) -> Done:
        mark = secrets.token_hex(16)
        # The command runs in a subshell, so it can neither end this shell nor change its state.
        line = (
            f"{{ echo {mark}b; echo {mark}b >&2; (eval {shlex.quote(os.fsdecode(command))}) "
            f"</dev/null; set -- $?; echo {mark}e$1; echo {mark}e$1 >&2; set --; }}\n"
        )
        out, err = _Stream(mark), _Stream(mark)
        try:
            self._exchange(os.fsencode(line), out, err, time.monotonic() + limit_s)
        except TimeoutError:
            message = f"`{_short(command)}` gave no answer in {limit_s:.0f} s"
            raise TimeoutError(message) from None
        except (EOFError, BrokenPipeError):
            ended = _Ended(out.begun, bytes(err.received) + self._last_words())
            self.close()
            raise ended from None
        return Done(*out.done(), err.done()[1])

    def _exchange(self, line: bytes, out: _Stream, err: _Stream, deadline: float) -> None:
        process = self._process
        assert process is not None and process.stdin and process.stdout and process.stderr
        left = memoryview(line)
        while left:
            left = left[process.stdin.write(left) :]
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ, out)
            selector.register(process.stderr, selectors.EVENT_READ, err)
            while not (out.end and err.end):
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                if not ready:
                    raise TimeoutError
                for key, _ in ready:
                    chunk = os.read(key.fd, _CHUNK)
                    if not chunk:
                        raise EOFError
                    key.data.add(chunk)

    def _last_words(self) -> bytes:
        """Return what else came over the error stream."""
        assert self._process is not None and self._process.stderr
        # A child of the shell may hold the other end, so the stream may never end: do not wait.
        os.set_blocking(self._process.stderr.fileno(), False)
        return self._process.stderr.read(_CHUNK) or b""


def _short(command: bytes) -> str:
    shown = command.decode(errors="replace")
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
