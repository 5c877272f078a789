"""What the checks of PyTorch on a GPU say of what gpu_pytorch.py prints: nothing of healthy GPUs,
each fault by name.

That the program prints the truth is shown in the image, where PyTorch is:
tests/image/frameworks/test_pytorch.py.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.gpu import gpu_checks

ROOT = Path(__file__).resolve().parents[3]
CHECKS = gpu_checks.module(ROOT / "tests/image/frameworks/test_gpu.py")
TYPE = {
    "type": "g5.12xlarge",
    "gpus": 4,
    "matmul_tflops": 70.0,
    "nvswitch": False,
    "nvlink_gb_s": 0.0,
    "pcie_generation": 4,
    "pcie_width": 16,
}
LOSSES = [1.0923, 1.0455, 0.4851]
GPU = {
    "name": "NVIDIA A10G",
    "numbers": "bfloat16",
    "trained": LOSSES,
    "half": [1.0924, 1.0452, 0.4850],
    "compiled": LOSSES,
    "products": {"wrong": 0, "tflops": 58.0, "rounds": [58.0]},
}
WORKED: dict[str, Any] = {
    "reference": LOSSES,
    "devices": [GPU] * 4,
    "sums": [{"wrong": 0, "gb_s": 5.1, "rounds": [5.1]}] * 4,
    "nccl": True,
    "triton": True,
}
Break = Callable[[dict[str, Any]], object]


def gpu(number: int, **changes: object) -> Break:
    """A fault of one GPU."""
    return lambda worked: worked["devices"][number].update(changes)


FAULTS: dict[str, tuple[Break, str, str]] = {
    "no GPU": (
        lambda worked: worked.update(devices=[], sums=[]),
        "pytorch_has_every_gpu",
        "PyTorch: none",
    ),
    "no code for the GPU": (
        gpu(1, trained="AcceleratorError: CUDA error: no kernel image is available"),
        "training_is_that_of_the_cpu",
        "GPU 1 (NVIDIA A10G): AcceleratorError: CUDA error: no ker",
    ),
    "16 bits overflow": (
        gpu(3, half=[1.0924, float("inf"), float("nan")]),
        "training_works_in_16_bits",
        "GPU 3",
    ),
    "Triton fails": (
        gpu(0, compiled="InductorError: ptxas fatal"),
        "compiled_training_is_that_of_the_cpu",
        "ptxas",
    ),
    "wrong product": (
        gpu(1, products={"wrong": 7, "tflops": 58.0}),
        "matrix_products_are_right",
        "7 wrong numbers",
    ),
    "slow product": (
        gpu(1, products={"wrong": 0, "tflops": 9.0}),
        "matrix_products_are_fast_enough",
        "23 of 70.0 wanted: ['GPU 1: 9.0']",
    ),
    "PyTorch without NCCL": (
        lambda worked: worked.update(nccl=False),
        "gpus_sum_by_nccl",
        "built without NCCL",
    ),
    "slow sum": (
        lambda worked: worked["sums"].__setitem__(3, {"wrong": 0, "gb_s": 0.8, "rounds": [0.8]}),
        "gpus_sum_fast_enough",
        "3.9 wanted: ['GPU 3: 0.8']",
    ),
}


def complaints(worked: dict[str, Any], **lock: Any) -> dict[str, str]:
    return gpu_checks.complaints(
        CHECKS,
        {
            "worked": worked,
            "gpu_type": TYPE,
            "record_figure": lambda *_: None,
            "record_values": lambda *_: None,
            "lock": {
                "frameworks_compiler_enabled": True,
                "frameworks_installed": [{"wheels": {"triton": {}}}],
                **lock,
            },
        },
    )


def test_healthy_gpus_raise_no_alarm() -> None:
    assert complaints(WORKED) == {}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_and_named(fault: str) -> None:
    do, check, cause = FAULTS[fault]
    worked = copy.deepcopy(WORKED | {"devices": [dict(GPU) for _ in range(4)]})
    do(worked)
    found = complaints(worked)
    assert cause in found.get(check, ""), found


def test_without_a_compiler_nothing_is_compiled() -> None:
    worked = WORKED | {"devices": [GPU | {"compiled": "InvalidCxxCompiler: no g++"}] * 4}
    assert complaints(worked, frameworks_compiler_enabled=False) == {}
    assert complaints(worked | {"triton": False}, frameworks_installed=[]) == {}
