"""Runs in PyTorch's environment: prints as JSON what each device computed and how fast, and what
all of them summed.

argv: `cuda`, which is every GPU; or `cpu` and a number of ranks, by which the image shows without a
GPU that this program is right (but for torch.compile, which would take half a minute). What fails
is a text in its place: the error's words. A rank is this program again, with more words.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch  # type: ignore[import-not-found] # only the image has it
from torch import distributed, nn

KIND, RANKS = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else torch.cuda.device_count()
GPU = KIND == "cuda"
# 3 matrices of 128 MiB; 1.1 TFLOP for a product.
SIZE, ROUNDS, PRODUCTS = (8192, 5, 10) if GPU else (256, 1, 1)
SUMMED = (64 if GPU else 1) << 20  # numbers of 4 bytes, which no cache of a GPU holds
STEPS = 20
LIMIT_S = 300.0
"""For all ranks: each imports PyTorch, and NCCL looks for the others."""


def tried(work: Callable[..., Any], *arguments: Any) -> Any:
    """What `work` returns, or the words of its error."""
    try:
        return work(*arguments)
    except Exception as error:  # whatever it is, the test says it
        return f"{type(error).__name__}: {error}".strip()[-600:]


def sixteen(device: Any) -> Any:
    """The device's 16-bit numbers: bf16, but on GPUs before Ampere, which have no units for it."""
    return (
        torch.float16 if GPU and torch.cuda.get_device_capability(device)[0] < 8 else torch.bfloat16
    )


def train(device: Any, *, half: bool = False, compiled: bool = False) -> list[float]:
    """Losses of training steps; model and data are made on the CPU, so that each device begins with
    the same ones."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 1)).to(device)
    data = torch.randn(512, 64)
    target = (data.sum(dim=1, keepdim=True) / 8).to(device)
    data = data.to(device)
    if compiled:
        torch.compiler.reset()  # else what was compiled for the GPUs before counts to a limit
    forward = torch.compile(model, fullgraph=True) if compiled else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    losses = []
    for _ in range(STEPS):
        with torch.autocast(device.type, dtype=sixteen(device), enabled=half):
            loss = nn.functional.mse_loss(forward(data), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def products(device: Any) -> dict[str, Any]:
    """Wrong numbers of some rows of a product of 16-bit matrices, and TFLOPS of the fastest round.

    All numbers are 1 or -1: sums are whole, and what is off by more than rounding to 16 bits is
    wrong.
    """
    torch.manual_seed(2)
    left, right = (
        (torch.randint(2, (SIZE, SIZE)) * 2 - 1).to(device, sixteen(device)) for _ in range(2)
    )
    rows = slice(0, SIZE, SIZE // 64)
    wanted = left[rows].cpu().float() @ right.cpu().float()
    wrong = int((((left @ right)[rows].cpu().float() - wanted).abs() > 0.05 * SIZE**0.5).sum())
    rounds = [2 * SIZE**3 / timed(lambda: left @ right, PRODUCTS) / 1e12 for _ in range(ROUNDS)]
    return {"wrong": wrong, "tflops": round(max(rounds), 1), "rounds": rounds}


def timed(work: Callable[[], Any], times: int) -> float:
    """Seconds of one of so many runs, one after the other."""
    settle()
    began = time.perf_counter()
    for _ in range(times):
        work()
    settle()
    return (time.perf_counter() - began) / times


def settle() -> None:
    """Wait until the GPU has done what it was given."""
    if GPU:
        torch.cuda.synchronize()


def rank(number: int, folder: str) -> None:
    """One rank of a sum over all of them; prints wrong numbers and the bus bandwidth as NCCL's
    tests define it."""
    device = torch.device(KIND, number if GPU else 0)
    if GPU:
        torch.cuda.set_device(device)
    distributed.init_process_group(
        "nccl" if GPU else "gloo",
        init_method=f"file://{folder}/ranks",
        rank=number,
        world_size=RANKS,
        timeout=timedelta(seconds=LIMIT_S),
    )
    base = torch.arange(SUMMED, device=device, dtype=torch.float32) % 1000
    mine = base + number
    distributed.all_reduce(mine)
    wrong = int((mine != RANKS * base + RANKS * (RANKS - 1) / 2).sum())
    moved = 2 * (RANKS - 1) / RANKS * 4 * SUMMED / 1e9
    rounds = [moved / timed(lambda: distributed.all_reduce(base), 3) for _ in range(ROUNDS)]
    distributed.destroy_process_group()
    print(json.dumps({"wrong": wrong, "gb_s": round(max(rounds), 1), "rounds": rounds}))


def summed() -> list[Any]:
    """What each rank printed, or how it died. All end together: one that hangs is ended after
    LIMIT_S."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        argv = [sys.executable, *sys.orig_argv[1 : -len(sys.argv) + 1], KIND, str(RANKS)]
        ranks = [
            subprocess.Popen(
                [*argv, str(number), folder],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for number in range(RANKS)
        ]
        return [ended(process, LIMIT_S - (time.monotonic() - began)) for process in ranks]


def ended(process: subprocess.Popen[str], limit_s: float) -> Any:
    """A rank's answer, or the last line that it said."""
    try:
        out, err = process.communicate(timeout=max(limit_s, 1.0))
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return f"no answer within {LIMIT_S:.0f} s"
    lines = [line for line in err.splitlines() if line.strip()]
    if process.returncode:
        return f"status {process.returncode}: {lines[-1] if lines else ''}"
    return json.loads(out.splitlines()[-1])  # Gloo speaks first


def look(device: Any) -> dict[str, Any]:
    """What one device did."""
    if GPU:
        torch.cuda.set_device(device)  # the one that `settle` waits for
    return {
        "name": torch.cuda.get_device_name(device) if GPU else KIND,
        "numbers": str(sixteen(device))[6:],
        "trained": tried(train, device),
        "half": tried(lambda: train(device, half=True)),
        "compiled": tried(lambda: train(device, compiled=True)) if GPU else [],
        "products": tried(products, device),
    }


def main() -> None:
    """Everything at once: the first import from a cold disk takes most of the time."""
    devices = [torch.device(KIND, number) for number in range(RANKS if GPU else 1)]
    print(
        json.dumps(
            {
                "reference": train(torch.device("cpu")),
                "devices": [look(device) for device in devices],
                "sums": tried(summed),
                "nccl": GPU and distributed.is_nccl_available(),
                "triton": bool(list(Path(torch.__file__).parents[1].glob("triton"))),
            }
        )
    )


if len(sys.argv) > 3:
    rank(int(sys.argv[3]), sys.argv[4])
else:
    main()
