"""What may be wrong with a made-up GPU machine of type p5.48xlarge, and which GPU check names it
how."""

from __future__ import annotations

from collections.abc import Callable

from support.gpu.gpu_machine import GpuMachine

Break = Callable[[GpuMachine], None]


def sets(**settings: object) -> Break:
    """A fault of the GPUs' answers; `_3` at a name's end is GPU 3."""
    names = {
        (f"{name[:-2]}.{name[-1]}" if name[-2:-1] == "_" and name[-1].isdigit() else name): value
        for name, value in settings.items()
    }
    return lambda machine: machine.set(names)


def says(name: str, output: str) -> Break:
    """A fault that a command shows."""
    return lambda machine: machine.program(name, output)


def without_switch(machine: GpuMachine) -> None:
    device = machine.path / "sys/bus/pci/devices/0000:00:05.0"
    for file in device.iterdir():
        file.unlink()
    device.rmdir()


def xid(number: int) -> str:
    return f"[  812.3] NVRM: Xid (PCI:0000:00:13): {number}, pid='<unknown>', name=<unknown>"


def off_the_bus(machine: GpuMachine) -> None:
    device = machine.path / "sys/bus/pci/devices/0000:00:17.0"
    for file in device.iterdir():
        file.unlink()
    device.rmdir()
    machine.set({"count": 7})


SXID = "nvidia-nvswitch0: SXid (PCI:0000:05:00.0): 20034, Fatal, Link 30 LTSSM Fault Up"
RM_INIT = "NVRM: GPU 0000:00:13.0: RmInitAdapter failed! (0x24:0x65:1568)"
"""Lines as NVIDIA's Fabric Manager User Guide and its driver's forum have them."""
ALONE: dict[str, tuple[Break, str, str]] = {
    "GPU missing": (off_the_bus, "every_gpu_of_the_type_is_on_the_bus", "p5.48xlarge has 8 GPUs"),
    "GPU unknown to the driver": (
        sets(count=7),
        "driver_has_every_gpu_that_is_on_the_bus",
        "0000:00:17.0",
    ),
    "GPU hidden from CUDA": (
        sets(cuda_count=7),
        "every_gpu_computes_right",
        "GPU 7: CUDA does not see it",
    ),
    "module of another version": (
        lambda machine: machine.module("570.1.1"),
        "driver_libraries_and_module_are_of_one_version",
        "'kernel module': '570.1.1'",
    ),
    "libraries do not fit the module": (sets(init=18), "driver_answers", "nvmlInit_v2 returned 18"),
    "CUDA does not start": (sets(cuda_init=802), "driver_answers", "cuInit returned 802"),
    "page retirement pending": (
        sets(pages_pending_0=1),
        "no_memory_waits_for_repair",
        "page waits",
    ),
    "no NVLink": (sets(nvlinks_2=0), "every_nvlink_is_up", "18 wanted: ['GPU 2: 0']"),
    "some NVLinks": (sets(nvlinks_2=12), "every_nvlink_is_up", "18 wanted: ['GPU 2: 12']"),
    "fabric manager of another version": (
        says("nv-fabricmanager", "Fabric Manager version is : 570.1.1"),
        "fabric_manager_runs_where_an_nvswitch_is",
        "570.1.1 beside driver",
    ),
}
TOGETHER: list[tuple[Break, str, str]] = [
    (
        sets(name_0="NVIDIA H200"),
        "every_gpu_is_the_type_s_model",
        "GPU 0 (0000:00:10.0): NVIDIA H200",
    ),
    (without_switch, "every_nvswitch_is_on_the_bus", "has 4 NVSwitches; on the bus: 3"),
    (sets(uncorrected_ever_0=3), "no_memory_error_was_ever_left_uncorrected", "GPU 0"),
    (sets(remapped_3=2), "no_memory_error_was_ever_left_uncorrected", "GPU 3: 2 rows remapped"),
    (sets(copy_bits_1=4), "copies_are_whole", "GPU 1: 1"),
    (sets(memory_bits_4=4), "memory_keeps_what_is_written", "memory lost: ['GPU 4: "),
    (sets(memory_mib_2=40960), "every_gpu_has_the_type_s_memory", "GPU 2"),
    (sets(ecc_1=0), "memory_has_error_correction_on", "ECC is off"),
    (sets(uncorrected_4=2), "no_memory_error_was_left_uncorrected", "GPU 4"),
    (sets(remap_pending_5=1), "no_memory_waits_for_repair", "GPU 5"),
    (sets(remap_failed_5=1), "no_memory_is_beyond_repair", "has to be replaced: ['GPU 5']"),
    (sets(pcie_width_6=8), "links_have_their_width", "GPU 6"),
    (sets(pcie_generation_6=1), "links_have_their_generation", "GPU 6"),
    (sets(throttled_by_3=0x20), "nothing_throttles_a_busy_gpu", "software thermal slowdown"),
    (sets(throttled_by_4=0x48), "nothing_throttles_a_busy_gpu", "hardware thermal slowdown"),
    (sets(throttled_by_5=0x80), "nothing_throttles_a_busy_gpu", "power brake"),
    (sets(persistence=0), "persistence_is_on", "persistence mode is off"),
    (sets(mig_0=1), "no_gpu_is_divided", "MIG is on"),
    (
        says("dmesg", "\n".join([*map(xid, (79, 74, 48, 94, 140)), SXID, RM_INIT])),
        "kernel_log_has_no_gpu_error",
        "fallen off the bus",
    ),
    (lambda _: None, "kernel_log_has_no_nvswitch_error", "SXid 20034 of PCI:0000:05:00.0"),
    (lambda _: None, "kernel_log_has_no_gpu_that_failed_to_start", "0000:00:13.0: RmInitAdapter"),
    *(
        (lambda _: None, "kernel_log_has_no_gpu_error", cause)
        for cause in (
            "NVLink error",
            "uncorrected memory error",
            "contained memory error",
            "Xid 140",
        )
    ),
    (sets(nvlinks_down_2=1), "every_nvlink_is_up", "GPU 2: link 0"),
    (sets(p2p_1=1), "gpus_reach_each_other", "1 to 0"),
    (sets(p2p_error_5=999), "gpus_reach_each_other", "5 to 0"),
    (says("systemctl", "inactive"), "fabric_manager_runs_where_an_nvswitch_is", "is inactive"),
    (sets(wrong_bits_7=4), "every_gpu_computes_right", "GPU 7 (0000:00:17.0): 1"),
    (sets(copy_gb_s_1=1500), "memory_is_fast_enough", "GPU 1"),
    (lambda _: None, "no_gpu_is_slower_than_the_others", "GPU 1: 1500"),
]
"""Faults of one machine: none hides another, and each is named as if it were the only one."""

THROTTLES = "nvmlDeviceGetCurrentClocksThrottleReasons"
GENERATION = "nvmlDeviceGetCurrPcieLinkGeneration"
AT_WORK = "every_gpu_computes_right"
GONE = {"driver_has_every_gpu_that_is_on_the_bus": "to the driver: 0000:00:13.0"}
HURRIED: dict[str, tuple[dict[str, object], dict[str, str]]] = {
    "lost": (
        {"memory_error.3": 15},
        {**GONE, "driver_answers": "GPU 3: nvmlDeviceGetMemoryInfo returned 15 (GPU is lost)"},
    ),
    "hangs at once": (
        {"hang_nvmlDeviceGetHandleByIndex_v2.3": 1},
        {**GONE, "driver_answers": "nvmlDeviceGetHandleByIndex_v2 did not return within"},
    ),
    "lost meanwhile": (
        {"clocks_error.3": 15},
        {**GONE, "driver_answers": f"GPU 3: {THROTTLES} returned 15 (GPU"},
    ),
    "a kernel fails": (
        {"launch.3": 719},
        {AT_WORK: "GPU 3: cuLaunchKernel returned 719 (CUDA_ERROR_LAUNCH_FAILED)"},
    ),
    "hangs while it copies": (
        {"hang_cuEventSynchronize.3": 1},
        {AT_WORK: "GPU 3: cuEventSynchronize did not return within"},
    ),
    "hangs at work": (
        {f"hang_{GENERATION}.3": 1},
        {AT_WORK: f"GPU 3: {GENERATION} did not return within"},
    ),
    "NVML hangs": (
        {"hang_nvmlInit_v2": 1},
        {"driver_answers": "NVML: nvmlInit_v2 did not return within"},
    ),
    "CUDA hangs": (
        {"hang_cuInit": 1},
        {"driver_answers": "CUDA: cuInit did not return within"},
    ),
}
