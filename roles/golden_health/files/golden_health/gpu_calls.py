"""Calls into NVIDIA's libraries with a time limit. A call that hangs in the kernel cannot be ended,
so each runs in a process that can be left behind."""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import threading
import time
from collections.abc import Callable
from ctypes import byref, c_char, c_char_p, c_uint
from pathlib import Path
from typing import Any

# A healthy cuInit of eight GPUs takes some seconds.
CALL_S = 60.0
# A GPU that is badly cooled throttles after half a minute.
LOAD_S = 60.0
"""Seconds that a call and a load may take. Callers set them before they ask."""

Facts = dict[str, Any]
_under_way: dict[int, tuple[str, float]] = {}
"""Threads to the calls that they wait for, with their starts (monotonic seconds)."""
_sending = threading.Lock()


LOST = 15  # nvml.h, NVML_ERROR_GPU_IS_LOST


class Failed(Exception):
    """A call into one of NVIDIA's libraries that did not return 0."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


def bounded(question: Callable[..., Facts], *arguments: Any) -> Facts:
    """Return a question's answer from a process of its own, or `error` if it fails or does not
    return."""
    return together(question, [arguments])[0]


def in_turn(question: Callable[..., Facts], cases: list[tuple[Any, ...]]) -> list[Facts]:
    """Return the answers to several cases from one process, in which libraries start once. If a
    call hangs, each case gets a process of its own."""
    rows = bounded(_rows, question, cases).get("rows") if cases else []
    return together(question, cases) if rows is None else list(rows)


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
    return (
        dict(json.loads(text)) if text else {"error": f"no answer within {5 * CALL_S + LOAD_S:g} s"}
    )


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


class Library:
    """A library whose calls return 0 or an error number. `words` is the name of its call that
    describes a number."""

    def __init__(self, name: str, words: str) -> None:
        self._library, self._words = ctypes.CDLL(name), words
        mapped = {
            line.split()[-1]
            for line in Path("/proc/self/maps").read_text().splitlines()
            if ".so" in line
        }
        stem = name.split(".so", maxsplit=1)[0]
        self.file = next(Path(path).resolve().name for path in mapped if f"/{stem}.so" in path)

    def __call__(self, name: str, *arguments: Any) -> None:
        """Make a call. Raises Failed if it returns another number than 0."""
        _under_way[threading.get_ident()] = name, time.monotonic()
        status = getattr(self._library, name)(*arguments)
        del _under_way[threading.get_ident()]
        if status:
            raise Failed(f"{name} returned {status} ({self.words(status)})", status)

    def words(self, status: int) -> str:
        """Return the description of an error number. NVML returns the text, CUDA writes a pointer
        to it."""
        function, text = getattr(self._library, self._words), c_char_p()
        if self._words == "nvmlErrorString":
            function.restype = c_char_p
            return str(function(status).decode())
        function(status, byref(text))
        return (text.value or b"unknown").decode()

    def number(self, name: str, *arguments: Any, kind: Any = c_uint) -> int:
        """Return the number that a call writes through its last argument."""
        value = kind()
        self(name, *arguments, byref(value))
        return int(value.value)

    def numbers(self, count: int, name: str, *arguments: Any) -> list[int]:
        """Return the numbers that a call writes through its last `count` arguments."""
        values = [c_uint() for _ in range(count)]
        self(name, *arguments, *(byref(value) for value in values))
        return [value.value for value in values]

    def text(self, name: str, *arguments: Any) -> str:
        """Return the text that a call writes to a buffer."""
        buffer = (c_char * 96)()
        self(name, *arguments, buffer, c_uint(len(buffer)))
        return buffer.value.decode()

    def optional(self, question: Any) -> Any:
        """Return an answer, or None if this GPU or this driver has none."""
        try:
            return question()
        # An older library lacks the call.
        except AttributeError:
            return None
        except Failed as error:
            if error.status == LOST:
                raise
            return None
