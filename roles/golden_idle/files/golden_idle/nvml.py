"""GPUs by the driver's NVML library, through ctypes. Structures and numbers are nvml.h's."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

LIBRARY = "libnvidia-ml.so.1"
NOT_SUPPORTED, NOT_FOUND = 3, 6
_ERRORS = {
    9: "the driver is not loaded",
    12: "the driver's library lacks a function",
    15: "it fell off the bus",
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
_NAME, _PROCESSES, MIB = 96, 128, 1 << 20


class NvmlError(Exception):
    """The reason why GPUs cannot be asked, in words."""


@dataclass(frozen=True)
class Gpu:
    """A GPU. `peak` is its highest utilization since it was last asked, `utilization` the present
    one, both in percent; memory is in MiB."""

    index: int
    name: str
    architecture: str
    utilization: float
    peak: float
    memory_used: float
    memory_total: float
    spins: bool = False
    """whether a kernel runs that moves no memory and draws little, such as one that waits for a
    peer that is dead"""


class _Utilization(ctypes.Structure):
    _fields_ = [("gpu", ctypes.c_uint), ("memory", ctypes.c_uint)]


class _Memory(ctypes.Structure):
    _fields_ = [
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    ]


class _Value(ctypes.Union):
    _fields_ = [
        ("unsigned", ctypes.c_uint),
        ("long", ctypes.c_ulonglong),
        ("double", ctypes.c_double),
    ]


class _Sample(ctypes.Structure):
    _fields_ = [("at", ctypes.c_ulonglong), ("value", _Value)]


class _Process(ctypes.Structure):
    _fields_ = [
        ("pid", ctypes.c_uint),
        ("memory", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    ]


class Nvml:
    """The library. It is loaded at the first question about GPUs, and again after an error; until
    then no GPU is held open."""

    def __init__(self) -> None:
        self._library: Any = None
        self._last_sample_at: dict[int, int] = {}

    def gpus(self, expected: int) -> list[Gpu]:
        """Return all GPUs. Raises NvmlError if one cannot be asked, or if there are fewer than
        `expected`."""
        try:
            gpus = [self._gpu(index) for index in range(self._count())]
        # Closed, so that the next question loads the library again: it may be a new driver's.
        except NvmlError:
            self.close()
            raise
        if len(gpus) < expected:
            self.close()
            raise NvmlError(f"the driver has {len(gpus)} of {expected} GPUs")
        return gpus

    def processes(self) -> list[int]:
        """Return the ids of processes that hold a GPU's memory, or an empty list if the driver does
        not say."""
        pids: set[int] = set()
        try:
            for index in range(self._count()):
                number, buffer = ctypes.c_uint(_PROCESSES), (_Process * _PROCESSES)()
                self._call(
                    "nvmlDeviceGetComputeRunningProcesses_v3",
                    self._handle(index),
                    ctypes.byref(number),
                    buffer,
                )
                pids |= {process.pid for process in buffer[: number.value]}
        except NvmlError:
            return []
        return sorted(pids)

    def close(self) -> None:
        """Close the library: a reset or a new driver needs that."""
        if self._library is not None:
            self._library.nvmlShutdown()
        self._library = None

    def _count(self) -> int:
        if self._library is None:
            try:
                library = ctypes.CDLL(LIBRARY)
            except OSError:
                raise NvmlError(f"{LIBRARY} cannot be loaded: is the driver installed?") from None
            if status := library.nvmlInit_v2():
                raise NvmlError(_ERRORS.get(status, f"nvmlInit says {status}"))
            self._library = library
        number = ctypes.c_uint()
        self._call("nvmlDeviceGetCount_v2", ctypes.byref(number))
        return number.value

    def _call(self, name: str, *arguments: Any, may: int | None = None) -> bool:
        """Return whether the call had an answer. `may` is a status that is allowed and means that
        there is none."""
        try:
            status: int = getattr(self._library, name)(*arguments)
        except AttributeError:  # an older library lacks the function
            status = 12
        if status not in (0, may):
            raise NvmlError(_ERRORS.get(status, f"{name} says {status}"))
        return status == 0

    def _handle(self, index: int) -> ctypes.c_void_p:
        device = ctypes.c_void_p()
        self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(device))
        return device

    def _gpu(self, index: int) -> Gpu:
        device, name, architecture = (
            self._handle(index),
            ctypes.create_string_buffer(_NAME),
            ctypes.c_uint(),
        )
        used, memory = _Utilization(), _Memory()
        self._call("nvmlDeviceGetName", device, name, ctypes.c_uint(_NAME))
        self._call(
            "nvmlDeviceGetArchitecture", device, ctypes.byref(architecture), may=NOT_SUPPORTED
        )
        self._call("nvmlDeviceGetUtilizationRates", device, ctypes.byref(used))
        self._call("nvmlDeviceGetMemoryInfo", device, ctypes.byref(memory))
        return Gpu(
            index,
            name.value.decode(errors="replace"),
            _ARCHITECTURES.get(architecture.value, "unknown"),
            used.gpu,
            max(used.gpu, self._peak(index, device)),
            memory.used / MIB,
            memory.total / MIB,
            used.gpu >= SPIN_PERCENT and not used.memory and self._power(device) <= SPIN_POWER,
        )

    def _power(self, device: ctypes.c_void_p) -> float:
        """Return the share of its power limit that a GPU draws, or 1 if it does not say."""
        drawn, limit = ctypes.c_uint(), ctypes.c_uint()
        is_known = self._call(
            "nvmlDeviceGetPowerUsage", device, ctypes.byref(drawn), may=NOT_SUPPORTED
        ) and self._call(
            "nvmlDeviceGetEnforcedPowerLimit", device, ctypes.byref(limit), may=NOT_SUPPORTED
        )
        return drawn.value / limit.value if is_known and limit.value else 1.0

    def _peak(self, index: int, device: ctypes.c_void_p) -> int:
        """Return the highest of the driver's samples since the last call; the driver keeps some
        seconds of them.

        The present rate covers a second at most, so a burst between two of our samples would go
        unseen.
        """
        since, value_type, number = (
            self._last_sample_at.get(index, 0),
            ctypes.c_uint(),
            ctypes.c_uint(),
        )
        arguments = [
            device,
            ctypes.c_uint(UTILIZATION),
            ctypes.c_ulonglong(since),
            ctypes.byref(value_type),
            ctypes.byref(number),
        ]
        # Without a buffer the call returns the number of samples that one needs.
        if not (self._get_samples(arguments, None) and number.value):
            return 0
        buffer = (_Sample * number.value)()
        if not self._get_samples(arguments, buffer):
            return 0
        samples = [sample for sample in buffer[: number.value] if sample.at > since]
        self._last_sample_at[index] = max([since, *(sample.at for sample in samples)])
        return max((sample.value.unsigned for sample in samples), default=0)

    def _get_samples(self, arguments: list[Any], buffer: Any) -> bool:
        """Return whether the driver has samples. Some GPUs keep none, and there may be no new
        one."""
        status: int = self._library.nvmlDeviceGetSamples(*arguments, buffer)
        if status not in (0, NOT_SUPPORTED, NOT_FOUND):
            raise NvmlError(_ERRORS.get(status, f"nvmlDeviceGetSamples says {status}"))
        return status == 0
