"""A container that asks for all GPUs has them: the engine, CDI and the driver's libraries together.

`seen` is what probe.py prints. test_container_runtime.py asks more of the same, of made-up GPUs
where no GPU is.
"""

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def seen(run_program: Any, lock: dict[str, Any]) -> dict[str, Any]:
    """The container's exit status and output, and how its image was made."""
    if lock["container_runtime_gpu_source"] == "none":
        pytest.skip("not asked: the image gives containers no GPU")
    program, inner = (
        Path(__file__).with_name(name).read_text() for name in ("probe.py", "in_container.py")
    )
    return dict(run_program(program, lock["container_runtime_engine"], "", inner, "gpus"))


def test_container_has_every_gpu(seen: dict[str, Any], gpu_type: dict[str, Any]) -> None:
    made, ran = seen["image"], seen["all"]
    assert made["rc"] == 0, f"no image to run: {made['err'].strip()}"
    assert ran["rc"] == 0, (
        f"a container with --device=nvidia.com/gpu=all does not start: {ran['err'].strip()}"
    )
    found = json.loads(ran["out"])
    assert found["cuda"] is not None, (
        "the container has no libcuda.so.1: golden-cdi mounted no driver"
    )
    assert found["cuda"] == 0, (
        f"cuInit returned {found['cuda']} in the container; devices: {found['nodes']}"
    )
    assert found["count"] == gpu_type["gpus"], (
        f"CUDA has {found['count']} of {gpu_type['gpus']} GPUs in the container"
    )
