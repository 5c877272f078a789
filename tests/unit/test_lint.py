"""The lint of a lock: silent on the committed ones, and each rule is heard on a lock that breaks it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from goldenami import hardware, lint
from goldenami.lockfile import Lock

ROOT = Path(__file__).resolve().parents[2]
GPU = ROOT / "packer/locks/debian-12-ml-gpu.lock.json"
Data = dict[str, Any]


def findings(change: Callable[[Data], None]) -> list[str]:
    data = json.loads(GPU.read_text(encoding="utf-8"))
    change(data)
    found = lint.check(Lock.model_validate_json(json.dumps(data)), hardware.load(ROOT))
    return [f"{finding.rule}: {finding.message}" for finding in found]


@pytest.mark.parametrize("path", sorted((ROOT / "packer/locks").glob("*.lock.json")), ids=lambda path: path.name)
def test_committed_locks_have_no_error(path: Path) -> None:
    found = lint.check(Lock.model_validate_json(path.read_text(encoding="utf-8")), hardware.load(ROOT))
    assert [finding for finding in found if finding.severity is lint.Severity.ERROR] == []


def other_version(name: str, version: str) -> Callable[[Data], None]:
    return lambda data: data["packages"][name].update(version=version)


def second_kernel(data: Data) -> None:
    data["packages"]["linux-image-6.1.0-1-cloud-amd64"] = data["packages"][data["kernel"]["package"]]


def lost_kernel(data: Data) -> None:
    del data["packages"][data["kernel"]["package"]]


def other_headers(data: Data) -> None:
    data["driver"]["modules"]["build"][f"linux-headers-{data['kernel']['release']}"]["version"] = "6.1.1-1"


def other_modules(data: Data) -> None:
    data["driver"]["modules"]["package"] = "golden-nvidia-modules-6.1.0-1-cloud-amd64"


def open_volta(data: Data) -> None:
    data["driver"]["flavour"] = "open"
    data["hardware"]["families"] = ["g5", "p3"]


def proprietary_blackwell(data: Data) -> None:
    data["hardware"]["families"] = ["g5", "p6-b200"]


def families(*names: str, driver: bool = True) -> Callable[[Data], None]:
    def change(data: Data) -> None:
        data["hardware"]["families"] = list(names)
        data["driver"] = data["driver"] if driver else None
    return change


@pytest.mark.parametrize(("change", "expected"), [
    (other_version("libcuda1", "535.261.03-1"), "one_driver: libcuda1 is 535.261.03-1, the driver is 535."),
    (other_version("firmware-nvidia-gsp", "535.1-1"), "one_driver: firmware-nvidia-gsp is 535.1-1"),
    (other_version("nvidia-persistenced", "470.1-1"), "same_branch: nvidia-persistenced is 470.1-1"),
    (lambda data: data["cuda"].update(version="13.0"), "cuda_runs_on_driver: CUDA 13.0 does not run on driver 535."),
    (lambda data: data["hardware"].update(sm=["120"]), "cuda_reaches_hardware: CUDA 11.8 compiles for sm_35 to sm_90"),
    (open_volta, "flavour_runs_hardware: open kernel modules need Turing or newer, which p3 has not"),
    (proprietary_blackwell, "flavour_runs_hardware: only the open kernel modules run the GPU of p6-b200"),
    (families("c7i", "g5", "g6", driver=False), "used_accelerators: the GPUs of g5, g6 stay idle: the image has no "),
    (families("c7i", "m7i"), "used_accelerators: none of c7i, m7i has an NVIDIA GPU for the image's driver"),
    (families("g5", "inf2"), "used_accelerators: the Inferentia2 of inf2 stays idle"),
    (families("g5", "g4ad"), "used_accelerators: the Radeon Pro V520 of g4ad stays idle"),
    (families("g5", "p4d"), "fabric_manager: p4d needs the fabric manager, which the image has not"),
    (second_kernel, "one_kernel: linux-image-6.1.0-1-cloud-amd64 is a second kernel"),
    (lost_kernel, "one_kernel: linux-image-"),
    (other_headers, "one_kernel: the modules were not compiled with the headers"),
    (other_modules, "one_kernel: the modules golden-nvidia-modules-6.1.0-1-cloud-amd64 are not for the kernel"),
    (lambda data: data.update(source_date_epoch=1795219200), "supported_branch: driver branch 535 is past its end"),
])
def test_a_lock_that_does_not_fit(change: Callable[[Data], None], expected: str) -> None:
    assert [line for line in findings(change) if line.startswith(expected)], findings(change)


def test_a_supported_branch_is_no_finding() -> None:
    assert [line for line in findings(lambda data: data.update(source_date_epoch=1767225600))
            if line.startswith("supported_branch")] == []


def test_what_fits_is_no_finding() -> None:
    assert [line for line in findings(families("g5", "g6"))
            if line.startswith(("used_accelerators", "fabric_manager"))] == []
    assert [line for line in findings(families("c7i", driver=False)) if line.startswith("used_accelerators")] == []
