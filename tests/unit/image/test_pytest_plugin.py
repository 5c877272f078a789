"""The plugin that turns image tests into checks: each outcome, from real pytest runs of small
files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from goldenami.model.builds import figures
from goldenami.model.builds.build_folder import BuildFolder

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"
TESTS = '''
import time

import pytest
from goldenami.image.verify.pytest_plugin import FIGURES
from goldenami.model.builds.figures import Figure

FIGURE = Figure(name="import", unit="s", machine="this one", values=[1.5, 1.6])

@pytest.fixture
def broken():
    raise ConnectionError("no route to host")

@pytest.fixture
def gathered():
    time.sleep(0.2)

def test_right(gathered):
    """It is right."""

def test_measured(request):
    request.node.user_properties.append(("import torch", "1.5 s"))
    request.node.stash[FIGURES] = [FIGURE]

def test_measured_and_wrong(request):
    request.node.stash[FIGURES] = [FIGURE]
    assert 1 == 2

def test_wrong():
    assert 1 == 2, "one is not two"

def test_gone():
    open("/nonexistent/file")

def test_package():
    assert False, "package x is not installed"

def test_not_looked(broken):
    pass

def test_crash():
    raise ValueError("x")

def test_skipped():
    pytest.skip("needs a GPU")

def test_left_out():
    pytest.skip("not asked: the image has none")

@pytest.mark.parametrize("kind", ["a", "b"])
def test_each(kind):
    assert kind == "a"

@pytest.mark.parametrize(("kind", "number"), [("b", 1)])
def test_gpu_s_seed_is_the_machine_s(kind, number):
    """It is an aside."""
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tests ran, with what they left."""
    folder = tmp_path_factory.mktemp("image") / "limits"
    folder.mkdir()
    (folder / "test_limits.py").write_text(TESTS, encoding="utf-8")
    target = folder / "checks.json"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "goldenami.image.verify.pytest_plugin",
            "-p",
            "no:cacheprovider",
            f"--checks={target}",
            str(folder),
        ],
        env={**os.environ, "PYTHONPATH": str(SCRIPTS)},
        cwd=folder,
        check=False,
        capture_output=True,
    )
    return folder


@pytest.fixture(scope="module")
def checks(folder: Path) -> dict[str, dict[str, Any]]:
    found = json.loads((folder / "checks.json").read_text(encoding="utf-8"))
    return {check["id"]: check for check in found}


def test_figures_are_those_of_tests_that_passed(folder: Path) -> None:
    build = BuildFolder(folder.parent / "000000000001")
    figures.keep(build, folder)
    assert [figure.values for figure in figures.read(build).figures] == [[1.5, 1.6]]


def test_outcomes(checks: dict[str, dict[str, Any]]) -> None:
    """What the definition does not ask for (`left_out`) is no check."""
    expected = {
        "right": ("correct", ""),
        "measured": ("correct", "import torch 1.5 s"),
        "measured_and_wrong": ("incorrect", "assert"),
        "wrong": ("incorrect", "one is not two"),
        "gone": ("missing", "/nonexistent/file"),
        "package": ("missing", "package x is not installed"),
        "not_looked": ("unreachable", "no route to host"),
        "crash": ("unreachable", "ValueError"),
        "skipped": ("unreachable", "needs a GPU"),
        "each[a]": ("correct", ""),
        "each[b]": ("incorrect", "assert"),
        "gpu_s_seed_is_the_machine_s[b-1]": ("correct", ""),
    }
    assert checks.keys() == {f"limits/{name}" for name in expected}
    for name, (outcome, detail) in expected.items():
        check = checks[f"limits/{name}"]
        assert check["outcome"] == outcome, name
        assert detail in check["detail"], name


def test_a_comparison_that_failed_has_both_sides(checks: dict[str, dict[str, Any]]) -> None:
    for name, sides in {
        "wrong": ("1", "2"),
        "each[b]": ("b", "a"),
        "each[a]": ("", ""),
        "gone": ("", ""),
    }.items():
        check = checks[f"limits/{name}"]
        assert (check["actual"], check["expected"]) == sides, name


def test_titles_are_statements_and_seconds_are_those_of_the_set_up_too(
    checks: dict[str, dict[str, Any]],
) -> None:
    assert checks["limits/right"]["title"] == "Right"
    assert checks["limits/each[a]"]["title"] == "Each: a"
    title = checks["limits/gpu_s_seed_is_the_machine_s[b-1]"]["title"]
    assert title == "GPU's seed is the machine's: b, 1"
    assert checks["limits/right"]["seconds"] >= 0.2
