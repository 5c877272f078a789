"""JUnit files that prove no test on a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from goldenami.core.errors import BadInput
from goldenami.model.builds.gpu_proofs import GpuSession, JunitFile, required
from support.builds.builds import GPU_ROLES, ROOT, write_junit

BUILD = "0123456789ab"
SESSION = GpuSession.model_construct(ami="ami-1", nonce="n")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"build_id": "0" * 12}, "it is of build 000000000000, not 0123456789ab"),
        ({"build_id": ""}, "it is of build (unnamed), not"),
        ({"gpu": ""}, "it names no GPU"),
        ({"ami": "ami-2"}, "it is of ami-2, not ami-1"),
        ({"ami": ""}, "it is of an unnamed AMI, not"),
        ({"nonce": "m"}, "it is of another session"),
        ({"inner": "<failure/>"}, "tests failed, limits/one first"),
        ({"inner": "<error/>"}, "tests failed, limits/one first"),
        (
            {"without": "nvidia_driver/every_gpu_computes_right"},
            "checks on a GPU are not in it, nvidia_driver/every_gpu_computes_right first",
        ),
    ],
)
def test_a_file_that_proves_nothing(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = tmp_path / "gpu.xml"
    write_junit(path, **({"build_id": BUILD} | changes))
    found = next(JunitFile(path).problems(BUILD, required(ROOT, GPU_ROLES), SESSION), "")
    assert (bool(found), said in found) == (bool(said), True), found


def test_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "gpu.xml").write_text("<testsuites>", encoding="utf-8")
    for name, said in (("gpu.xml", "is not JUnit XML"), ("none.xml", "does not exist")):
        with pytest.raises(BadInput, match=said):
            JunitFile(tmp_path / name)
