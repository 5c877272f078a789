"""The lint of a lock: silent on the committed ones, and each rule is heard on a lock that breaks
it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from goldenami.image.lock import lint
from goldenami.model.locked.lockfile import Lock
from goldenami.model.supported import support as parts
from support import trees

ROOT = Path(__file__).resolve().parents[3]
GPU = ROOT / "packer/locks/debian-13-ml.lock.json"
Data = dict[str, Any]
Change = Callable[[Data], None]
LOCKED = GPU.read_text(encoding="utf-8").replace("550.163.01", "535.309.01")
"""Of a driver branch whose last day is known, as that of its CUDA then is."""
KERNEL = json.loads(LOCKED)["kernel"]
NO_BLOB = {"sha256": "0" * 64, "size": 0}


def findings(*changes: Change, day: str = "2026-01-01") -> list[str]:
    data = json.loads(LOCKED)
    put("driver/branch", "535")(data)
    put("cuda/version", "12.2")(data)
    # Those that need the fabric manager lack it on Debian.
    put("hardware/families", ["g4dn", "g5", "g6"])(data)
    for change in changes:
        change(data)
    found = lint.check(Lock.model_validate_json(json.dumps(data)), ROOT, day)
    return [f"{finding.rule}: {finding.message}" for finding in found]


def put(path: str, value: object) -> Change:
    """Replace what stands at `path` of a lock."""
    *parents, last = path.split("/")

    def change(data: Data) -> None:
        for name in parents:
            data = data[name]
        data[last] = value

    return change


def install(name: str, version: str = "1.0-1") -> Change:
    """A package more."""
    return lambda data: data["packages"].__setitem__(
        name, {**data["packages"]["bash"], "version": version, "source": name}
    )


def families(*names: str) -> Change:
    return put("hardware/families", names)


@pytest.mark.parametrize(
    "path", trees.scanned(5, ROOT, "packer/locks/*.lock.json"), ids=lambda path: path.name
)
def test_committed_locks_have_no_error(path: Path) -> None:
    found = lint.check(Lock.model_validate_json(path.read_text(encoding="utf-8")), ROOT)
    assert [finding for finding in found if finding.severity is lint.Severity.ERROR] == []


def framework(name: str, *files: str, sm: str = "") -> Change:
    """A framework of wheels "project version", its own first; compiled here where `sm` is given."""

    def change(data: Data) -> None:
        wheels = [
            {
                "project": file.split()[0],
                "version": file.split()[1],
                "filename": f"{file}.whl",
                "size": 1,
                "sha256": "0" * 64,
            }
            for file in files
        ]
        made = (
            {
                "key": "0",
                "target": {"cpu": "znver3", "options": [], "sm": sm.split()},
                "compiler": "gcc",
                "source": wheels[0],
                "build": [],
                "requires": [],
                "tests": [],
                "result": "",
            }
            if sm
            else None
        )
        data["frameworks"] = [
            {
                "name": name,
                "version": "1.0",
                "environment": name,
                "origin": "source" if sm else "wheel",
                "why": "",
                "gain": None,
                "measured_on": None,
                "wheel": wheels[0],
                "requires": wheels[1:],
                "made": made,
                "allow": [],
            }
        ]

    return change


WITHOUT_GPUS = [put("driver", None), put("cuda", None), put("hardware/sm", []), families("c7i")]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            framework("pytorch", "torch 2.15.0", "nvidia-nccl-cu13 2.28"),
            "wheels_run_on_driver: pytorch: nvidia-nccl-cu13 "
            "2.28: CUDA 13.0 does not run on driver 535.",
        ),
        (
            framework("pytorch", "torch 2.9.0+cu130"),
            "wheels_run_on_driver: pytorch: torch 2.9.0+cu130: CUDA 13.0 does not",
        ),
        (
            framework("demo", "cupy-cuda13x 13.0"),
            "wheels_run_on_driver: demo: cupy-cuda13x 13.0: CUDA 13.0 does not",
        ),
        (
            framework("xgboost", "xgboost-cpu 3.2.0", "numpy 2.4.6"),
            "frameworks_use_gpus: xgboost leaves the GPUs idle: "
            "xgboost-cpu 3.2.0 has no code for sm_75, sm_86, sm_89",
        ),
        (
            framework("pytorch", "torch 2.7.0+cpu"),
            "frameworks_use_gpus: pytorch leaves the GPUs idle: torch 2.7.0+cpu",
        ),
        (
            [
                framework(
                    "pytorch",
                    "torch 2.15.0",
                    "numpy 2.4.6",
                    "nvidia-nccl-cu13 2.28",
                    "nvidia-cufile 1.14",
                ),
                *WITHOUT_GPUS,
            ],
            "cuda_without_gpus: pytorch brings 2 wheels of CUDA (0.0 GB), and no GPU is declared",
        ),
        (
            put("packages/libcuda1/version", "535.261.03-1"),
            "one_driver: libcuda1 is 535.261.03-1, the driver is 535.",
        ),
        (
            put("packages/nvidia-persistenced/version", "470.1-1"),
            "same_branch: nvidia-persistenced is 470.1-1",
        ),
        (put("cuda/version", "13.0"), "cuda_runs_on_driver: CUDA 13.0 does not run on driver 535."),
        (
            put("hardware/sm", ["120"]),
            "cuda_reaches_hardware: CUDA 12.2 compiles for sm_50 to sm_90",
        ),
        (
            [put("driver/flavour", "open"), families("g5", "p3")],
            "flavour_runs_hardware: open kernel modules need Turing or newer, which p3 has not",
        ),
        (
            families("g5", "p6-b200"),
            "flavour_runs_hardware: only the open kernel modules run the GPU of p6-b200",
        ),
        (
            families("g5", "g7"),
            "branch_runs_hardware: branch 535 does not run the RTX PRO 4500 of g7: "
            "595 is the first branch that does",
        ),
        (
            [families("c7i", "g5", "g6"), put("driver", None)],
            "used_accelerators: the GPUs of g5, g6 stay idle: the image has no ",
        ),
        (
            families("c7i", "m7i"),
            "used_accelerators: none of c7i, m7i has an NVIDIA GPU for the image's driver",
        ),
        (families("g5", "inf2"), "used_accelerators: the Inferentia2 of inf2 stays idle"),
        (
            families("g5", "p4d"),
            "fabric_manager: p4d needs the fabric manager, which the image has not",
        ),
        (
            install("linux-image-6.1.0-1-cloud-amd64"),
            "one_kernel: linux-image-6.1.0-1-cloud-amd64 is a second kernel",
        ),
        (lambda data: data["packages"].pop(KERNEL["package"]), "one_kernel: linux-image-"),
        (
            put(f"driver/modules/build/linux-headers-{KERNEL['release']}/version", "6.1.1-1"),
            "one_kernel: the modules were not compiled with the headers",
        ),
        (
            put("driver/modules/package", "golden-nvidia-modules-6.1.0-1-cloud-amd64"),
            "one_kernel: the modules golden-nvidia-modules-6.1.0-1-cloud-amd64 "
            "are not for the kernel",
        ),
        (
            install("nvidia-fabricmanager-535", "535.1-1"),
            "one_driver: nvidia-fabricmanager-535 is 535.1-1, the driver is 535.",
        ),
        # Debian's has a version of its own, which that of NVIDIA's repository must not have.
        (
            [
                put("packages/nvidia-persistenced/version", "535.1-1"),
                put("driver/source", "nvidia"),
            ],
            "one_driver: nvidia-persistenced is 535.1-1, the driver is 535.",
        ),
        (
            put("driver/modules/build/libc6/version", "2.36-1"),
            "one_version: libc6 is 2.41-12+deb13u",
        ),
        (
            put("variables/container_runtime_gpu_source", "nvidia"),
            "container_toolkit: nvidia-container-toolkit is asked for",
        ),
        (
            [
                install("nvidia-container-toolkit", "1.17.4-1"),
                install("libnvidia-container1", "1.17.8-1"),
            ],
            "container_toolkit: the container toolkit is of several versions: "
            "nvidia-container-toolkit 1.17.4-1, libnvidia-container1 1.17.8-1",
        ),
        (
            put("variables/container_runtime_gpu_source", "none"),
            "containers_see_gpus: containers of containerd, docker.io see no GPU: "
            "set container_runtime_gpu_source",
        ),
        (
            put(
                "containers",
                [
                    {
                        "name": "a.example/ml:1",
                        "asked": "",
                        "answer": "",
                        "layers": [],
                        "least_driver": "580.65.06",
                        "manifest": NO_BLOB,
                        "config": NO_BLOB,
                    }
                ],
            ),
            "containers_run_on_driver: a.example/ml:1 asks for driver 580.65.06, "
            "the image has 535.309",
        ),
    ],
)
def test_a_lock_that_does_not_fit(changes: Change | list[Change], expected: str) -> None:
    found = findings(*(changes if isinstance(changes, list) else [changes]))
    assert [line for line in found if line.startswith(expected)], found


ENGINE = install("docker.io")


@pytest.mark.parametrize(
    "changes",
    [
        [],
        [
            put("cuda/version", "12.3"),
            ENGINE,  # the driver's own is 12.2
            put("variables/os_updates_extra_packages", ["nvidia-container-toolkit"]),
            install("nvidia-container-toolkit"),
            install("libnvidia-container1"),
        ],
        [ENGINE, put("variables/container_runtime_gpu_source", "debian")],
        [families("g5", "p4d"), install("nvidia-fabricmanager-535", "535.309.01")],
        [framework("pytorch", "torch 2.7.0+cu128")],
        [framework("xgboost", "xgboost 3.2.0", "nvidia-nccl-cu12 2")],
        [framework("demo", "demo 1.0", "nvidia-cuda-runtime-cu12 12.9.79")],
        [framework("numpy", "numpy 2.4.6")],
        [framework("lightgbm", "lightgbm 4.7.0", sm="75 86 89")],
        [families("c7i"), put("driver", None)],
    ],
)
def test_what_fits_is_no_finding(changes: list[Change]) -> None:
    assert findings(*changes) == []


def test_a_branch_is_past_its_end_on_the_day_after() -> None:
    assert findings(day="2026-06-30") == []
    driver, cuda = findings(day="2026-07-01")
    assert driver == (
        "supported_parts: support of NVIDIA driver 535.309.01 (branch 535) ended 2026-06-30: "
        f"{parts.DRIVER_MOVE}"
    )
    assert cuda.startswith("supported_parts: support of CUDA 12.2 (came with driver branch 535) ")
