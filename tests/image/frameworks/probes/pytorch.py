"""Runs on the image before PyTorch's smoke test and in its process: an import takes a minute under
emulation.

Prints as JSON, on one line, what PyTorch says of itself, of its CUDA and of the GPUs.
"""

import json
import time
import warnings
from pathlib import Path

began = time.monotonic()
import torch  # type: ignore[import-not-found] # noqa: E402 - only the image has it; its import is what is timed

seconds = time.monotonic() - began
warnings.simplefilter("ignore")


def refusal() -> str:
    """Why CUDA does not start; empty where it does."""
    try:
        torch.cuda.init()
    except (AssertionError, RuntimeError) as error:
        return f"{error}"
    return ""


print(
    json.dumps(
        {
            "seconds": seconds,
            "cuda": torch.version.cuda,
            "available": torch.cuda.is_available(),
            "refusal": refusal(),
            # torch.cuda.get_arch_list() is empty on a machine without a GPU; it asks this.
            "code": (torch._C._cuda_getArchFlags() or "").split(),
            "nccl": list(torch.cuda.nccl.version()),
            "cudnn": torch.backends.cudnn.version(),
            "mapped": sorted(
                {
                    line.split()[-1]
                    for line in Path("/proc/self/maps").read_text().splitlines()
                    if "/libnccl" in line or "/libcudart" in line or "/libcublas.so" in line
                }
            ),
        }
    )
)
