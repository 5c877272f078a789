"""The wheel alone: a repository that `golden init` made of it locks, bakes and verifies, with no
clone of goldenami in sight."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from goldenami.core import records
from goldenami.model.builds.build_records import Outcome, Verdict, VerifyRecord
from support.builds.definitions import edit
from support.builds.tools import BIN, ROOT
from support.files import write
from support.rules import trees

pytestmark = pytest.mark.slow
IMAGE = "debian-13-base"
Golden = Callable[..., str]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the wheel; what the wheel depends on is this one's."""
    if importlib.util.find_spec("hatchling") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("there is no hatchling")
    made = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-index", "--no-deps", "--no-build-isolation",
                    "--wheel-dir", made, ROOT], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", made / "venv"], check=True)
    python = made / "venv/bin/python"
    subprocess.run([*pip, "--python", python, "install", "--no-index", "--no-deps",
                    *made.glob("*.whl")], check=True)
    packages = next((made / "venv/lib").glob("python*/site-packages"))
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    for program in BIN.glob("ansible*"):
        (python.parent / program.name).symlink_to(program)
    return python.parent


@pytest.fixture(scope="module")
def golden(environment: Path) -> Golden:
    """`golden` of that environment, in a folder; what it says on both streams."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(folder: Path, *words: str) -> str:
        done = subprocess.run([environment / "golden", *words], cwd=folder, env=env, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        assert done.returncode == 0, done.stdout
        return done.stdout

    return run


@pytest.fixture(scope="module")
def company(golden: Golden, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A repository with a role and a file of its own."""
    folder = tmp_path_factory.mktemp("company") / "images"
    golden(folder.parent, "init", "images")
    golden(folder, "new-role", "agent")
    write(folder, {"roles/customize/files/company.conf": "colour = blue\n"})
    edit(folder, "  limits:\n", """\
    customize_files: [{source: company.conf, path: /etc/company/company.conf}]
  agent:
    agent_packages: [tree]
    agent_interval_s: 5
  limits:
""", IMAGE)
    yield folder
    shutil.rmtree(folder)


def test_all_that_runs_is_the_wheel_s(environment: Path) -> None:
    said = subprocess.run(
        [environment / "python", "-m", "goldenami.model.program_files"], cwd=environment,
        env={}, check=True, text=True, capture_output=True)
    data = Path(said.stdout.strip())
    assert data.is_relative_to(environment.parent) and data.name == "data"
    assert os.access(data / "scripts/setup", os.X_OK)
    kept = [*trees.scanned(300, ROOT, "roles/**/*.*"), *trees.scanned(4, ROOT, "packer/*.hcl"),
            *trees.scanned(35, ROOT, "tests/image/**/*.py"), *trees.scanned(2, ROOT, "ansible/*.yml"),
            *trees.scanned(3, ROOT, "requirements/*.txt")]
    assert [path for path in kept if not (data / path.relative_to(ROOT)).exists()] == []


def test_it_bakes_and_verifies(company: Path, golden: Golden) -> None:
    assert f"{IMAGE}: no lock" in golden(company, "check")
    golden(company, "lock", IMAGE)
    golden(company, "bake", IMAGE)
    record = records.read(company / "build" / IMAGE / "latest/verify.json", VerifyRecord)
    assert record.verdict is Verdict.VERIFIED
    correct = {check.id for check in record.checks if check.outcome is Outcome.CORRECT}
    assert {"agent/the_interval_is_the_definition_s", "agent/its_packages_are_installed"} <= correct
    assert {check.partition("/")[0] for check in correct} >= {"customize", "limits", "seal"}
    assert f"{IMAGE}: build" in golden(company, "check")
