"""The GPUs of the machine: all there, whole, connected, not throttled, and computing right and fast
enough.

`gpus` are the facts that gather_gpu.py prints, `gpu_type` is what EC2 and packer/hardware.yml say
of the instance type.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.gpu

MEMORY_SHARE = 0.9
"""Of the type's memory: ECC of GDDR6 takes a sixteenth, the driver a little more (an A10G shows
23028 MiB)."""
COPY_SHARE = 0.7
"""Of the GPU's memory bandwidth: copies reach 0.75 to 0.9 on a healthy one; one with halved clocks
does not."""
ROLES = Path(__file__).resolve().parents[3] / "roles"
MODULES = {
    "golden_idle": ("driver_library",),
    "golden_health": ("gpu_calls", "kernel_log", "gpu_facts"),
}
"""The modules of roles that gather_gpu.py imports, in the order of their own imports: an image need
not have them, so their text is sent along."""
IMPORTED = """import sys, types
for name, text in {}:
    module = sys.modules[name] = types.ModuleType(name)
    exec(text, vars(module))
    package, _, own_name = name.rpartition(".")
    if package:
        setattr(sys.modules[package], own_name, module)
"""
CALL_S, NO_LOAD = "60", "0"
LEVEL_SHARE = 0.93
"""Of the middle one of the machine's GPUs: equal ones differ by 2 or 3 %."""
SLOWDOWNS = {
    0x8: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
"""nvml.h, nvmlClocksThrottleReason...: those that are no normal state of a busy GPU, as its power
limit is."""
XIDS = {
    48: "uncorrected memory error",
    63: "memory row remapped or page retired",
    64: "remapping a row failed",
    74: "NVLink error",
    79: "GPU has fallen off the bus",
    94: "contained memory error",
    95: "uncontained memory error",
    119: "GSP does not answer",
    120: "GSP error",
}
"""NVIDIA's "XID Errors" document. Any other in the log counts, too, without its name."""


def sent() -> str:
    """A program that makes the MODULES importable without their files."""
    texts = []
    for package, modules in MODULES.items():
        folder = ROLES / package / "files" / package
        texts.append((package, (folder / "__init__.py").read_text()))
        texts += [(f"{package}.{name}", (folder / f"{name}.py").read_text()) for name in modules]
    return IMPORTED.format(texts)


@pytest.fixture(scope="module")
def gpus(
    run_program: Any, record_testsuite_property: Callable[[str, object], None]
) -> dict[str, Any]:
    """The facts, by one command. The JUnit file says which GPUs there are: it is what makes it a
    proof."""
    program = Path(__file__).with_name("gather_gpu.py").read_text()
    root = os.environ.get("GOLDEN_GPU_ROOT", "/")
    # A made-up machine does not get warm.
    limits = () if root == "/" else (CALL_S, NO_LOAD)
    found: dict[str, Any] = run_program(sent() + program, root, *limits)
    if names := [gpu["name"] for gpu in found["gpus"]]:
        record_testsuite_property("goldenami:gpu", ", ".join(names))
    return found


def numbered(gpus: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """The GPUs that answer, with the driver's number of each."""
    return [(gpu["number"], gpu) for gpu in gpus["gpus"]]


def wrong(gpus: dict[str, Any], key: str, good: Any) -> list[str]:
    """GPUs of which `good` does not hold: `GPU 3 (0000:00:1e.0): 8`."""
    return [
        f"GPU {number} ({gpu['bus']}): {gpu.get(key, 'no answer')}"
        for number, gpu in numbered(gpus)
        if key not in gpu or not good(gpu[key])
    ]


def test_driver_answers(gpus: dict[str, Any]) -> None:
    assert not gpus["error"], f"NVML: {gpus['error']}"
    lost = [f"GPU {each['number']}: {each['error']}" for each in gpus["lost"]]
    assert not lost, f"GPUs that do not answer: {', '.join(lost)}"
    assert not gpus["cuda_error"], f"CUDA: {gpus['cuda_error']}"


def test_driver_libraries_and_module_are_of_one_version(
    gpus: dict[str, Any], lock: dict[str, Any]
) -> None:
    version = lock["nvidia_driver_version"]
    found = {
        "kernel module": gpus["module"],
        "NVML": gpus.get("library", ""),
        "CUDA": gpus.get("cuda_library", ""),
    }
    others = {
        name: text or "absent"
        for name, text in found.items()
        if text.rpartition(".so.")[2] != version
    }
    assert not others, f"not of driver {version}: {others}"


def test_every_gpu_of_the_type_is_on_the_bus(
    gpus: dict[str, Any], gpu_type: dict[str, Any]
) -> None:
    assert len(gpus["bus"]) == gpu_type["gpus"], (
        f"{gpu_type['type']} has {gpu_type['gpus']} GPUs; on the bus: "
        f"{', '.join(gpus['bus']) or 'none'}"
    )


def test_driver_has_every_gpu_that_is_on_the_bus(gpus: dict[str, Any]) -> None:
    lost = sorted(set(gpus["bus"]) - {gpu["bus"] for gpu in gpus["gpus"]})
    assert not lost, f"on the bus, unknown to the driver: {', '.join(lost)}"


def test_every_gpu_is_the_type_s_model(gpus: dict[str, Any], gpu_type: dict[str, Any]) -> None:
    """NVIDIA's name has EC2's words: `NVIDIA H100 80GB HBM3`, `Tesla T4`."""
    words = set(gpu_type["gpu"].lower().split())
    found = wrong(gpus, "name", lambda name: words <= set(re.split(r"[^a-z0-9]+", name.lower())))
    assert not found, f"another model than {gpu_type['gpu']}: {found}"


def test_every_nvswitch_is_on_the_bus(gpus: dict[str, Any], gpu_type: dict[str, Any]) -> None:
    wanted = gpu_type["nvswitches"] if gpu_type["nvswitch"] else gpus["switches"]
    assert gpus["switches"] == wanted, (
        f"{gpu_type['type']} has {wanted} NVSwitches; on the bus: {gpus['switches']}"
    )


def test_every_gpu_has_the_type_s_memory(gpus: dict[str, Any], gpu_type: dict[str, Any]) -> None:
    wanted = gpu_type["memory_mib"]
    found = wrong(gpus, "memory_mib", lambda mib: MEMORY_SHARE <= mib / wanted <= 2 - MEMORY_SHARE)
    assert not found, f"MiB of memory, {wanted} wanted: {found}"


def test_memory_has_error_correction_on(gpus: dict[str, Any]) -> None:
    found = wrong(gpus, "ecc", lambda on: on in (1, None))
    assert not found, f"ECC is off (`nvidia-smi -e 1`, then reboot): {found}"


def test_no_memory_error_was_left_uncorrected(gpus: dict[str, Any]) -> None:
    found = wrong(gpus, "uncorrected", lambda count: not count)
    assert not found, f"uncorrected memory errors since boot: {found}"


def test_no_memory_error_was_ever_left_uncorrected(gpus: dict[str, Any]) -> None:
    """What was mended since then came back to some: the machine is to be changed for another."""
    found = wrong(gpus, "uncorrected_ever", lambda count: not count)
    found += [
        f"GPU {number}: {gpu['remapped'][1]} rows remapped"
        for number, gpu in numbered(gpus)
        if gpu["remapped"] and gpu["remapped"][1]
    ]
    assert not found, f"uncorrected memory errors in the GPU's life (stop and start): {found}"


def test_no_memory_waits_for_repair(gpus: dict[str, Any]) -> None:
    rows = [
        f"GPU {number}" for number, gpu in numbered(gpus) if (gpu["remapped"] or [0, 0, 0, 0])[2]
    ]
    assert not rows, f"a row waits to be remapped by a reset: {rows}"
    pages = wrong(gpus, "pages_pending", lambda pending: not pending)
    assert not pages, f"a page waits to be retired by a reset: {pages}"


def test_no_memory_is_beyond_repair(gpus: dict[str, Any]) -> None:
    rows = [
        f"GPU {number}" for number, gpu in numbered(gpus) if (gpu["remapped"] or [0, 0, 0, 0])[3]
    ]
    assert not rows, f"remapping a row failed, the GPU has to be replaced: {rows}"


def test_links_have_their_width(gpus: dict[str, Any], gpu_type: dict[str, Any]) -> None:
    found = wrong(gpus, "pcie_width", lambda lanes: lanes >= gpu_type["pcie_width"])
    assert not found, f"PCIe lanes, {gpu_type['pcie_width']} wanted: {found}"


def test_links_have_their_generation(gpus: dict[str, Any], gpu_type: dict[str, Any]) -> None:
    found = wrong(gpus, "pcie_generation", lambda number: number >= gpu_type["pcie_generation"])
    assert not found, (
        f"PCIe generation while copying, {gpu_type['pcie_generation']} wanted: {found}"
    )


def _slowed_by(gpu: dict[str, Any]) -> list[str]:
    return [text for bit, text in SLOWDOWNS.items() if gpu.get("throttled_by", 0) & bit]


def test_nothing_throttles_a_busy_gpu(gpus: dict[str, Any]) -> None:
    found = [
        f"GPU {number}: {', '.join(_slowed_by(gpu))}"
        for number, gpu in numbered(gpus)
        if gpu.get("throttled_by", 0) & sum(SLOWDOWNS)
    ]
    assert not found, found


def test_persistence_is_on(gpus: dict[str, Any], lock: dict[str, Any]) -> None:
    if not lock["nvidia_driver_persistenced_enabled"]:
        pytest.skip("not asked: the definition turns the persistence daemon off")
    found = wrong(gpus, "persistence", lambda on: on == 1)
    assert not found, f"persistence mode is off (nvidia-persistenced): {found}"


def test_no_gpu_is_divided(gpus: dict[str, Any]) -> None:
    found = wrong(gpus, "mig", lambda on: not on)
    assert not found, f"MIG is on (`nvidia-smi -mig 0`): {found}"


def test_kernel_log_has_no_gpu_error(gpus: dict[str, Any]) -> None:
    found = [
        f"Xid {number} ({XIDS.get(int(number), 'see NVIDIA`s list of Xids')}) of {device}"
        for device, number in gpus["xids"]
    ]
    assert not found, found


def test_kernel_log_has_no_gpu_that_failed_to_start(gpus: dict[str, Any]) -> None:
    found = [f"{device or 'a GPU'}: {words}" for device, words in gpus["failures"]]
    assert not found, found


def test_kernel_log_has_no_nvswitch_error(gpus: dict[str, Any]) -> None:
    found = [f"SXid {number} of {device}" for device, number in gpus["sxids"]]
    assert not found, f"{found} (NVIDIA's Fabric Manager User Guide lists them)"


def test_gpus_reach_each_other(gpus: dict[str, Any], gpu_type: dict[str, Any]) -> None:
    if not gpu_type["nvswitch"]:
        pytest.skip("not asked: GPUs of this type need not reach each other's memory")
    pairs = [f"{one} to {other}" for one, other in gpus["not_peers"]]
    assert not pairs, f"GPUs without access to each other's memory: {pairs}"


def test_every_nvlink_is_up(gpus: dict[str, Any], gpu_type: dict[str, Any]) -> None:
    down = [
        f"GPU {number}: link {link}"
        for number, gpu in numbered(gpus)
        for link, up in enumerate(gpu["nvlinks"])
        if not up
    ]
    assert not down, f"NVLinks that are down: {down}"
    if gpu_type["nvswitch"]:
        found = [
            f"GPU {number}: {len(gpu['nvlinks'])}"
            for number, gpu in numbered(gpus)
            if len(gpu["nvlinks"]) < gpu_type["nvlinks"]
        ]
        assert not found, f"NVLinks, {gpu_type['nvlinks']} wanted: {found}"


def test_fabric_manager_runs_where_an_nvswitch_is(
    gpus: dict[str, Any], lock: dict[str, Any]
) -> None:
    if not gpus["switches"]:
        assert gpus["fabricmanager"] != "failed", (
            "nvidia-fabricmanager failed, and there is no NVSwitch"
        )
        return
    assert gpus["fabricmanager"] == "active", (
        f"nvidia-fabricmanager is {gpus['fabricmanager'] or 'not installed'}"
    )
    assert gpus["fabricmanager_version"] == lock["nvidia_driver_version"], (
        f"fabric manager {gpus['fabricmanager_version']} beside driver "
        f"{lock['nvidia_driver_version']}"
    )


def test_every_gpu_computes_right(gpus: dict[str, Any]) -> None:
    failed = [
        f"GPU {number}: {gpu['work_error']}"
        for number, gpu in numbered(gpus)
        if "work_error" in gpu
    ]
    assert not failed, failed
    found = wrong(gpus, "wrong", lambda count: not count)
    assert not found, f"wrong of {1 << 20} numbers that a kernel computed: {found}"


def test_memory_is_fast_enough(gpus: dict[str, Any], gpu_type: dict[str, Any]) -> None:
    least = COPY_SHARE * gpu_type["memory_gb_s"]
    found = wrong(gpus, "copy_gb_s", lambda speed: speed >= least)
    assert not found, (
        f"GB/s of copies within memory, {least:.0f} of {gpu_type['memory_gb_s']} wanted: {found}"
    )


def test_no_gpu_is_slower_than_the_others(gpus: dict[str, Any]) -> None:
    speeds = sorted(gpu["copy_gb_s"] for gpu in gpus["gpus"] if "copy_gb_s" in gpu)
    if len(speeds) < 2:
        pytest.skip("not asked: there is no other GPU")
    middle = speeds[len(speeds) // 2]
    found = [
        f"GPU {number}: {gpu['copy_gb_s']}"
        for number, gpu in numbered(gpus)
        if gpu.get("copy_gb_s", middle) < LEVEL_SHARE * middle
    ]
    assert not found, f"GB/s of copies within memory, {middle} in the middle of all: {found}"


def test_copies_are_whole(gpus: dict[str, Any]) -> None:
    found = [
        f"GPU {number}: {gpu['copy_wrong']}"
        for number, gpu in numbered(gpus)
        if gpu.get("copy_wrong")
    ]
    assert not found, f"numbers that copies within memory changed: {found}"


def test_memory_keeps_what_is_written(gpus: dict[str, Any]) -> None:
    """To nine tenths of its size."""
    rows = [(number, gpu) for number, gpu in numbered(gpus) if "memory_wrong" in gpu]
    found = [f"GPU {number}: {gpu['memory_wrong']}" for number, gpu in rows if gpu["memory_wrong"]]
    assert not found, f"numbers that memory lost: {found}"
    taken = [
        f"GPU {number}: {gpu['memory_share']:.0%}"
        for number, gpu in rows
        if gpu["memory_share"] < 1
    ]
    assert not taken, f"another program holds memory, this share of it could be tested: {taken}"
