"""Facts about a machine's GPUs at rest: from the driver's NVML, the PCI bus, the kernel's log and
systemd.

Both golden-health and the GPU checks (tests/image/nvidia_driver) use this module. It needs only the
standard library, the driver and golden_idle's driver_library. Each GPU is asked in a process of its
own: a call that hangs in the kernel cannot be ended, but its process can be left.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import operator
import re
import time
from ctypes import byref, c_char, c_int, c_size_t, c_uint, c_ulonglong, c_void_p
from pathlib import Path
from typing import Any

from golden_idle.driver_library import NVML, NVML_WORDS, Failed, gpu_handle, gpu_memory

from golden_health import kernel_log
from golden_health.gpu_calls import Facts, Library, bounded, file_text, in_turn, output

# PCI vendor and classes.
NVIDIA, GPU_CLASSES, SWITCH_CLASS = "0x10de", ("0x0300", "0x0302"), "0x0680"
LINKS = 18  # nvml.h, NVML_NVLINK_MAX_LINKS
# nvml.h, nvmlMemoryErrorType_t; nvmlEccCounterType_t: since the driver started, and of its life.
UNCORRECTED, VOLATILE, AGGREGATE = 1, 0, 1
ERRORS = "nvmlDeviceGetTotalEccErrors"
READ, WRITE = 0, 1  # nvml.h, nvmlGpuP2PCapsIndex_t
WIDTH, GENERATION = "nvmlDeviceGetCurrPcieLinkWidth", "nvmlDeviceGetCurrPcieLinkGeneration"
AWAKE_BYTES, AWAKE_S = 4 << 20, 1.0
"""Bytes that are copied to a GPU and back, and seconds after which its link is at full speed."""
STATE = ("systemctl", "show", "--property=ActiveState", "--value", "nvidia-fabricmanager")


class Pci(ctypes.Structure):
    """nvml.h, nvmlPciInfo_t."""

    _fields_ = (
        ("legacy", c_char * 16),
        ("domain", c_uint),
        ("bus", c_uint),
        ("device", c_uint),
        ("id", c_uint),
        ("subsystem", c_uint),
        ("bus_id", c_char * 32),
    )


def gather(root: Path, *, cuda: bool = True) -> Facts:
    """Return all facts of the machine below `root`; CUDA's only if `cuda`, since its start takes a
    second of a processor. A GPU that does not answer is in `lost` by its number, and only there."""
    return gpus(cuda=cuda) | around(root)


def around(root: Path) -> Facts:
    """Return the facts that need neither an answer of the driver nor its daemons."""
    addresses, switches = on_bus(root)
    versions = re.findall(r"\d+\.\d+(?:\.\d+)?", output("nv-fabricmanager", "--version"))
    return {
        "bus": addresses,
        "switches": switches,
        "module": file_text(root / "sys/module/nvidia/version"),  # of the module that is loaded
        "fabricmanager": output(*STATE).strip(),
        "fabricmanager_version": next(iter(versions), ""),
        **kernel_log.since_boot(),
    }


def gpus(*, cuda: bool) -> Facts:
    """Return the driver's version, the facts of each GPU, and the errors of NVML and CUDA. `cuda`
    has CUDA's number of each GPU by PCI address: NVML numbers them otherwise."""
    empty: Facts = {
        "error": "",
        "cuda_error": "",
        "cuda_library": "",
        "cuda": {},
        "gpus": [],
        "lost": [],
        "not_peers": [],
    }
    answer = empty | bounded(driver)
    numbers = range(answer.get("count", 0))
    for number, row in enumerate(in_turn(at_rest, list(zip(numbers, strict=True)))):
        answer["lost" if "error" in row else "gpus"].append({"number": number} | row)
    if not answer["gpus"]:
        return answer
    switched = [row["number"] for row in answer["gpus"] if row["nvlinks"]]
    peers = bounded(unreachable_pairs, switched) if switched else {}
    started = bounded(start_cuda) if cuda else {}
    return answer | {
        "not_peers": peers.get("not_peers", []),
        "error": answer["error"] or peers.get("error", ""),
        "cuda_error": started.get("error", ""),
        "cuda_library": started.get("file", ""),
        "cuda": started.get("numbers", {}),
    }


def start_cuda() -> Facts:
    """Return the file of CUDA's library, and CUDA's number of each GPU by PCI address."""
    library = cuda_library()
    return {"file": library.file(), "numbers": cuda_numbers(library)}


def cuda_numbers(library: Library) -> dict[str, int]:
    """Return CUDA's number of each GPU by PCI address."""
    numbers = dict[str, int]()
    for number in range(library.number("cuDeviceGetCount", kind=c_int)):
        address = (c_char * 32)()
        library("cuDeviceGetPCIBusId", address, len(address), number)
        # As in sysfs: a domain of four digits, where the libraries may write eight.
        numbers[address.value.decode().lower()[-12:]] = number
    return numbers


@functools.cache
def cuda_library() -> Library:
    """Return CUDA's driver library, initialised. It needs neither toolkit nor framework."""
    library = Library("libcuda.so.1", "cuGetErrorName")
    library("cuInit", 0)
    return library


def at_rest(number: int) -> Facts:
    """Return what NVML says of a GPU and what its work does not change."""
    nvml, pci = management(), Pci()
    device = gpu_handle(nvml, number)
    memory_mib = gpu_memory(nvml, device).total >> 20
    nvml("nvmlDeviceGetPciInfo_v3", device, byref(pci))
    ask, long = nvml.optional, {"kind": c_ulonglong}

    def asked(name: str, *arguments: int, **kind: Any) -> Any:
        return ask(lambda: nvml.number(name, device, *arguments, **kind))

    return {
        "name": nvml.text("nvmlDeviceGetName", device),
        "uuid": nvml.text("nvmlDeviceGetUUID", device),
        "bus": pci.bus_id.decode().lower()[-12:],
        "memory_mib": memory_mib,
        "persistence": nvml.number("nvmlDeviceGetPersistenceMode", device),
        "ecc": ask(lambda: nvml.numbers(2, "nvmlDeviceGetEccMode", device)[0]),
        "uncorrected": asked(ERRORS, UNCORRECTED, VOLATILE, **long),
        "uncorrected_ever": asked(ERRORS, UNCORRECTED, AGGREGATE, **long),
        "remapped": ask(lambda: nvml.numbers(4, "nvmlDeviceGetRemappedRows", device)),
        "pages_pending": asked("nvmlDeviceGetRetiredPagesPendingStatus"),
        "mig": ask(lambda: nvml.numbers(2, "nvmlDeviceGetMigMode", device)[0]),
        "nvlinks": links(nvml, device),
        "width": asked(WIDTH),
        "slowed": asked("nvmlDeviceGetCurrentClocksThrottleReasons", **long),
        "power_limit": asked("nvmlDeviceGetEnforcedPowerLimit"),
        "full_power": asked("nvmlDeviceGetPowerManagementDefaultLimit"),
        "inforom": status(nvml, "nvmlDeviceValidateInforom", device),
    }


def status(nvml: Library, name: str, device: c_void_p) -> int:
    """Return the error number of a call, or 0."""
    try:
        nvml(name, device)
    except Failed as error:
        return error.status
    return 0


def wake(rows: list[Facts], link: tuple[int, int]) -> None:
    """Have GPUs copy data, and put the state of each one's link into its row: an idle GPU saves
    power by a slower link, and on some boards by a narrower one. `link` is the generation and the
    number of lanes of a healthy GPU."""
    # CUDA sees the parts of a divided GPU (MIG), not the GPU.
    undivided = [row for row in rows if not row["mig"]]
    cases = [(row["number"], row["bus"], link) for row in undivided]
    for row, answer in zip(undivided, in_turn(awake, cases), strict=True):
        row["awake"] = answer


def awake(number: int, bus: str, link: tuple[int, int]) -> Facts:
    """Return a GPU's fastest and widest link while it copies, and whether the copies are whole, or
    an empty answer if CUDA does not see the GPU."""
    nvml, cuda = management(), cuda_library()
    device, context, numbers = gpu_handle(nvml, number), c_void_p(), cuda_numbers(cuda)
    if bus not in numbers:
        return {}
    cuda("cuCtxCreate_v2", byref(context), 0, numbers[bus])
    try:
        size, first, second = c_size_t(AWAKE_BYTES), c_ulonglong(), c_ulonglong()
        for memory in (first, second):
            cuda("cuMemAlloc_v2", byref(memory), size)
        pattern = bytes(range(256)) * (AWAKE_BYTES >> 8)
        received = ctypes.create_string_buffer(AWAKE_BYTES)
        best, whole, ends = (0, 0), True, time.monotonic() + AWAKE_S
        while True:
            cuda("cuMemcpyHtoD_v2", first, pattern, size)
            cuda("cuMemcpyDtoDAsync_v2", second, first, size, None)
            cuda("cuCtxSynchronize")
            generation = nvml.optional(functools.partial(nvml.number, GENERATION, device)) or 0
            width = nvml.optional(functools.partial(nvml.number, WIDTH, device)) or 0
            best = (max(best[0], generation), max(best[1], width))
            cuda("cuMemcpyDtoH_v2", received, second, size)
            whole &= received.raw == pattern
            # A link at full speed ends the test early; a slow one gets its time.
            if not any(map(operator.lt, best, link)) or time.monotonic() >= ends:
                return {"generation": best[0], "width": best[1], "whole": whole}
    finally:
        cuda("cuCtxDestroy_v2", context)


def links(nvml: Library, device: c_void_p) -> list[int]:
    """Return whether each NVLink of the GPU is up (1 or 0)."""
    ask = functools.partial(nvml.number, "nvmlDeviceGetNvLinkState", device)
    states = list[int]()
    for link in range(LINKS):
        state = nvml.optional(functools.partial(ask, link))
        if state is not None:
            states.append(state)
    return states


def unreachable_pairs(numbers: list[int]) -> Facts:
    """Return pairs of GPUs of which the first cannot reach the second's memory."""
    nvml = management()
    handles = {number: gpu_handle(nvml, number) for number in numbers}

    def reaches(pair: tuple[int, int]) -> bool:
        first, second = pair
        ask = functools.partial(
            nvml.number, "nvmlDeviceGetP2PStatus", handles[first], handles[second]
        )
        # 0 is nvml.h's NVML_P2P_STATUS_OK; a question that fails counts as unreachable.
        return all(nvml.optional(functools.partial(ask, access)) == 0 for access in (READ, WRITE))

    pairs = itertools.permutations(numbers, 2)
    return {"not_peers": list(itertools.filterfalse(reaches, pairs))}


@functools.cache
def management() -> Library:
    """Return NVML, initialised."""
    nvml = Library(NVML, NVML_WORDS)
    nvml("nvmlInit_v2")
    return nvml


def driver() -> Facts:
    """Return the driver's version, NVML's file and the number of GPUs."""
    nvml = management()
    return {
        "driver": nvml.text("nvmlSystemGetDriverVersion"),
        "library": nvml.file(),
        "count": nvml.number("nvmlDeviceGetCount_v2"),
    }


def on_bus(root: Path) -> tuple[list[str], int]:
    """Return the PCI addresses of NVIDIA's GPUs, and the number of its NVSwitches."""
    addresses, switches = [], 0
    for device in sorted((root / "sys/bus/pci/devices").glob("*")):
        pci_class = file_text(device / "class")
        if file_text(device / "vendor") == NVIDIA:
            if pci_class.startswith(GPU_CLASSES):
                addresses.append(device.name)
            switches += pci_class.startswith(SWITCH_CLASS)
    return addresses, switches
