"""Runs on the machine with the GPU, as root: prints as JSON what the GPU checks look at, in one SSH
command.

argv: a folder to look for /sys in; "/" but in tests; the seconds that a call may take, and those of
the load. Needs only the standard library, the driver, and what the machine's own look asks by
(roles/golden_health, roles/golden_idle). Clocks and PCIe links rest while nothing runs, so both are
read while each GPU copies, all of them at once.
"""

import ctypes
import functools
import json
import operator
import sys
import threading
import time
from array import array
from ctypes import byref, c_size_t, c_uint, c_ulonglong, c_void_p
from pathlib import Path
from typing import Any

from golden_health import gpu_calls, gpu_facts
from golden_health.gpu_calls import Facts, together
from golden_idle.driver_library import Failed, gpu_handle

# Far larger than any GPU's cache; some milliseconds for each copy.
COPY_BYTES, COPIES = 256 << 20, 20
NUMBERS = COPY_BYTES // 4
MEMORY_SHARE = 0.9  # of the memory is written and read again; CUDA itself takes the rest
NO_MEMORY = "CUDA_ERROR_OUT_OF_MEMORY"

BEGIN = """
    .reg .pred %p;
    .reg .b32 %r<7>;
    .reg .b64 %d<5>;
    ld.param.u64 %d1, [memory];
    ld.param.u32 %r1, [n];
    ld.param.u32 %r6, [first];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.u32 %r5, %r2, %r3, %r4;
    setp.ge.u32 %p, %r5, %r1;
    @%p bra END;
    cvta.to.global.u64 %d2, %d1;
    mul.wide.u32 %d3, %r5, 4;
    add.u64 %d2, %d2, %d3;
    add.u32 %r5, %r5, %r6;
    mad.lo.u32 %r5, %r5, 3, 1;
"""
PTX = f"""
.version 6.0
.target sm_50
.address_size 64
.visible .entry fill(.param .u64 memory, .param .u32 n, .param .u32 first)
{{{BEGIN}
    st.global.u32 [%d2], %r5;
END:
    ret;
}}
.visible .entry check(.param .u64 memory, .param .u32 n, .param .u32 first, .param .u64 count)
{{{BEGIN}
    ld.global.u32 %r4, [%d2];
    setp.eq.u32 %p, %r4, %r5;
    @%p bra END;
    ld.param.u64 %d4, [count];
    cvta.to.global.u64 %d4, %d4;
    red.global.add.u32 [%d4], 1;
END:
    ret;
}}
""".encode()
"""PTX for every GPU since Maxwell, which the driver compiles for its own. `fill` writes
memory[i] = 3 * (first + i) + 1, in 32 bits; `check` counts the numbers that are others."""


class Cuda:
    """The work that each GPU does through the driver alone, without toolkit or framework."""

    def __init__(self) -> None:
        self.library = gpu_facts.cuda_library()

    def work(self, number: int, memory_mib: int) -> dict[str, Any]:
        """Numbers that a kernel got wrong, that a copy lost and that memory lost; GB/s of copies in
        the GPU's memory, read and written, the fastest of those that fill LOAD_S."""
        context = c_void_p()
        self.library("cuCtxCreate_v2", byref(context), 0, number)
        try:
            self._load_kernels()
            self.count = self._memory(4)  # before another program or this one has all memory
            source, target = self._memory(COPY_BYTES), self._memory(COPY_BYTES)
            wrong = self._wrong(source)
            self._launch(self.fill, source, NUMBERS, 0)
            ends, best = time.monotonic() + gpu_calls.LOAD_S, 0.0
            while not best or time.monotonic() < ends:
                best = max(best, self._copied(source, target))
            found = {
                "wrong": wrong,
                "copy_gb_s": round(best, 1),
                "copy_wrong": self._counted([(target, 0)]),
            }
            self.library("cuMemFree_v2", source)
            self.library("cuMemFree_v2", target)
            return found | self._whole_memory(int(MEMORY_SHARE * memory_mib) << 20)
        finally:
            self.library("cuCtxDestroy_v2", context)

    def _load_kernels(self) -> None:
        module, self.fill, self.check = c_void_p(), c_void_p(), c_void_p()
        self.library("cuModuleLoadData", byref(module), PTX)
        self.library("cuModuleGetFunction", byref(self.fill), module, b"fill")
        self.library("cuModuleGetFunction", byref(self.check), module, b"check")

    def _memory(self, size: int) -> c_ulonglong:
        pointer = c_ulonglong()
        self.library("cuMemAlloc_v2", byref(pointer), c_size_t(size))
        return pointer

    def _launch(
        self, kernel: c_void_p, memory: c_ulonglong, count: int, first: int, *more: c_ulonglong
    ) -> None:
        values = (memory, c_uint(count), c_uint(first), *more)
        arguments = (c_void_p * len(values))(*map(ctypes.addressof, values))
        self.library(
            "cuLaunchKernel", kernel, -(-count // 256), 1, 1, 256, 1, 1, 0, None, arguments, None
        )

    def _copied(self, source: c_ulonglong, target: c_ulonglong) -> float:
        """GB/s of some copies, after one that wakes the memory."""
        call, events = self.library, (c_void_p(), c_void_p())
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
        for event in events:
            call("cuEventDestroy_v2", event)
        return 2 * COPIES * COPY_BYTES / milliseconds.value / 1e6

    def _wrong(self, memory: c_ulonglong, count: int = 1 << 20) -> int:
        """Numbers that this machine's processor finds others than what the kernel had to write."""
        self._launch(self.fill, memory, count, 0)
        answer, right = (c_uint * count)(), array("I", range(1, 3 * count, 3))
        self.library("cuMemcpyDtoH_v2", answer, memory, c_size_t(4 * count))
        return 0 if bytes(answer) == right.tobytes() else sum(map(operator.ne, answer, right))

    def _whole_memory(self, size: int) -> dict[str, Any]:
        """Numbers that are others when `size` bytes are read again, all written before."""
        blocks: list[tuple[c_ulonglong, int]] = []
        while len(blocks) < size // COPY_BYTES:
            try:
                blocks.append((self._memory(COPY_BYTES), len(blocks) * NUMBERS & 0xFFFFFFFF))
            except Failed as error:
                if NO_MEMORY not in str(error):
                    raise
                break  # somebody else has the rest, which `memory_share` shows
        for memory, first in blocks:
            self._launch(self.fill, memory, NUMBERS, first)
        return {
            "memory_wrong": self._counted(blocks),
            "memory_share": round(len(blocks) / max(1, size // COPY_BYTES), 2),
        }

    def _counted(self, blocks: list[tuple[c_ulonglong, int]]) -> int:
        answer = c_uint()
        self.library("cuMemsetD32_v2", self.count, 0, c_size_t(1))
        for memory, first in blocks:
            self._launch(self.check, memory, NUMBERS, first, self.count)
        self.library("cuMemcpyDtoH_v2", byref(answer), self.count, c_size_t(4))
        return answer.value


def _work(rows: list[Facts], numbers: dict[str, int]) -> None:
    """Let all GPUs work, and put what came out into their rows."""
    for row in rows:
        if row["bus"] not in numbers:
            row["work_error"] = "CUDA does not see it"
    seen = [row for row in rows if row["bus"] in numbers]
    cases = [(row["number"], numbers[row["bus"]], row["memory_mib"]) for row in seen]
    for row, found in zip(seen, together(at_work, cases), strict=True):
        row |= {("work_error" if name == "error" else name): value for name, value in found.items()}


def at_work(number: int, cuda_number: int, memory_mib: int) -> Facts:
    """One GPU's result and speed, its fastest PCIe link and what throttled it meanwhile."""
    nvml, cuda = gpu_facts.management(), Cuda()
    device, results = gpu_handle(nvml, number), Facts()

    def work() -> None:
        try:
            results.update(cuda.work(cuda_number, memory_mib))
        except Failed as error:
            results["error"] = str(error)

    def sample() -> tuple[int, int, int]:
        return (
            nvml.number("nvmlDeviceGetCurrPcieLinkGeneration", device),
            nvml.number("nvmlDeviceGetCurrPcieLinkWidth", device),
            nvml.number("nvmlDeviceGetCurrentClocksThrottleReasons", device, kind=c_ulonglong),
        )

    thread = threading.Thread(target=work)
    thread.start()
    samples = [sample()]
    while thread.is_alive():
        thread.join(0.02)
        samples.append(sample())
    generations, widths, throttles = zip(*samples, strict=True)
    return results | {
        "throttled_by": functools.reduce(operator.or_, throttles),
        "pcie_generation": max(generations),
        "pcie_width": max(widths),
    }


if len(sys.argv) > 2:
    gpu_calls.CALL_S, gpu_calls.LOAD_S = map(float, sys.argv[2:4])
FOUND = gpu_facts.gather(Path(sys.argv[1]))
if FOUND["gpus"] and not FOUND["cuda_error"]:
    _work(FOUND["gpus"], FOUND.pop("cuda"))
print(json.dumps(FOUND))
