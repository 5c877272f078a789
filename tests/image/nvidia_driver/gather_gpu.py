"""Runs on the machine with the GPU, as root: prints as JSON what the GPU checks look at, in one SSH
command.

argv: a folder to look for /sys in; "/" but in tests; the seconds that a call may take. Needs only
the standard library and the driver. Clocks and PCIe links rest while nothing runs, so both are read
while each GPU copies. Each GPU is asked in processes of its own: a call that hangs in the kernel
cannot be ended, but its process can be left.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import json
import operator
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from array import array
from collections.abc import Callable
from ctypes import byref, c_char, c_char_p, c_int, c_size_t, c_uint, c_ulonglong, c_void_p
from pathlib import Path
from typing import Any

ROOT = Path(sys.argv[1])
# A healthy cuInit of eight GPUs takes some seconds.
CALL_S = float(sys.argv[2]) if len(sys.argv) > 2 else 60.0
# While a library is loaded, Python's lock keeps `_watch` from counting.
PROCESS_S, COMMAND_S = 5 * CALL_S, 30.0
# PCI vendor and classes.
NVIDIA, GPU_CLASSES, SWITCH_CLASS = "0x10de", ("0x0300", "0x0302"), "0x0680"
LINKS = 18  # nvml.h, NVML_NVLINK_MAX_LINKS
UNCORRECTED, VOLATILE = 1, 0  # nvml.h, nvmlMemoryErrorType_t and nvmlEccCounterType_t
READ, WRITE = 0, 1  # nvml.h, nvmlGpuP2PCapsIndex_t
# Far larger than any GPU's cache; some milliseconds for each copy.
COPY_BYTES, COPIES = 256 << 20, 20
XID = re.compile(r"NVRM: Xid \((PCI:[0-9a-f:.]+)\): (\d+)")

FILL = b"""
.version 6.0
.target sm_50
.address_size 64
.visible .entry fill(.param .u64 out, .param .u32 n)
{
    .reg .pred %p;
    .reg .b32 %r<6>;
    .reg .b64 %d<4>;
    ld.param.u64 %d1, [out];
    ld.param.u32 %r1, [n];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.u32 %r5, %r2, %r3, %r4;
    setp.ge.u32 %p, %r5, %r1;
    @%p bra END;
    cvta.to.global.u64 %d2, %d1;
    mul.wide.u32 %d3, %r5, 4;
    add.u64 %d2, %d2, %d3;
    mad.lo.u32 %r5, %r5, 3, 1;
    st.global.u32 [%d2], %r5;
END:
    ret;
}
"""
"""PTX for every GPU since Maxwell, which the driver compiles for its own: out[i] = 3 * i + 1."""

Facts = dict[str, Any]
_under_way: dict[int, tuple[str, float]] = {}
"""Thread -> the call that it waits for, and since when (monotonic seconds)."""
_sending = threading.Lock()


class Failed(Exception):
    """A call into one of NVIDIA's libraries that did not return 0."""


def bounded(question: Callable[..., Facts], *arguments: Any) -> Facts:
    """What a question answers in a process of its own; `error` where it fails or does not return."""
    end, pipe = os.pipe()
    child = os.fork()
    if not child:
        _answer(pipe, question, arguments)
    os.close(pipe)
    text, deadline = b"", time.monotonic() + PROCESS_S
    while select.select([end], [], [], max(0.0, deadline - time.monotonic()))[0]:
        if not (piece := os.read(end, 1 << 16)):
            break
        text += piece
    os.close(end)
    # It is not waited for: a process that hangs in the kernel does not end.
    os.kill(child, signal.SIGKILL)
    return dict(json.loads(text)) if text else {"error": f"no answer within {PROCESS_S:g} s"}


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
        mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()
                  if ".so" in line}
        stem = name.split(".so")[0]
        self.file = next(Path(path).resolve().name for path in mapped if f"/{stem}.so" in path)

    def __call__(self, name: str, *arguments: Any) -> None:
        _under_way[threading.get_ident()] = name, time.monotonic()
        status = getattr(self._library, name)(*arguments)
        del _under_way[threading.get_ident()]
        if status:
            raise Failed(f"{name} returned {status} ({self.words(status)})")

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
        except (Failed, AttributeError):
            return None


class Memory(ctypes.Structure):
    """nvml.h, nvmlMemory_t: bytes."""

    _fields_ = (("total", c_ulonglong), ("free", c_ulonglong), ("used", c_ulonglong))


class Pci(ctypes.Structure):
    """nvml.h, nvmlPciInfo_t."""

    _fields_ = (("legacy", c_char * 16),
                *((name, c_uint) for name in ("domain", "bus", "device", "id", "subsystem")),
                ("bus_id", c_char * 32))


def at_rest(number: int) -> Facts:
    """What NVML says of one GPU that does not change while it works."""
    nvml, memory, pci = management(), Memory(), Pci()
    device = handle(nvml, number)
    nvml("nvmlDeviceGetMemoryInfo", device, byref(memory))
    nvml("nvmlDeviceGetPciInfo_v3", device, byref(pci))
    ask = nvml.optional
    return {
        "name": nvml.text("nvmlDeviceGetName", device),
        "uuid": nvml.text("nvmlDeviceGetUUID", device),
        "bus": pci.bus_id.decode().lower()[-12:],
        "memory_mib": memory.total >> 20,
        "persistence": nvml.number("nvmlDeviceGetPersistenceMode", device),
        "ecc": ask(lambda: nvml.numbers(2, "nvmlDeviceGetEccMode", device)[0]),
        "uncorrected": ask(lambda: nvml.number("nvmlDeviceGetTotalEccErrors", device, UNCORRECTED,
                                               VOLATILE, kind=c_ulonglong)),
        "remapped": ask(lambda: nvml.numbers(4, "nvmlDeviceGetRemappedRows", device)),
        "pages_pending": ask(lambda: nvml.number("nvmlDeviceGetRetiredPagesPendingStatus", device)),
        "mig": ask(lambda: nvml.numbers(2, "nvmlDeviceGetMigMode", device)[0]),
        "nvlinks": links(nvml, device),
    }


def links(nvml: Library, device: c_void_p) -> list[int]:
    """Whether each NVLink that the GPU has is up."""
    ask = functools.partial(nvml.number, "nvmlDeviceGetNvLinkState", device)
    found = [nvml.optional(functools.partial(ask, link)) for link in range(LINKS)]
    return [up for up in found if up is not None]


def strangers(numbers: list[int]) -> Facts:
    """Pairs of GPUs of which the first cannot reach the second's memory."""
    nvml = management()
    handles = {number: handle(nvml, number) for number in numbers}

    def reaches(one: int, other: int) -> bool:
        ask = functools.partial(nvml.number, "nvmlDeviceGetP2PStatus", handles[one], handles[other])
        return not any(nvml.optional(functools.partial(ask, what)) for what in (READ, WRITE))

    pairs = itertools.permutations(numbers, 2)
    return {"not_peers": [pair for pair in pairs if not reaches(*pair)]}


class Cuda:
    """The work that each GPU does through the driver alone, without toolkit or framework."""

    def __init__(self) -> None:
        self.library = Library("libcuda.so.1", "cuGetErrorName")
        self.library("cuInit", 0)

    def facts(self) -> Facts:
        """The library's file, and CUDA's number of each GPU by PCI address: NVML has others."""
        found = {}
        for number in range(self.library.number("cuDeviceGetCount", kind=c_int)):
            address = (c_char * 32)()
            self.library("cuDeviceGetPCIBusId", address, len(address), number)
            found[address.value.decode().lower()[-12:]] = number
        return {"file": self.library.file, "numbers": found}

    def work(self, number: int) -> dict[str, Any]:
        """Numbers that a kernel got wrong, GB/s of copies in the GPU's memory, read and written."""
        call = self.library
        context, source, target = c_void_p(), c_ulonglong(), c_ulonglong()
        call("cuCtxCreate_v2", byref(context), 0, number)
        try:
            for pointer in (source, target):
                call("cuMemAlloc_v2", byref(pointer), c_size_t(COPY_BYTES))
            wrong = self._wrong(source)
            events = (c_void_p(), c_void_p())
            for event in events:
                call("cuEventCreate", byref(event), 0)
            copy = ("cuMemcpyDtoDAsync_v2", target, source, c_size_t(COPY_BYTES), None)
            call(*copy)
            call("cuEventRecord", events[0], None)
            for _ in range(COPIES):
                call(*copy)
            call("cuEventRecord", events[1], None)
            call("cuEventSynchronize", events[1])
            milliseconds = ctypes.c_float()
            call("cuEventElapsedTime", byref(milliseconds), *events)
            return {"wrong": wrong,
                    "copy_gb_s": round(2 * COPIES * COPY_BYTES / milliseconds.value / 1e6, 1)}
        finally:
            call("cuCtxDestroy_v2", context)

    def _wrong(self, memory: c_ulonglong, count: int = 1 << 20) -> int:
        call, module, function = self.library, c_void_p(), c_void_p()
        call("cuModuleLoadData", byref(module), FILL)
        call("cuModuleGetFunction", byref(function), module, b"fill")
        length = c_uint(count)
        arguments = (c_void_p * 2)(ctypes.addressof(memory), ctypes.addressof(length))
        call("cuLaunchKernel", function, count // 256, 1, 1, 256, 1, 1, 0, None, arguments, None)
        answer, right = (c_uint * count)(), array("I", range(1, 3 * count, 3))
        call("cuMemcpyDtoH_v2", answer, memory, c_size_t(4 * count))
        return 0 if bytes(answer) == right.tobytes() else sum(map(operator.ne, answer, right))


def gpus() -> Facts:
    """The driver's version and each GPU, at rest and at work, and what a library says where it
    fails. A GPU that does not answer is in `lost` by its number, and only there."""
    nothing: Facts = {"error": "", "cuda_error": "", "gpus": [], "lost": [], "not_peers": []}
    answer = nothing | bounded(driver)
    for number in range(answer.get("count", 0)):
        row = bounded(at_rest, number)
        answer["lost" if "error" in row else "gpus"].append({"number": number} | row)
    if not answer["gpus"]:
        return answer
    peers = bounded(strangers, [row["number"] for row in answer["gpus"]])
    cuda = bounded(lambda: Cuda().facts())
    answer |= {"not_peers": peers.get("not_peers", []),
               "error": answer["error"] or peers.get("error", ""),
               "cuda_error": cuda.get("error", ""), "cuda_library": cuda.get("file", "")}
    if not answer["cuda_error"]:
        for row in answer["gpus"]:
            at = cuda["numbers"].get(row["bus"])
            found = {"error": "CUDA does not see it"}
            if at is not None:
                found = bounded(at_work, row["number"], at)
            row |= {("work_error" if name == "error" else name): value
                    for name, value in found.items()}
    return answer


def management() -> Library:
    """NVML, ready for questions."""
    nvml = Library("libnvidia-ml.so.1", "nvmlErrorString")
    nvml("nvmlInit_v2")
    return nvml


def handle(nvml: Library, number: int) -> c_void_p:
    """NVML's handle of a GPU."""
    device = c_void_p()
    nvml("nvmlDeviceGetHandleByIndex_v2", number, byref(device))
    return device


def driver() -> Facts:
    """What the driver is, and how many GPUs it has."""
    nvml = management()
    return {"driver": nvml.text("nvmlSystemGetDriverVersion"), "library": nvml.file,
            "count": nvml.number("nvmlDeviceGetCount_v2")}


def at_work(number: int, cuda_number: int) -> Facts:
    """One GPU's result and speed, its fastest PCIe link and what throttled it meanwhile."""
    nvml, cuda = management(), Cuda()
    device, results = handle(nvml, number), Facts()

    def work() -> None:
        try:
            results.update(cuda.work(cuda_number))
        except Failed as error:
            results["error"] = str(error)

    def sample() -> tuple[int, int, int]:
        return (nvml.number("nvmlDeviceGetCurrPcieLinkGeneration", device),
                nvml.number("nvmlDeviceGetCurrPcieLinkWidth", device),
                nvml.number("nvmlDeviceGetCurrentClocksThrottleReasons", device, kind=c_ulonglong))

    thread = threading.Thread(target=work)
    thread.start()
    samples = [sample()]
    while thread.is_alive():
        thread.join(0.02)
        samples.append(sample())
    generations, widths, throttles = zip(*samples, strict=True)
    return results | {"throttled_by": functools.reduce(operator.or_, throttles),
                      "pcie_generation": max(generations), "pcie_width": max(widths)}


def on_bus() -> tuple[list[str], int]:
    """PCI addresses of NVIDIA's GPUs, and the number of its NVSwitches."""
    addresses, switches = [], 0
    for device in sorted((ROOT / "sys/bus/pci/devices").glob("*")):
        kind = (device / "class").read_text().strip()
        if (device / "vendor").read_text().strip() == NVIDIA:
            addresses += [device.name] if kind.startswith(GPU_CLASSES) else []
            switches += kind.startswith(SWITCH_CLASS)
    return addresses, switches


def output(*argv: str) -> str:
    """What a command prints; nothing where it is not installed, and that it hangs where it does."""
    try:
        return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              check=False, timeout=COMMAND_S).stdout
    except FileNotFoundError:
        return ""
    except subprocess.TimeoutExpired:
        return f"{argv[0]} gave no answer in {COMMAND_S:g} s"


ADDRESSES, SWITCHES = on_bus()
MODULE = ROOT / "sys/module/nvidia/version"  # of the kernel module that is loaded
STATE = ("systemctl", "show", "--property=ActiveState", "--value", "nvidia-fabricmanager")
VERSION = re.search(r"\d+\.\d+(?:\.\d+)?", output("nv-fabricmanager", "--version"))
print(json.dumps(gpus() | {
    "bus": ADDRESSES, "switches": SWITCHES,
    "module": MODULE.read_text().strip() if MODULE.exists() else "",
    "fabricmanager": output(*STATE).strip(),
    "fabricmanager_version": VERSION[0] if VERSION else "",
    "xids": [list(match.groups()) for match in XID.finditer(output("dmesg"))],
}))
