"""Calls a second of what the build changes, and of what it must leave as fast as it was; one thread."""

import json
import time
from collections.abc import Callable

import numpy as np

random = np.random.default_rng(1)
doubles, singles = random.random(1_000_000), random.random(1_000_000, dtype=np.float32)
integers = random.integers(-(1 << 30), 1 << 30, 1_000_000, dtype=np.int32)
square = random.random((400, 400))


def rate(call: Callable[[], object], seconds: float = 0.12) -> float:
    """Calls a second, over at least `seconds` and two calls."""
    call()
    began, calls = time.process_time(), 0
    while (spent := time.process_time() - began) < seconds or calls < 2:
        call()
        calls += 1
    return calls / spent


print(json.dumps({
    "sort float64": rate(lambda: np.sort(doubles)), "sort float32": rate(lambda: np.sort(singles)),
    "sort int32": rate(lambda: np.sort(integers)), "argsort float64": rate(lambda: np.argsort(doubles)),
    "argsort int32": rate(lambda: np.argsort(integers)),
    "partition float64": rate(lambda: np.partition(doubles, 500_000)),
    "partition float32": rate(lambda: np.partition(singles, 500_000)),
    "exp float64": rate(lambda: np.exp(doubles)), "sin float32": rate(lambda: np.sin(singles)),
    "matmul float64": rate(lambda: square @ square),
}))
