"""Calls into NVIDIA's libraries and other programs with a time limit. A call that hangs in the
kernel cannot be ended, so each runs in a process that can be left behind."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from golden_idle import driver_library
from golden_idle.driver_library import Failed

# A healthy cuInit of eight GPUs takes some seconds.
CALL_S = 60.0
# A GPU that is badly cooled throttles after half a minute.
LOAD_S = 60.0
COMMAND_S = 30.0
"""Seconds that a call, a load and a command may take. Callers set them before they ask."""

Facts = dict[str, Any]
_under_way: dict[int, tuple[str, float]] = {}
"""Threads to the calls that they wait for, with their starts (monotonic seconds)."""
_sending = threading.Lock()


def bounded(question: Callable[..., Facts], *arguments: Any) -> Facts:
    """Return a question's answer from a process of its own, or `error` if it fails or does not
    return."""
    return together(question, [arguments])[0]


def in_turn(question: Callable[..., Facts], cases: list[tuple[Any, ...]]) -> list[Facts]:
    """Return the answers to several cases from one process, in which libraries start once. If a
    call hangs, each case gets a process of its own."""
    if not cases:
        return []
    rows = bounded(_rows, question, cases).get("rows")
    if rows is None:
        return together(question, cases)
    return list(rows)


def _rows(question: Callable[..., Facts], cases: list[tuple[Any, ...]]) -> Facts:
    rows = list[Facts]()
    for arguments in cases:
        try:
            rows.append(question(*arguments))
        except Failed as error:
            rows.append({"error": str(error)})
    return {"rows": rows}


def together(question: Callable[..., Facts], cases: list[tuple[Any, ...]]) -> list[Facts]:
    """Return the answers to several cases, each from a process of its own, all at the same time."""
    children = []
    for arguments in cases:
        read_end, write_end = os.pipe()
        child = os.fork()
        if not child:
            _answer(write_end, question, arguments)
        os.close(write_end)
        children.append((read_end, child))
    # While a library is loaded, Python's lock keeps `_watch` from counting.
    deadline = time.monotonic() + 5 * CALL_S + LOAD_S
    return [_receive(read_end, child, deadline) for read_end, child in children]


def _receive(read_end: int, child: int, deadline: float) -> Facts:
    """Return the answer that a child writes before the deadline (monotonic seconds), and kill the
    child."""
    text = b""
    while select.select([read_end], [], [], max(0.0, deadline - time.monotonic()))[0]:
        if not (chunk := os.read(read_end, 1 << 16)):
            break
        text += chunk
    os.close(read_end)
    # No waitpid: a process that hangs in the kernel does not end.
    os.kill(child, signal.SIGKILL)
    if not text:
        return {"error": f"no answer within {5 * CALL_S + LOAD_S:g} s"}
    return dict(json.loads(text))


def _answer(pipe: int, question: Callable[..., Facts], arguments: tuple[Any, ...]) -> None:
    """Write the answer to the pipe and end this process."""
    # A process that hangs would keep SSH's connection open by its standard streams.
    null = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(null, stream)
    threading.Thread(target=_watch, args=(pipe,), daemon=True).start()
    try:
        answer = question(*arguments)
    except Exception as error:
        answer = {"error": str(error) or repr(error)}
    _send(pipe, answer)


def _watch(pipe: int) -> None:
    """Answer with an error if a call does not return in time."""
    while True:
        time.sleep(0.05)
        for name, since in list(_under_way.values()):
            if time.monotonic() - since > CALL_S:
                _send(pipe, {"error": f"{name} did not return within {CALL_S:g} s"})


def _send(pipe: int, answer: Facts) -> None:
    _sending.acquire()  # never released: only the first answer is sent
    with os.fdopen(pipe, "w") as sink:
        json.dump(answer, sink)
    os._exit(0)


class Library(driver_library.Library):
    """A library whose calls are watched: one that does not return in time ends its process."""

    def __call__(self, name: str, *arguments: Any) -> None:
        """Make a call. Raises Failed as the library does."""
        _under_way[threading.get_ident()] = name, time.monotonic()
        try:
            super().__call__(name, *arguments)
        finally:
            del _under_way[threading.get_ident()]


def output(*argv: str) -> str:
    """Return what a command prints, "" if it cannot be begun, or a line that says that it hangs."""
    try:
        done = subprocess.run(argv, capture_output=True, check=False, timeout=COMMAND_S)
    except OSError:
        return ""
    except subprocess.TimeoutExpired:
        return f"{argv[0]} gave no answer in {COMMAND_S:g} s"
    return (done.stdout + done.stderr).decode(errors="replace")


def file_text(path: Path) -> str:
    """Return a file's text without its line end, or "" if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
