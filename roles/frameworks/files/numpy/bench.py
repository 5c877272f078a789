"""Calls a second of what the build changes, and of what it must leave as fast; one thread."""

import json

import numpy as np
from timing import rates

random = np.random.default_rng(1)
doubles, singles = random.random(1_000_000), random.random(1_000_000, dtype=np.float32)
integers = random.integers(-(1 << 30), 1 << 30, 1_000_000, dtype=np.int32)
square = random.random((400, 400))

print(
    json.dumps(
        rates(
            {
                "sort float64": lambda: np.sort(doubles),
                "sort float32": lambda: np.sort(singles),
                "sort int32": lambda: np.sort(integers),
                "argsort float64": lambda: np.argsort(doubles),
                "argsort int32": lambda: np.argsort(integers),
                "partition float64": lambda: np.partition(doubles, 500_000),
                "partition float32": lambda: np.partition(singles, 500_000),
                "exp float64": lambda: np.exp(doubles),
                "sin float32": lambda: np.sin(singles),
                "matmul float64": lambda: square @ square,
            },
            seconds=0.12,
        )
    )
)
