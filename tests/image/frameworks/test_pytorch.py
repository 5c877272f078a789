"""PyTorch in the image: its CUDA is the locked one, reaches the declared GPUs, and fails only for
want of a GPU."""

import json
from pathlib import Path
from typing import Any

import pytest
from goldenami.local.code_coverage import fatbin
from goldenami.local.code_coverage.fatbin import DeviceImage

NO_GPU = "No CUDA GPUs are available"
"""What PyTorch says where the driver answers cudaErrorNoDevice. Without a driver it is "Found no
NVIDIA driver"."""

pytestmark = pytest.mark.no_boot


@pytest.fixture(scope="module")
def said(ran: dict[str, Any], lock: dict[str, Any]) -> dict[str, Any]:
    """What probes/pytorch.py printed."""
    if "pytorch" not in {one["name"] for one in lock["frameworks_installed"]}:
        pytest.skip("not asked: the image has no PyTorch")
    smoke = ran["smoke"]["pytorch"]
    assert smoke["out"], smoke
    printed: dict[str, Any] = json.loads(smoke["out"].splitlines()[0])
    return printed


@pytest.fixture(scope="module")
def wheels(lock: dict[str, Any]) -> dict[str, str]:
    """Version by project in PyTorch's environment."""
    return {
        project: wheel["version"]
        for one in lock["frameworks_installed"]
        if one["name"] == "pytorch"
        for project, wheel in one["wheels"].items()
    }


@pytest.fixture
def gpu(lock: dict[str, Any]) -> list[str]:
    """The declared GPUs' compute capabilities."""
    if not lock.get("cuda_architectures"):
        pytest.skip("not asked: the image declares no CUDA")
    found: list[str] = lock["cuda_architectures"]
    return found


def test_pytorch_is_imported(said: dict[str, Any], record_values: Any) -> None:
    """Its seconds are in the record."""
    record_values("first import of torch", "s", [said["seconds"]])
    assert said["seconds"] > 0


def test_cuda_is_the_locked_one(said: dict[str, Any], lock: dict[str, Any], gpu: list[str]) -> None:
    assert gpu
    assert said["cuda"] == lock["cuda_version"]


def test_code_reaches_every_declared_gpu(said: dict[str, Any], gpu: list[str]) -> None:
    held = [
        DeviceImage(
            capability=int("".join(filter(str.isdigit, name))),
            suffix="",
            ptx=name.startswith("compute"),
        )
        for name in said["code"]
    ]
    assert fatbin.missing(held, gpu) == [], said["code"]


@pytest.mark.usefixtures("gpu")
def test_only_a_gpu_is_missing(
    said: dict[str, Any], ran: dict[str, Any], lock: dict[str, Any]
) -> None:
    """With a GPU it is used; without, the driver says so, and no library fails to load."""
    if "nvidia_driver" not in lock["golden_roles"]:
        pytest.skip("not asked: the image has no driver")
    assert (said["available"], said["refusal"]) == ((True, "") if ran["gpu"] else (False, NO_GPU))


@pytest.mark.usefixtures("gpu")
def test_nccl_and_cuda_are_those_of_the_environment(
    said: Any, wheels: dict[str, str], record_figure: Any
) -> None:
    """NCCL loads, is of the locked version, and nothing of CUDA comes from elsewhere."""
    locked = next(
        version for project, version in wheels.items() if project.startswith("nvidia-nccl-")
    )
    record_figure("NCCL", locked)
    assert ".".join(map(str, said["nccl"])) == locked
    assert [Path(path).name.partition(".so")[0] for path in said["mapped"]] == [
        "libcublas",
        "libcudart",
        "libnccl",
    ]
    assert [path for path in said["mapped"] if not path.startswith("/opt/ml/")] == []


def test_training_and_a_sum_of_ranks_are_right(run_pytorch: Any) -> None:
    """By the program that runs on GPUs, on the CPU: twice the same losses, 16 bits near them, two
    ranks by Gloo."""
    worked = run_pytorch("cpu", "2")
    reference, (device,) = worked["reference"], worked["devices"]
    assert (
        device["trained"] == pytest.approx(reference, rel=1e-4) and reference[-1] < reference[0] / 2
    )
    assert device["half"] == pytest.approx(reference, abs=0.05 * reference[0])
    assert device["products"]["wrong"] == 0
    assert [said if isinstance(said, str) else said["wrong"] for said in worked["sums"]] == [0, 0]
