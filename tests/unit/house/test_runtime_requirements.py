"""What a user runs needs no package but those that `make bake` installs."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from support import trees
from support.builds import runtime_environment
from support.builds.tools import ROOT

IMPORT_ALL = """
import importlib, pkgutil, goldenami, goldenami_fleet
names = [
    found.name
    for package in (goldenami, goldenami_fleet)
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
]
for name in names:
    importlib.import_module(name)
print(len(names))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runtime_environment.make(tmp_path_factory.mktemp("runtime") / ".venv")


def ran(python: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "scripts")}
    return subprocess.run(
        [python, "-B", *words], env=env, cwd=ROOT, text=True, capture_output=True, check=False
    )


def test_every_module_can_be_imported(python: Path) -> None:
    done = ran(python, "-c", IMPORT_ALL)
    assert done.returncode == 0, done.stderr
    modules = trees.scanned(330, ROOT, "scripts/goldenami*/**/*.py")
    assert int(done.stdout) >= len(modules) - 2, "the packages themselves are none of them"


def test_every_check_of_an_image_can_be_collected(python: Path) -> None:
    files = trees.scanned(25, ROOT, "tests/image/**/test_*.py")
    words = (
        "-m",
        "pytest",
        "--collect-only",
        "-q",
        "-c",
        "tests/image/pytest.ini",
        "--booted",
        "-p",
        "goldenami.image.verify.pytest_plugin",
        "tests/image",
    )
    done = ran(python, *words)
    assert done.returncode == 0, done.stdout
    assert {line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line} <= {
        str(path.relative_to(ROOT / "tests/image")) for path in files
    }
    found = re.search(r"(\d+)(?:/\d+)? tests collected", done.stdout)
    assert found and int(found[1]) > 250


def test_what_tests_need_is_not_there(python: Path, tmp_path: Path) -> None:
    """So a module and a check that need it are seen."""
    write = tmp_path / "test_needs_more.py"
    write.write_text("import hypothesis\n", encoding="utf-8")
    done = ran(python, "-m", "pytest", "-q", "-c", "tests/image/pytest.ini", write)
    assert done.returncode == 2 and "No module named 'hypothesis'" in done.stdout
