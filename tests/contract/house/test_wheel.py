"""The wheel alone: a repository that `golden init` made of it locks, bakes and verifies an
immutable image, with no clone of goldenami in sight."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from goldenami.core import records
from goldenami.model.builds.build_records import Outcome, Verdict, VerifyRecord
from support import trees
from support.builds import runtime_environment
from support.builds.definitions import edit
from support.builds.tools import ROOT
from support.files import write

pytestmark = pytest.mark.slow
IMAGE = "debian-13-base"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the wheel and the runtime requirements alone."""
    if importlib.util.find_spec("hatchling") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("there is no hatchling")
    made = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet"]
    subprocess.run(
        [
            *pip,
            "wheel",
            "--no-index",
            "--no-deps",
            "--no-build-isolation",
            "--wheel-dir",
            made,
            ROOT,
        ],
        check=True,
    )
    python = runtime_environment.make(made / "venv")
    subprocess.run(
        [*pip, "--python", python, "install", "--no-index", "--no-deps", *made.glob("*.whl")],
        check=True,
    )
    return python.parent


@pytest.fixture(scope="module")
def company(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A repository with a role and a file of its own in an immutable image; `make` makes an
    environment there."""
    folder = tmp_path_factory.mktemp("company") / "images"
    _said(folder.parent, environment / "golden", "init", folder.name)
    assert f"{IMAGE}: no lock" in _said(folder, "make", "check")
    _said(folder, "make", "role", "ROLE=agent")
    write(folder, {"roles/customize/files/company.conf": "colour = blue\n"})
    edit(
        folder,
        "  limits:\n",
        """\
    customize_files: [{source: company.conf, path: /etc/company/company.conf}]
  agent:
    agent_packages: [tree]
    agent_interval_s: 5
  limits:
""",
        IMAGE,
    )
    edit(folder, "roles:\n", "immutable: true\nroles:\n", IMAGE)
    yield folder
    shutil.rmtree(folder)


def _said(folder: Path, *words: str | Path) -> str:
    """What a command says on both streams."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        words,
        cwd=folder,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_all_that_runs_is_the_wheel_s(environment: Path) -> None:
    said = subprocess.run(
        [
            environment / "python",
            "-c",
            "from goldenami.model import program_files as files\nprint(files.INSTALLED)",
        ],
        cwd=environment,
        env={},
        check=True,
        text=True,
        capture_output=True,
    )
    data = Path(said.stdout.strip())
    assert data.is_relative_to(environment.parent) and data.name == "data"
    assert os.access(data / "scripts/setup", os.X_OK)
    kept = [
        *trees.scanned(300, ROOT, "roles/**/*.*"),
        *trees.scanned(4, ROOT, "packer/*.hcl"),
        *trees.scanned(35, ROOT, "tests/image/**/*.py"),
        *trees.scanned(2, ROOT, "ansible/*.yml"),
        *trees.scanned(3, ROOT, "requirements/*.txt"),
    ]
    assert [path for path in kept if not (data / path.relative_to(ROOT)).exists()] == []


def test_it_bakes_and_verifies(company: Path) -> None:
    _said(company, "make", "lock")
    _said(company, "make", "bake")
    record = records.read(company / "build" / IMAGE / "latest/verify.json", VerifyRecord)
    assert record.verdict is Verdict.VERIFIED
    correct = {check.id for check in record.checks if check.outcome is Outcome.CORRECT}
    assert {"agent/the_interval_is_the_definition_s", "agent/its_packages_are_installed"} <= correct
    assert {check.partition("/")[0] for check in correct} >= {
        "customize",
        "immutable",
        "limits",
        "seal",
    }
    assert f"{IMAGE}: build" in _said(company, "make", "check")


def test_packer_runs_by_itself(company: Path) -> None:
    """After the bake: it has compiled nothing, so all files are in the store."""
    _said(company, company / ".venv/bin/golden", "bake", IMAGE, "--fetch-only")
    programs = f"PATH={company}/.venv/bin:{os.environ['PATH']}"
    argv = ["packer", "validate", "-var-file=../packer.pkrvars.json", "packer"]
    _said(company / f"build/{IMAGE}/packer", "env", programs, "CHECKPOINT_DISABLE=1", *argv)
    settings = (company / f"build/{IMAGE}/packer/ansible.cfg").read_text(encoding="utf-8")
    paths = re.search("^roles_path = (.*)$", settings, re.MULTILINE)
    assert paths is not None
    roles = [path for path in paths[1].split(":") if (Path(path) / "agent/tasks/main.yml").exists()]
    assert roles == [str(company / "roles")]
