"""The checks on a GPU: none complains of a healthy machine, and each fault is found by the check
that names it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from goldenami.model.supported import hardware
from goldenami.model.supported.hardware import GpuType
from support.builds.checkout import processes
from support.ec2.instance_types import described
from support.gpu import gpu_checks, gpu_machine
from support.gpu.gpu_machine import DRIVER, GpuMachine
from support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
CHECKS = gpu_checks.module(ROOT / "tests/image/nvidia_driver/test_gpu.py")
LOCK = {"nvidia_driver_version": DRIVER, "nvidia_driver_persistenced_enabled": True}
BIG, SMALL = "p5.48xlarge", "g4dn.xlarge"
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
        sets(count=7), "driver_has_every_gpu_that_is_on_the_bus", "0000:00:17.0"),
    "GPU hidden from CUDA": (
        sets(cuda_count=7), "every_gpu_computes_right", "GPU 7: CUDA does not see it"),
    "module of another version": (
        lambda machine: machine.module("570.1.1"),
        "driver_libraries_and_module_are_of_one_version", "'kernel module': '570.1.1'"),
    "libraries do not fit the module": (
        sets(init=18), "driver_answers", "nvmlInit_v2 returned 18"),
    "CUDA does not start": (sets(cuda_init=802), "driver_answers", "cuInit returned 802"),
    "page retirement pending": (
        sets(pages_pending_0=1), "no_memory_waits_for_repair", "page waits"),
    "no NVLink": (sets(nvlinks_2=0), "every_nvlink_is_up", "18 wanted: ['GPU 2: 0']"),
    "some NVLinks": (sets(nvlinks_2=12), "every_nvlink_is_up", "18 wanted: ['GPU 2: 12']"),
    "fabric manager of another version": (
        says("nv-fabricmanager", "Fabric Manager version is : 570.1.1"),
        "fabric_manager_runs_where_an_nvswitch_is", "570.1.1 beside driver"),
}
TOGETHER: list[tuple[Break, str, str]] = [
    (sets(name_0="NVIDIA H200"), "every_gpu_is_the_type_s_model", "GPU 0 (0000:00:10.0): NVIDIA H200"),
    (without_switch, "every_nvswitch_is_on_the_bus", "has 4 NVSwitches; on the bus: 3"),
    (sets(uncorrected_ever_0=3), "no_memory_error_was_ever_left_uncorrected", "GPU 0"),
    (sets(remapped_3=2), "no_memory_error_was_ever_left_uncorrected", "GPU 3: 2 rows remapped"),
    (sets(copy_bits_0=4), "copies_are_whole", "GPU 0: 1"),
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
    (says("dmesg", "\n".join([*map(xid, (79, 74, 48, 94, 140)), SXID, RM_INIT])),
     "kernel_log_has_no_gpu_error", "fallen off the bus"),
    (lambda _: None, "kernel_log_has_no_nvswitch_error", "SXid 20034 of PCI:0000:05:00.0"),
    (lambda _: None, "kernel_log_has_no_gpu_that_failed_to_start", "0000:00:13.0: RmInitAdapter"),
    *((lambda _: None, "kernel_log_has_no_gpu_error", cause) for cause in (
        "NVLink error", "uncorrected memory error", "contained memory error", "Xid 140")),
    (sets(nvlinks_down_2=1), "every_nvlink_is_up", "GPU 2: link 0"),
    (sets(p2p_1=1), "gpus_reach_each_other", "1 to 0"),
    (sets(p2p_error_5=999), "gpus_reach_each_other", "5 to 0"),
    (says("systemctl", "inactive"), "fabric_manager_runs_where_an_nvswitch_is", "is inactive"),
    (sets(wrong_bits_7=4), "every_gpu_computes_right", "GPU 7 (0000:00:17.0): 1"),
    (sets(copy_gb_s_1=1500), "memory_is_fast_enough", "GPU 1"),
    (lambda _: None, "no_gpu_is_slower_than_the_others", "GPU 1: 1500"),
]
"""Faults of one machine: none hides another, and each is named as if it were the only one."""


def gpu_type(name: str) -> GpuType:
    return hardware.gpu_type(hardware.load(ROOT),
                             next(row for row in described() if row["InstanceType"] == name))


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gpu_machine.compile_libraries(tmp_path_factory.mktemp("libraries"))


def complaints(machine: GpuMachine, kind: GpuType) -> dict[str, str]:
    """What the checks that fail say of a machine."""
    return gpu_checks.complaints(CHECKS,
                                 {"gpus": machine.gather(), "gpu_type": kind.model_dump(),
                                  "lock": LOCK})


@pytest.mark.parametrize("name", [
    SMALL, "g4dn.12xlarge", "g5.xlarge", "g5.12xlarge", "g5g.16xlarge", "g6.xlarge", "g6e.12xlarge",
    "g6e.48xlarge", "p4d.24xlarge", "p4de.24xlarge", BIG, "p5en.48xlarge"])
def test_a_healthy_machine_raises_no_alarm(tmp_path: Path, libraries: Path, name: str) -> None:
    kind = gpu_type(name)
    assert complaints(gpu_machine.healthy(tmp_path / "machine", libraries, kind), kind) == {}


def test_what_a_gpu_does_not_have_and_its_power_limit_are_no_fault(
    tmp_path: Path, libraries: Path,
) -> None:
    kind = gpu_type(SMALL)
    machine = gpu_machine.healthy(tmp_path / "machine", libraries, kind)
    machine.set({"mig": "unsupported", "remap_pending": "unsupported", "ecc": "unsupported",
                 "throttled_by": 0x4})
    assert complaints(machine, kind) == {}


@pytest.mark.parametrize("fault", ALONE)
def test_a_fault_that_hides_another_is_named_alone(
    tmp_path: Path, libraries: Path, fault: str,
) -> None:
    do, check, cause = ALONE[fault]
    machine = gpu_machine.healthy(tmp_path / "machine", libraries, gpu_type(BIG))
    do(machine)
    found = complaints(machine, gpu_type(BIG))
    assert cause in found.get(check, ""), found


def test_each_fault_is_found_and_named(tmp_path: Path, libraries: Path) -> None:
    machine = gpu_machine.healthy(tmp_path / "machine", libraries, gpu_type(BIG))
    for do, _, _ in TOGETHER:
        do(machine)
    found = complaints(machine, gpu_type(BIG))
    missed = [(check, cause) for _, check, cause in TOGETHER if cause not in found.get(check, "")]
    assert missed == []
    assert found.keys() == {check for _, check, _ in TOGETHER}


def test_a_gpu_that_slows_down_under_load_is_found(tmp_path: Path, libraries: Path) -> None:
    """Not at once, as one that is badly cooled."""
    kind = gpu_type("g5.12xlarge")
    machine = gpu_machine.healthy(tmp_path / "machine", libraries, kind)
    machine.set({"throttled_by.2": 0x40, "throttled_after_s": 2})
    found = gpu_checks.complaints(CHECKS, {"gpus": machine.gather(load_s=3.0),
                                           "gpu_type": kind.model_dump(), "lock": LOCK})
    assert found == {"nothing_throttles_a_busy_gpu": "['GPU 2: hardware thermal slowdown']"}, found


def test_memory_that_another_program_holds_is_named(tmp_path: Path, libraries: Path) -> None:
    """It was not tested, which is no pass."""
    kind = gpu_type(SMALL)
    machine = gpu_machine.healthy(tmp_path / "machine", libraries, kind)
    machine.set({"used_mib": kind.memory_mib // 2})
    assert "GPU 0: 54%" in complaints(machine, kind)["memory_keeps_what_is_written"]


THROTTLES = "nvmlDeviceGetCurrentClocksThrottleReasons"
AT_WORK = "every_gpu_computes_right"
GONE = {"driver_has_every_gpu_that_is_on_the_bus": "to the driver: 0000:00:13.0"}
HURRIED: dict[str, tuple[dict[str, object], dict[str, str]]] = {
    "lost": ({"memory_error.3": 15}, {
        **GONE, "driver_answers": "GPU 3: nvmlDeviceGetMemoryInfo returned 15 (GPU is lost)"}),
    "hangs at once": ({"hang_nvmlDeviceGetHandleByIndex_v2.3": 1}, {
        **GONE, "driver_answers": "nvmlDeviceGetHandleByIndex_v2 did not return within 2 s"}),
    "lost at work": ({"clocks_error.3": 15}, {AT_WORK: f"GPU 3: {THROTTLES} returned 15 (GPU"}),
    "a kernel fails": ({"launch.3": 719}, {
        AT_WORK: "GPU 3: cuLaunchKernel returned 719 (CUDA_ERROR_LAUNCH_FAILED)"}),
    "hangs while it copies": ({"hang_cuEventSynchronize.3": 1}, {
        AT_WORK: "GPU 3: cuEventSynchronize did not return within"}),
    "hangs at work": ({f"hang_{THROTTLES}.3": 1}, {
        AT_WORK: f"GPU 3: {THROTTLES} did not return within 2 s"}),
    "NVML hangs": ({"hang_nvmlInit_v2": 1}, {
        "driver_answers": "NVML: nvmlInit_v2 did not return within 2 s"}),
    "CUDA hangs": ({"hang_cuInit": 1}, {
        "driver_answers": "CUDA: cuInit did not return within 2 s"}),
}


def hurried(machine: GpuMachine) -> dict[str, str]:
    """What the checks say of eight GPUs that have two seconds for each call."""
    kind = gpu_type(BIG)
    return gpu_checks.complaints(CHECKS,
                                 {"gpus": machine.gather(2.0), "gpu_type": kind.model_dump(),
                                  "lock": LOCK})


@pytest.mark.parametrize("how", HURRIED)
def test_a_gpu_or_a_driver_that_does_not_answer_is_named_alone(
    tmp_path: Path, libraries: Path, how: str,
) -> None:
    settings, wanted = HURRIED[how]
    machine = gpu_machine.healthy(tmp_path / "machine", libraries, gpu_type(BIG))
    machine.set(settings)
    said = hurried(machine)
    assert [check for check, text in wanted.items() if text not in said.get(check, "")] == [], said
    if GONE.items() <= wanted.items():
        assert said.keys() == wanted.keys()
    if AT_WORK in wanted:
        others = [f"GPU {number}" for number in range(8) if number != 3]
        assert [text for text in said.values() if any(other in text for other in others)] == []


def test_no_process_of_a_call_that_hangs_is_left(tmp_path: Path, libraries: Path) -> None:
    machine = gpu_machine.healthy(tmp_path / "machine", libraries, gpu_type(BIG))
    machine.set({"hang_cuEventSynchronize": 1, "hang_nvmlDeviceGetMemoryInfo.2": 1})
    assert len(machine.gather(2.0)["lost"]) == 1
    until("its processes to end", lambda: not processes(str(machine.path)))


CONTAINER_FAULTS: dict[str, tuple[dict[str, object], dict[str, object], str]] = {
    "engine refuses": ({}, {"rc": 125, "err": "unresolvable CDI devices"},
                       "does not start: unresolvable CDI"),
    "GPU hidden": ({"cuda_count": 7}, {}, "CUDA has 7 of 8 GPUs in the container"),
    "devices denied": ({"cuda_init": 999}, {}, "cuInit returned 999 in the container"),
}


def in_container(machine: GpuMachine, **ran: object) -> dict[str, str]:
    """What the check says of a container that has the machine's libraries; that one starts takes a
    booted image."""
    done = subprocess.run([sys.executable, ROOT / "tests/image/container_runtime/in_container.py"],
                          text=True,
                          env=machine.environment, capture_output=True, check=True)
    checks = gpu_checks.module(ROOT / "tests/image/container_runtime/test_gpu.py")
    return gpu_checks.complaints(checks, {
        "seen": {"image": {"rc": 0}, "all": {"rc": 0, "out": done.stdout, "err": "", **ran}},
        "gpu_type": gpu_type(BIG).model_dump()})


def test_a_container_with_all_gpus_raises_no_alarm(tmp_path: Path, libraries: Path) -> None:
    assert in_container(gpu_machine.healthy(tmp_path / "machine", libraries, gpu_type(BIG))) == {}


@pytest.mark.parametrize("fault", CONTAINER_FAULTS)
def test_each_fault_of_a_container_is_named(tmp_path: Path, libraries: Path, fault: str) -> None:
    settings, ran, cause = CONTAINER_FAULTS[fault]
    machine = gpu_machine.healthy(tmp_path / "machine", libraries, gpu_type(BIG))
    machine.set(settings)
    assert cause in in_container(machine, **ran).get("container_has_every_gpu", "")


def test_a_container_without_the_driver_is_named(tmp_path: Path) -> None:
    machine = gpu_machine.healthy(tmp_path / "machine", tmp_path / "no-libraries", gpu_type(BIG))
    assert "golden-cdi mounted no driver" in in_container(machine).get(
        "container_has_every_gpu", ""
    )
