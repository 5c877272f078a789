"""The checks on a GPU: none complains of a healthy machine, and each fault is found by the check
that names it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from goldenami.model.supported import hardware
from goldenami.model.supported.hardware import GpuType
from support.builds.checkout import processes
from support.ec2.instance_types import described
from support.gpu import gpu_checks, gpu_machine
from support.gpu.faults import ALONE, AT_WORK, GONE, HURRIED, TOGETHER
from support.gpu.gpu_machine import DRIVER, GpuMachine
from support.waiting import until

ROOT = Path(__file__).resolve().parents[3]
CHECKS = gpu_checks.module(ROOT / "tests/image/nvidia_driver/test_gpu.py")
LOCK = {"nvidia_driver_version": DRIVER, "nvidia_driver_persistenced_enabled": True}
BIG, SMALL = "p5.48xlarge", "g4dn.xlarge"


def gpu_type(name: str) -> GpuType:
    return hardware.gpu_type(
        hardware.load(ROOT), next(row for row in described() if row["InstanceType"] == name)
    )


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gpu_machine.compile_libraries(tmp_path_factory.mktemp("libraries"))


def complaints(machine: GpuMachine, kind: GpuType) -> dict[str, str]:
    """What the checks that fail say of a machine."""
    return gpu_checks.complaints(
        CHECKS, {"gpus": machine.gather(), "gpu_type": kind.model_dump(), "lock": LOCK}
    )


@pytest.mark.parametrize(
    "name",
    [
        SMALL,
        "g4dn.12xlarge",
        "g5.xlarge",
        "g5.12xlarge",
        "g5g.16xlarge",
        "g6.xlarge",
        "g6e.12xlarge",
        "g6e.48xlarge",
        "p4d.24xlarge",
        "p4de.24xlarge",
        BIG,
        "p5en.48xlarge",
    ],
)
def test_a_healthy_machine_raises_no_alarm(tmp_path: Path, libraries: Path, name: str) -> None:
    kind = gpu_type(name)
    assert complaints(gpu_machine.healthy(tmp_path / "machine", libraries, kind), kind) == {}


def test_what_is_sent_to_a_machine_imports_nothing_that_is_not(tmp_path: Path) -> None:
    """The machine's Python has no module of goldenami's."""
    imports = [
        line
        for line in (ROOT / "tests/image/nvidia_driver/gather_gpu.py").read_text().splitlines()
        if line.startswith("from golden_")
    ]
    program = "\n".join([CHECKS.sent(), *imports])
    ran = subprocess.run(
        [sys.executable, "-I", "-c", program], cwd=tmp_path, text=True, capture_output=True
    )
    assert len(imports) == 3 and (ran.returncode, ran.stderr) == (0, "")


def test_what_a_gpu_does_not_have_and_its_power_limit_are_no_fault(
    tmp_path: Path,
    libraries: Path,
) -> None:
    kind = gpu_type(SMALL)
    machine = gpu_machine.healthy(tmp_path / "machine", libraries, kind)
    machine.set(
        {
            "mig": "unsupported",
            "remap_pending": "unsupported",
            "ecc": "unsupported",
            "throttled_by": 0x4,
        }
    )
    assert complaints(machine, kind) == {}


@pytest.mark.parametrize("fault", ALONE)
def test_a_fault_that_hides_another_is_named_alone(
    tmp_path: Path,
    libraries: Path,
    fault: str,
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
    found = gpu_checks.complaints(
        CHECKS, {"gpus": machine.gather(load_s=3.0), "gpu_type": kind.model_dump(), "lock": LOCK}
    )
    assert found == {"nothing_throttles_a_busy_gpu": "['GPU 2: hardware thermal slowdown']"}, found


def test_memory_that_another_program_holds_is_named(tmp_path: Path, libraries: Path) -> None:
    """It was not tested, which is no pass."""
    kind = gpu_type(SMALL)
    machine = gpu_machine.healthy(tmp_path / "machine", libraries, kind)
    machine.set({"used_mib": kind.memory_mib // 2})
    assert "GPU 0: 54%" in complaints(machine, kind)["memory_keeps_what_is_written"]


@pytest.fixture(scope="module")
def call_s(libraries: Path, tmp_path_factory: pytest.TempPathFactory) -> float:
    """Seconds for a call: what a healthy machine takes for all of its calls. A busy host is no lost
    GPU."""
    folder = tmp_path_factory.mktemp("all")
    machine = gpu_machine.healthy(folder / "machine", libraries, gpu_type(BIG))
    began = time.monotonic()
    machine.gather()
    return max(2.0, time.monotonic() - began)


@pytest.mark.parametrize("how", HURRIED)
def test_a_gpu_or_a_driver_that_does_not_answer_is_named_alone(
    tmp_path: Path,
    libraries: Path,
    call_s: float,
    how: str,
) -> None:
    (settings, wanted), kind = HURRIED[how], gpu_type(BIG)
    machine = gpu_machine.healthy(tmp_path / "machine", libraries, kind)
    machine.set(settings)
    said = gpu_checks.complaints(
        CHECKS,
        {"gpus": machine.gather(call_s), "gpu_type": kind.model_dump(), "lock": LOCK},
    )
    assert [check for check, text in wanted.items() if text not in said.get(check, "")] == [], said
    if GONE.items() <= wanted.items():
        assert said.keys() == wanted.keys()
    if AT_WORK in wanted:
        others = [f"GPU {number}" for number in range(8) if number != 3]
        assert [text for text in said.values() if any(other in text for other in others)] == []


def test_no_process_of_a_call_that_hangs_is_left(
    tmp_path: Path, libraries: Path, call_s: float
) -> None:
    machine = gpu_machine.healthy(tmp_path / "machine", libraries, gpu_type(BIG))
    machine.set({"hang_cuEventSynchronize": 1, "hang_nvmlDeviceGetMemoryInfo.2": 1})
    assert len(machine.gather(call_s)["lost"]) == 1
    until("its processes to end", lambda: not processes(str(machine.path)))


CONTAINER_FAULTS: dict[str, tuple[dict[str, object], dict[str, object], str]] = {
    "engine refuses": (
        {},
        {"rc": 125, "err": "unresolvable CDI devices"},
        "does not start: unresolvable CDI",
    ),
    "GPU hidden": ({"cuda_count": 7}, {}, "CUDA has 7 of 8 GPUs in the container"),
    "devices denied": ({"cuda_init": 999}, {}, "cuInit returned 999 in the container"),
}


def in_container(machine: GpuMachine, **ran: object) -> dict[str, str]:
    """What the check says of a container that has the machine's libraries; that one starts takes a
    booted image."""
    done = subprocess.run(
        [sys.executable, ROOT / "tests/image/container_runtime/in_container.py"],
        text=True,
        env=machine.environment,
        capture_output=True,
        check=True,
    )
    checks = gpu_checks.module(ROOT / "tests/image/container_runtime/test_gpu.py")
    return gpu_checks.complaints(
        checks,
        {
            "seen": {"image": {"rc": 0}, "all": {"rc": 0, "out": done.stdout, "err": "", **ran}},
            "gpu_type": gpu_type(BIG).model_dump(),
        },
    )


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
