"""Starts processes from argv lists, without a shell. No other module starts one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goldenami.core.errors import HostNotReady, StageFailed

SCRIPTS = Path(__file__).resolve().parents[2]
"""The folder that has the package `goldenami`."""
TAIL_LINES = 15
"""Lines of output shown with a failure: what fits on a terminal beside the message."""


def last_lines(text: str) -> str:
    """Return the last TAIL_LINES lines."""
    return "\n".join(text.splitlines()[-TAIL_LINES:])


def end_of(log: Path) -> str:
    """Return the last TAIL_LINES lines of a log."""
    return last_lines(log.read_text(encoding="utf-8", errors="replace"))


class CommandFailed(StageFailed):
    """A command exited non-zero, or a signal killed it."""

    def __init__(
        self, argv: Sequence[str], status: int, *, output: str, log: Path | None = None
    ) -> None:
        how = f"exited with status {status}"
        if status < 0:
            how = f"was killed by signal {-status}"
        super().__init__(f"{Path(argv[0]).name} {how}", log=log, tail=last_lines(output))
        self.argv = list(argv)
        self.status = status
        self.output = output


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment with a fixed locale, without debconf's questions, and with
    `extra` on top."""
    return {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", **(extra or {})}


def python_argv(module: str, *args: str) -> list[str]:
    """Return the argv that runs `module` with this interpreter."""
    return [sys.executable, "-m", module, *args]


def python_env() -> dict[str, str]:
    """Return the environment in which a child interpreter finds the package `goldenami`."""
    return {
        "PYTHONPATH": os.pathsep.join(
            filter(None, [str(SCRIPTS), os.environ.get("PYTHONPATH", "")])
        ),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def require(tool: str, package: str) -> str:
    """Return the path of `tool`. Raises HostNotReady with the Debian `package` that has it."""
    # Debian leaves the sbin folders out of the PATH of users.
    path = shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        raise HostNotReady(
            f"{tool} is not installed", hint=f"run `make setup` (Debian package {package})"
        )
    return path


@dataclass(frozen=True)
class Command:
    """A program to run: `argv` in the folder `cwd`, with `env` on top of this process's
    environment. The module's functions of the same names are shortcuts for simple calls."""

    argv: Sequence[str]
    env: Mapping[str, str] | None = None
    cwd: Path | None = None

    def output(
        self, *, check: bool = True, timeout_s: float | None = None, stdin: str | None = None
    ) -> str:
        """Run it and return its standard output. Standard error is shown only by CommandFailed."""
        source: dict[str, Any] = {"stdin": subprocess.DEVNULL}
        if stdin is not None:
            source = {"input": stdin}
        try:
            completed: subprocess.CompletedProcess[str] = subprocess.run(
                list(self.argv),
                env=environment(self.env),
                cwd=self.cwd,
                text=True,
                errors="replace",
                capture_output=True,
                timeout=timeout_s,
                check=False,
                **source,
            )
        except FileNotFoundError as error:
            if error.filename != self.argv[0]:
                raise  # the folder `cwd` is missing, not the program
            raise HostNotReady(
                f"{self.argv[0]} is not installed", hint="run `make setup`"
            ) from None
        if check and completed.returncode != 0:
            raise CommandFailed(
                self.argv, completed.returncode, output=completed.stdout + completed.stderr
            )
        return completed.stdout

    def stream(
        self,
        *,
        log: Path,
        on_line: Callable[[str], None] | None = None,
        grace_s: float = 5.0,
    ) -> None:
        """Run it with both outputs appended to `log`, and hand each line to `on_line` as it comes.
        An exception in this process ends the command (TERM, then KILL after `grace_s` seconds)."""
        with self._piped() as process:
            try:
                tail = self._relay(process, log, on_line)
                status = process.wait()
            except BaseException:
                stop(process, grace_s=grace_s)
                raise
        if status != 0:
            raise CommandFailed(self.argv, status, output="".join(tail), log=log)

    @contextmanager
    def streaming(self, *, log: Path, on_line: Callable[[str], None]) -> Iterator[None]:
        """Like `stream`, while the block runs; an exception in the block kills the command."""
        with self._piped() as process, ThreadPoolExecutor(1) as pool:
            try:
                relayed = pool.submit(self._relay, process, log, on_line)
                yield
                tail = relayed.result()
                status = process.wait()
            finally:
                # The thread ends with the command's output, and the pool waits for the thread.
                stop(process, grace_s=0)
        if status != 0:
            raise CommandFailed(self.argv, status, output="".join(tail), log=log)

    def start(
        self,
        *,
        log: Path,
        pass_fds: Sequence[int] = (),
        stdin: int = subprocess.DEVNULL,
        session: bool = False,
    ) -> subprocess.Popen[bytes]:
        """Start it in the background with both outputs appended to `log`. The caller ends it with
        `stop`. In a `session` of its own it outlives this process and its terminal."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as sink:
            return subprocess.Popen(
                list(self.argv),
                env=environment(self.env),
                stdin=stdin,
                stdout=sink,
                stderr=subprocess.STDOUT,
                pass_fds=tuple(pass_fds),
                cwd=self.cwd,
                start_new_session=session,
            )

    def _piped(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            list(self.argv),
            env=environment(self.env),
            cwd=self.cwd,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=1,
        )

    def _relay(
        self,
        process: subprocess.Popen[str],
        log: Path,
        on_line: Callable[[str], None] | None,
    ) -> list[str]:
        tail: list[str] = []
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as sink:
            sink.write(f"$ {' '.join(self.argv)}\n")
            assert process.stdout is not None
            for line in process.stdout:
                sink.write(line)
                sink.flush()
                # Only the end, which a failure shows: the whole output may be large.
                tail = [*tail[-200:], line]
                if on_line is not None:
                    on_line(line.rstrip("\n"))
        return tail


def output(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    check: bool = True,
) -> str:
    """Run `argv` and return its standard output. Standard error is shown only by CommandFailed."""
    return Command(argv, env, cwd).output(check=check)


def stream(argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None) -> None:
    """Run `argv` with both outputs appended to `log`."""
    Command(argv, env).stream(log=log)


def start(
    argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start `argv` in the background with both outputs appended to `log`. The caller ends it with
    `stop`."""
    return Command(argv, env).start(log=log)


def conversation(argv: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start `argv` with pipes for its input and both outputs. The caller ends it with `stop`."""
    pipe = subprocess.PIPE
    return subprocess.Popen(list(argv), stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0)


def interactive(argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> int:
    """Run `argv` on this terminal and return its exit status."""
    return subprocess.run(list(argv), env=environment(env), check=False).returncode


def stop(process: subprocess.Popen[bytes] | subprocess.Popen[str], *, grace_s: float = 5.0) -> None:
    """End a process: TERM, then KILL after `grace_s` seconds (0: KILL at once)."""
    if process.poll() is not None:
        return
    if grace_s:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=grace_s)
            return
    process.kill()
    process.wait()
