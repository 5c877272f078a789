"""The libraries of NVIDIA's driver, NVML and CUDA, through ctypes.

Structures and numbers are those of nvml.h. The role golden_health and the GPU checks
(tests/image/nvidia_driver) use this module, too. NVIDIA's own binding, nvidia-ml-py, is no
replacement: Debian's package of it (python3-pynvml) is in contrib and depends on the driver's
library, which an image without GPUs has not, and a lock's wheels are in environments that the
system's Python does not see.
"""

from __future__ import annotations

import ctypes
from ctypes import byref, c_char, c_char_p, c_uint, c_ulonglong, c_void_p
from pathlib import Path
from typing import Any

NVML, NVML_WORDS = "libnvidia-ml.so.1", "nvmlErrorString"
NOT_SUPPORTED, NOT_FOUND, FUNCTION_NOT_FOUND, LOST = 3, 6, 13, 15
"""NVML_ERROR_*; LOST is NVML_ERROR_GPU_IS_LOST."""


class Failed(Exception):
    """A call that did not return 0, with its error number."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class Memory(ctypes.Structure):
    """nvmlMemory_t: bytes."""

    _fields_ = (("total", c_ulonglong), ("free", c_ulonglong), ("used", c_ulonglong))


class Library:
    """A library whose calls return 0 or an error number. `words` is the name of its call that
    describes a number."""

    def __init__(self, name: str, words: str) -> None:
        self._name, self._words, self._library = name, words, ctypes.CDLL(name)

    def __call__(self, name: str, *arguments: Any) -> None:
        """Make a call. Raises Failed if it returns another number than 0, or if an older library
        lacks it."""
        try:
            function = getattr(self._library, name)
        except AttributeError:
            raise Failed(f"the library lacks {name}", FUNCTION_NOT_FOUND) from None
        if status := function(*arguments):
            raise Failed(f"{name} returned {status} ({self.words(status)})", status)

    def file(self) -> str:
        """Return the name of the library's file, which has its version."""
        maps = Path("/proc/self/maps").read_text().splitlines()
        stem = self._name.split(".so", maxsplit=1)[0]
        mapped = next(line for line in maps if f"/{stem}.so" in line)
        return Path(mapped.split()[-1]).resolve().name

    def words(self, status: int) -> str:
        """Return the description of an error number. NVML returns the text, CUDA writes a pointer
        to it."""
        function, text = getattr(self._library, self._words), c_char_p()
        if self._words == NVML_WORDS:
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
        return buffer.value.decode(errors="replace")

    def optional(self, question: Any) -> Any:
        """Return an answer, or None if this GPU or this driver has none."""
        try:
            return question()
        except Failed as error:
            if error.status == LOST:
                raise
            return None


def gpu_handle(nvml: Library, number: int) -> c_void_p:
    """Return NVML's handle of a GPU."""
    device = c_void_p()
    nvml("nvmlDeviceGetHandleByIndex_v2", c_uint(number), byref(device))
    return device


def gpu_memory(nvml: Library, device: c_void_p) -> Memory:
    """Return the memory of a GPU."""
    answer = Memory()
    nvml("nvmlDeviceGetMemoryInfo", device, byref(answer))
    return answer
