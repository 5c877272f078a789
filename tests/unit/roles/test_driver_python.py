"""What roles/nvidia_driver tells pip and uv: no package of an environment brings a CUDA that the
image's driver does not run."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from goldenami.core.errors import NoFit
from goldenami.model.roles import role_packages
from goldenami.model.supported import compatibility
from goldenami.model.supported.platforms import RELEASES
from jinja2 import Environment, StrictUndefined
from support.builds.tools import ROOT

TEMPLATES = ROOT / "roles/nvidia_driver/templates/etc"


def rendered(name: str, branch: str) -> str:
    """A file of the role on a machine with a driver of this branch."""
    found: dict[str, Any] = role_packages.facts(
        ROOT,
        "nvidia_driver",
        RELEASES["trixie"],
        {"nvidia_driver_branch": branch},
        only="__nvidia_driver_constraints",
    )
    made = Environment(trim_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined)
    made.filters["to_json"] = json.dumps
    text = (TEMPLATES / f"{name}.j2").read_text(encoding="utf-8")
    return made.from_string(text).render(
        ansible_managed="managed", nvidia_driver_branch=branch, **found
    )


@pytest.mark.parametrize("branch", compatibility.load(ROOT).branches)
def test_each_branch_is_held_to_the_newest_cuda_that_it_runs(branch: str) -> None:
    driver = f"{branch}.999.99"
    lines = rendered("xdg/pip/constraints.txt", branch).splitlines()[2:]
    held = int(lines[1].removeprefix("cuda-toolkit<"))
    assert compatibility.load(ROOT).check_cuda(f"{held - 1}.9", driver)
    with pytest.raises(NoFit):
        compatibility.load(ROOT).check_cuda(f"{held}.0", driver)
    assert f"jax-cuda{held}-plugin<0" in lines
    assert tomllib.loads(rendered("uv/uv.toml", branch)) == {"constraint-dependencies": lines}


def wheel(folder: Path, name: str, version: str, *needs: str) -> None:
    """A package without files."""
    info = f"{name.replace('-', '_')}-{version}"
    metadata = [
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}",
        *(f"Requires-Dist: {need}" for need in needs),
    ]
    with zipfile.ZipFile(folder / f"{info}-py3-none-any.whl", "w") as file:
        file.writestr(f"{info}.dist-info/METADATA", "\n".join(metadata) + "\n")
        file.writestr(
            f"{info}.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        file.writestr(f"{info}.dist-info/RECORD", "")


@pytest.mark.parametrize(("branch", "brought"), [("550", "torch-2.10.0"), ("580", "torch-2.15.0")])
def test_a_newer_torch_is_the_newest_that_the_driver_runs(
    tmp_path: Path,
    branch: str,
    brought: str,
) -> None:
    """By packages that need each other as PyTorch's of these versions do."""
    for torch, cuda in (("2.10.0", ""), ("2.11.0", "13.0.2"), ("2.15.0", "13.2.2")):
        wheel(tmp_path, "torch", torch, *[f"cuda-toolkit=={cuda}"] * bool(cuda))
    for version in ("12.8.1", "13.0.2", "13.2.2"):
        wheel(tmp_path, "cuda-toolkit", version)
    (tmp_path / "constraints.txt").write_text(rendered("xdg/pip/constraints.txt", branch))
    settings = rendered("xdg/pip/pip.conf", branch).replace("/etc/xdg/pip", str(tmp_path))
    (tmp_path / "pip.conf").write_text(settings)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--no-index",
            "--find-links",
            tmp_path,
            "--target",
            tmp_path / "own",
            "torch",
        ],
        env={"PIP_CONFIG_FILE": str(tmp_path / "pip.conf")},
        capture_output=True,
        text=True,
    )
    assert brought in done.stdout.splitlines()[-1].split(), done.stdout + done.stderr
