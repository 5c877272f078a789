"""Steps a second: matrices, a convolution, a training step of a small network; one thread."""

import json

import torch
from timing import rates

torch.set_num_threads(1)
torch.manual_seed(1)
square, image = torch.randn(512, 512), torch.randn(4, 32, 64, 64)
convolution = torch.nn.Conv2d(32, 64, 3)
network = torch.nn.Sequential(torch.nn.Linear(256, 512), torch.nn.ReLU(), torch.nn.Linear(512, 10))
rows = torch.randn(128, 256)

print(
    json.dumps(
        rates(
            {
                "matmul float32": lambda: square @ square,
                "convolution": lambda: convolution(image),
                "train": lambda: network(rows).square().mean().backward(),
            },
            seconds=0.5,
        )
    )
)
