"""Calls into NVIDIA's libraries that end. A call that hangs in the kernel cannot be ended, but its
process can be left."""

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
"""Seconds that a call and a load may take; who asks sets them first."""

Facts = dict[str, Any]
_under_way: dict[int, tuple[str, float]] = {}
"""Thread -> the call that it waits for, and since when (monotonic seconds)."""
_sending = threading.Lock()


LOST = 15  # nvml.h, NVML_ERROR_GPU_IS_LOST


class Failed(Exception):
    """A call into one of NVIDIA's libraries that did not return 0."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


def bounded(question: Callable[..., Facts], *arguments: Any) -> Facts:
    """A question's answer, in a process of its own; `error` where it fails or does not return."""
    return together(question, [arguments])[0]


def in_turn(question: Callable[..., Facts], cases: list[tuple[Any, ...]]) -> list[Facts]:
    """The same of several by one process, in which libraries start once; by one for each where a
    call hangs."""
    found = bounded(_rows, question, cases).get("rows") if cases else []
    return together(question, cases) if found is None else list(found)


def _rows(question: Callable[..., Facts], cases: list[tuple[Any, ...]]) -> Facts:
    rows = list[Facts]()
    for arguments in cases:
        try:
            rows.append(question(*arguments))
        except Failed as error:
            rows.append({"error": str(error)})
    return {"rows": rows}


def together(question: Callable[..., Facts], cases: list[tuple[Any, ...]]) -> list[Facts]:
    """The same of several at once."""
    asked = []
    for arguments in cases:
        end, pipe = os.pipe()
        child = os.fork()
        if not child:
            _answer(pipe, question, arguments)
        os.close(pipe)
        asked.append((end, child))
    # While a library is loaded, Python's lock keeps `_watch` from counting.
    deadline = time.monotonic() + 5 * CALL_S + LOAD_S
    return [_answered(end, child, deadline) for end, child in asked]


def _answered(end: int, child: int, deadline: float) -> Facts:
    text = b""
    while select.select([end], [], [], max(0.0, deadline - time.monotonic()))[0]:
        if not (piece := os.read(end, 1 << 16)):
            break
        text += piece
    os.close(end)
    # It is not waited for: a process that hangs in the kernel does not end.
    os.kill(child, signal.SIGKILL)
    return (
        dict(json.loads(text)) if text else {"error": f"no answer within {5 * CALL_S + LOAD_S:g} s"}
    )


def _answer(pipe: int, question: Callable[..., Facts], arguments: tuple[Any, ...]) -> None:
    """Answer into the pipe and end, without SSH's connection, which any process keeps open."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nowhere, stream)
    threading.Thread(target=_watch, args=(pipe,), daemon=True).start()
    try:
        found = question(*arguments)
    except Exception as error:
        found = {"error": str(error) or repr(error)}
    _send(pipe, found)


def _watch(pipe: int) -> None:
    """Answer in place of a call that does not return."""
    while True:
        time.sleep(0.05)
        for name, since in list(_under_way.values()):
            if time.monotonic() - since > CALL_S:
                _send(pipe, {"error": f"{name} did not return within {CALL_S:g} s"})


def _send(pipe: int, found: Facts) -> None:
    _sending.acquire()  # for good: one answer is enough
    with os.fdopen(pipe, "w") as sink:
        json.dump(found, sink)
    os._exit(0)


class Library:
    """A library whose calls return 0 or a number that says why not. `words`: its call for what a
    number means."""

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
        """Make a call; Failed where it returns another number than 0."""
        _under_way[threading.get_ident()] = name, time.monotonic()
        status = getattr(self._library, name)(*arguments)
        del _under_way[threading.get_ident()]
        if status:
            raise Failed(f"{name} returned {status} ({self.words(status)})", status)

    def words(self, status: int) -> str:
        """What a number means; NVML returns the text, CUDA writes where it is."""
        ask, text = getattr(self._library, self._words), c_char_p()
        if self._words == "nvmlErrorString":
            ask.restype = c_char_p
            return str(ask(status).decode())
        ask(status, byref(text))
        return (text.value or b"unknown").decode()

    def number(self, name: str, *arguments: Any, kind: Any = c_uint) -> int:
        """The number that a call writes through its last argument."""
        value = kind()
        self(name, *arguments, byref(value))
        return int(value.value)

    def numbers(self, count: int, name: str, *arguments: Any) -> list[int]:
        """The numbers that a call writes through its last `count` arguments."""
        values = [c_uint() for _ in range(count)]
        self(name, *arguments, *(byref(value) for value in values))
        return [value.value for value in values]

    def text(self, name: str, *arguments: Any) -> str:
        """The text that a call writes to a buffer."""
        buffer = (c_char * 96)()
        self(name, *arguments, buffer, c_uint(len(buffer)))
        return buffer.value.decode()

    def optional(self, question: Any) -> Any:
        """An answer, or None where this GPU or this driver has none."""
        try:
            return question()
        except AttributeError:
            return None
        except Failed as error:
            if error.status == LOST:
                raise
            return None
