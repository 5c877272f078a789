"""The use of GPUs, by the driver's NVML library. Structures and numbers are nvml.h's."""

from __future__ import annotations

import ctypes
import statistics
from contextlib import suppress
from ctypes import byref, c_uint, c_ulonglong, c_void_p
from dataclasses import dataclass
from typing import Any

from golden_idle import driver_library
from golden_idle.driver_library import (
    FUNCTION_NOT_FOUND,
    LOST,
    NOT_FOUND,
    NOT_SUPPORTED,
    NVML_WORDS,
    Failed,
    Library,
    gpu_handle,
    gpu_memory,
)

LIBRARY = driver_library.NVML
_ERRORS = {
    9: "the driver is not loaded",
    FUNCTION_NOT_FOUND: "the driver's library lacks a function",
    LOST: "it fell off the bus",
    18: "library and kernel module are of different versions: reboot",
}
_ARCHITECTURES = {
    2: "Kepler",
    3: "Maxwell",
    4: "Pascal",
    5: "Volta",
    6: "Turing",
    7: "Ampere",
    8: "Ada Lovelace",
    9: "Hopper",
    10: "Blackwell",
}
"""NVML_DEVICE_ARCH_*, in nvidia-smi's words."""
SPIN_PERCENT, SPIN_POWER = 99, 0.5
"""Utilization in percent, and the share of the power limit, of a kernel that only polls."""
UTILIZATION = 1
"""NVML_GPU_UTILIZATION_SAMPLES"""
_PROCESSES, MIB = 128, 1 << 20


class NvmlError(Exception):
    """The reason why GPUs cannot be asked, in words."""


@dataclass(frozen=True)
class Gpu:
    """A GPU. `mean` is its utilization since it was last asked, `utilization` the present one, both
    in percent; memory is in MiB."""

    index: int
    name: str
    architecture: str
    utilization: float
    mean: float
    memory_used: float
    memory_total: float
    spins: bool = False
    """whether a kernel runs that moves no memory and draws little, such as one that waits for a
    peer that is dead"""


class _Value(ctypes.Union):
    _fields_ = (("unsigned", c_uint), ("long", c_ulonglong), ("double", ctypes.c_double))


class _Sample(ctypes.Structure):
    _fields_ = (("at", c_ulonglong), ("value", _Value))


class _Process(ctypes.Structure):
    _fields_ = (
        ("pid", c_uint),
        ("memory", c_ulonglong),
        ("gpu_instance", c_uint),
        ("compute_instance", c_uint),
    )


class Nvml:
    """The library. It is loaded at the first question about GPUs, and again after an error; until
    then no GPU is held open."""

    def __init__(self) -> None:
        self._library: Library | None = None
        self._last_sample_at: dict[int, int] = {}

    def gpus(self, expected: int) -> list[Gpu]:
        """Return all GPUs. Raises NvmlError if one cannot be asked, or if there are fewer than
        `expected`."""
        try:
            nvml = self._open()
            gpus = [self._gpu(nvml, index) for index in range(_count(nvml))]
        except OSError:
            raise NvmlError(f"{LIBRARY} cannot be loaded: is the driver installed?") from None
        except Failed as error:
            # So that the next question loads the library again: it may be a new driver's.
            self.close()
            raise NvmlError(_ERRORS.get(error.status, str(error))) from None
        if len(gpus) < expected:
            self.close()
            raise NvmlError(f"the driver has {len(gpus)} of {expected} GPUs")
        return gpus

    def processes(self) -> list[int]:
        """Return the ids of processes that hold a GPU's memory, or an empty list if the driver does
        not say."""
        pids: set[int] = set()
        try:
            nvml = self._open()
            for index in range(_count(nvml)):
                number, buffer = c_uint(_PROCESSES), (_Process * _PROCESSES)()
                nvml(
                    "nvmlDeviceGetComputeRunningProcesses_v3",
                    gpu_handle(nvml, index),
                    byref(number),
                    buffer,
                )
                pids |= {process.pid for process in buffer[: number.value]}
        except (OSError, Failed):
            return []
        return sorted(pids)

    def close(self) -> None:
        """Close the library: a reset or a new driver needs that."""
        if self._library is not None:
            with suppress(Failed):
                self._library("nvmlShutdown")
        self._library = None

    def _open(self) -> Library:
        if self._library is None:
            library = Library(LIBRARY, NVML_WORDS)
            library("nvmlInit_v2")
            self._library = library
        return self._library

    def _gpu(self, nvml: Library, index: int) -> Gpu:
        device, architecture = gpu_handle(nvml, index), c_uint()
        name = nvml.text("nvmlDeviceGetName", device)
        _has(nvml, "nvmlDeviceGetArchitecture", device, byref(architecture))
        # nvmlUtilization_t is two numbers, of the GPU and of its memory.
        rates = (c_uint * 2)()
        nvml("nvmlDeviceGetUtilizationRates", device, rates)
        utilization, memory_utilization = rates
        memory = gpu_memory(nvml, device)
        is_spinning = utilization >= SPIN_PERCENT and not memory_utilization
        return Gpu(
            index,
            name,
            _ARCHITECTURES.get(architecture.value, "unknown"),
            utilization,
            max(memory_utilization, self._mean(nvml, index, device, utilization)),
            memory.used / MIB,
            memory.total / MIB,
            is_spinning and _power(nvml, device) <= SPIN_POWER,
        )

    def _mean(self, nvml: Library, index: int, device: c_void_p, present: int) -> float:
        """Return the mean of the driver's samples since the last call, or the present utilization
        if there are none; the driver keeps some seconds of them.

        The present rate covers a second at most, so a burst between two of our samples would go
        unseen.
        """
        since, value_type, number = self._last_sample_at.get(index, 0), c_uint(), c_uint()
        question = (
            "nvmlDeviceGetSamples",
            device,
            c_uint(UTILIZATION),
            c_ulonglong(since),
            byref(value_type),
            byref(number),
        )
        # Without a buffer the call returns the number of samples that one needs.
        if not (_has(nvml, *question, None) and number.value):
            return present
        buffer = (_Sample * number.value)()
        if not _has(nvml, *question, buffer):
            return present
        new = [sample for sample in buffer[: number.value] if sample.at > since]
        if not new:
            return present
        self._last_sample_at[index] = max(sample.at for sample in new)
        return statistics.fmean(sample.value.unsigned for sample in new)


def _count(nvml: Library) -> int:
    return nvml.number("nvmlDeviceGetCount_v2")


def _has(nvml: Library, name: str, *arguments: Any) -> bool:
    """Make a call, and return whether the driver has an answer. Some GPUs have none, and there may
    be no new sample."""
    try:
        nvml(name, *arguments)
    except Failed as error:
        if error.status not in (NOT_SUPPORTED, NOT_FOUND):
            raise
        return False
    return True


def _power(nvml: Library, device: c_void_p) -> float:
    """Return the share of its power limit that a GPU draws, or 1 if it does not say."""
    drawn, limit = c_uint(), c_uint()
    is_known = _has(nvml, "nvmlDeviceGetPowerUsage", device, byref(drawn)) and _has(
        nvml, "nvmlDeviceGetEnforcedPowerLimit", device, byref(limit)
    )
    return drawn.value / limit.value if is_known and limit.value else 1.0
