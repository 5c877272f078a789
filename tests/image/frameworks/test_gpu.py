"""PyTorch on the GPUs: each trains as the CPU does, in 16 bits and compiled, and multiplies fast;
all sum by NCCL.

`worked` is what gpu_pytorch.py prints; test_pytorch.py shows on every image, on the CPU, that the
program is right.
"""

from collections.abc import Callable
from operator import itemgetter
from typing import Any

import pytest

pytestmark = pytest.mark.gpu

MATMUL_SHARE = 1 / 3
"""Of the GPU's 16-bit TFLOPS: half is what a card with a low power limit keeps, an eighth what one
without its tensor cores reaches (a T4: 8 of 65)."""
PCIE_GB_S = {3: 0.985, 4: 1.97, 5: 3.94}
"""Generation -> GB/s of a lane in one direction (PCI-SIG)."""
NVLINK_SHARE, PCIE_SHARE = 0.4, 1 / 8
"""Of the link's speed, which an all-reduce of 256 MiB reaches on a healthy machine: by NVLink 0.5
to 0.8, by PCIe and the processor's memory 0.2 to 0.4 (bus bandwidth, as NCCL's tests define it)."""
EXACT, ROUNDED = 1e-3, 0.05
"""How far a loss may be from the CPU's, in shares of the first one: sums in another order; 16-bit
numbers."""


@pytest.fixture(scope="module")
def worked(run_pytorch: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """What every GPU did for the user who logged in."""
    return run_pytorch("cuda")


def wrong(worked: dict[str, Any], judge: Callable[[dict[str, Any]], str]) -> list[str]:
    """GPUs of which `judge` says something, with its words."""
    return [
        f"GPU {number} ({device['name']}): {said}"
        for number, device in enumerate(worked["devices"])
        if (said := judge(device))
    ]


def differs(losses: list[float] | str, wanted: list[float], share: float) -> str:
    """Where losses leave the CPU's, or the error that they ended in; nothing where they agree. NaN
    never does."""
    if isinstance(losses, str):
        return losses
    if len(losses) != len(wanted):
        return f"{len(losses)} steps of {len(wanted)}"
    return next(
        (
            f"loss {loss:.4f} in step {step}, {right:.4f} on the CPU"
            for step, (loss, right) in enumerate(zip(losses, wanted, strict=True))
            if not abs(loss - right) <= share * wanted[0]
        ),
        "",
    )


def test_pytorch_has_every_gpu(worked: dict[str, Any], gpu_type: dict[str, Any]) -> None:
    found = [device["name"] for device in worked["devices"]]
    assert len(found) == gpu_type["gpus"], (
        f"{gpu_type['type']} has {gpu_type['gpus']} GPUs; PyTorch: {found or 'none'}"
    )


def test_training_is_that_of_the_cpu(worked: dict[str, Any]) -> None:
    found = wrong(worked, lambda device: differs(device["trained"], worked["reference"], EXACT))
    assert not found, f"training in 32 bits: {found}"


def test_training_works_in_16_bits(worked: dict[str, Any], record_figure: Any) -> None:
    """In bf16, or fp16 where the GPU has none."""
    record_figure("numbers", ", ".join(sorted({device["numbers"] for device in worked["devices"]})))
    found = wrong(worked, lambda device: differs(device["half"], worked["reference"], ROUNDED))
    assert not found, f"training in 16 bits: {found}"


def test_compiled_training_is_that_of_the_cpu(worked: dict[str, Any], lock: dict[str, Any]) -> None:
    """torch.compile: Triton compiles for the GPU, and its launchers with g++ and Python's
    headers."""
    baked = any("triton" in one["wheels"] for one in lock["frameworks_installed"])
    if not (baked and lock["frameworks_compiler_enabled"]):
        pytest.skip("not asked: the image has no Triton, or no compiler for it")
    assert worked["triton"], "Triton was baked, and PyTorch's environment has none"
    found = wrong(worked, lambda device: differs(device["compiled"], worked["reference"], EXACT))
    assert not found, f"training by torch.compile: {found}"


def test_matrix_products_are_right(worked: dict[str, Any]) -> None:
    def judge(device: dict[str, Any]) -> str:
        found = device["products"]
        return (
            found
            if isinstance(found, str)
            else f"{found['wrong']} wrong numbers"
            if found["wrong"]
            else ""
        )

    found = wrong(worked, judge)
    assert not found, f"products of 16-bit matrices: {found}"


def test_matrix_products_are_fast_enough(
    worked: dict[str, Any],
    gpu_type: dict[str, Any],
    record_figure: Any,
    record_values: Any,
) -> None:
    if gpu_type["matmul_tflops"] is None:
        pytest.skip("not asked: packer/hardware.yml has no figure of this GPU's matrix products")
    least = MATMUL_SHARE * gpu_type["matmul_tflops"]
    speeds = [
        device["products"] if isinstance(device["products"], str) else device["products"]["tflops"]
        for device in worked["devices"]
    ]
    record_figure("TFLOPS", ", ".join(map(str, speeds)))
    found = [
        f"GPU {number}: {speed}"
        for number, speed in enumerate(speeds)
        if isinstance(speed, str) or speed < least
    ]
    assert not found, (
        f"TFLOPS of 16-bit products, {least:.0f} of {gpu_type['matmul_tflops']} wanted: {found}"
    )
    if speeds:
        slowest = worked["devices"][speeds.index(min(speeds))]["products"]
        record_values("16-bit products of the slowest GPU", "TFLOPS", slowest["rounds"])


def test_gpus_sum_by_nccl(
    worked: dict[str, Any], gpu_type: dict[str, Any], record_values: Any
) -> None:
    """All-reduce, one process for each GPU, as training does; of one GPU it shows that NCCL
    starts."""
    sums = worked["sums"]
    assert worked["nccl"], "this PyTorch was built without NCCL"
    assert not isinstance(sums, str), f"all-reduce: {sums}"
    found = [
        f"GPU {number}: {said if isinstance(said, str) else str(said['wrong']) + ' wrong sums'}"
        for number, said in enumerate(sums)
        if isinstance(said, str) or said["wrong"]
    ]
    assert not found, f"all-reduce over {gpu_type['gpus']} GPUs: {found}"
    assert len(sums) == gpu_type["gpus"], f"{len(sums)} GPUs of {gpu_type['gpus']} took part"
    if len(sums) > 1:  # one GPU moves nothing
        slowest = min(sums, key=itemgetter("gb_s"))
        record_values("all-reduce", "GB/s", slowest["rounds"])


def test_gpus_sum_fast_enough(worked: dict[str, Any], gpu_type: dict[str, Any]) -> None:
    least = (
        NVLINK_SHARE * gpu_type["nvlink_gb_s"]
        if gpu_type["nvswitch"]
        else (PCIE_SHARE * gpu_type["pcie_width"] * PCIE_GB_S.get(gpu_type["pcie_generation"], 0))
    )
    sums = worked["sums"]
    if gpu_type["gpus"] < 2 or isinstance(sums, str):
        pytest.skip("not asked: there is no other GPU, or there are no sums")
    found = [
        f"GPU {number}: {said['gb_s']}"
        for number, said in enumerate(sums)
        if not isinstance(said, str) and said["gb_s"] < least
    ]
    assert not found, f"GB/s of all-reduce, {least:.1f} wanted: {found}"
