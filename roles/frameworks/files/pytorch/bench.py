"""Steps a second: matrices, a convolution, a training step of a small network; one thread."""

import json
import time
from collections.abc import Callable

import torch

torch.set_num_threads(1)
torch.manual_seed(1)
square, image = torch.randn(512, 512), torch.randn(4, 32, 64, 64)
convolution = torch.nn.Conv2d(32, 64, 3)
network = torch.nn.Sequential(torch.nn.Linear(256, 512), torch.nn.ReLU(), torch.nn.Linear(512, 10))
rows = torch.randn(128, 256)


def rate(call: Callable[[], object], seconds: float = 0.5) -> float:
    """Calls a second, over at least `seconds` and two calls."""
    call()
    began, calls = time.process_time(), 0
    while (spent := time.process_time() - began) < seconds or calls < 2:
        call()
        calls += 1
    return calls / spent


print(json.dumps({
    "matmul float32": rate(lambda: square @ square), "convolution": rate(lambda: convolution(image)),
    "train": rate(lambda: network(rows).square().mean().backward()),
}))
