"""Each command of the published pipelines, typed in the environment that its job sets up: the
runtime requirements alone, no terminal. What leads to AWS or to a mirror finds nobody there, and
says so."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from goldenami import cli
from goldenami.image.verify import verify
from goldenami.model.builds.build_folder import BuildFolder
from support import trees
from support.builds import builds, runtime_environment
from support.builds.tools import ROOT, need

pytestmark = pytest.mark.slow
NOBODY = "http://127.0.0.1:9"
"""The port `discard` (RFC 863), on which nothing listens."""
_TYPED = re.compile(r"^\s*(?:sudo -E )?((?:make|scripts/golden) .*)$", re.MULTILINE)
OF_TESTS = {"make bake", "make test", "make test-fast", "make test LONG=1"}
"""They are the tests; and `make test` types `make bake` in a clone of its own."""
WORKS_HERE = {
    "make setup",
    "make check",
    "make site",
    'scripts/golden images --changed "$CHANGED"',
    "scripts/golden images --changed HEAD",
    "scripts/golden images --published",
    "scripts/golden watch --propose",
    'scripts/golden images --published --changed "$CHANGED"',
}


def _loaded(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded


def scripts() -> list[str]:
    """The shell texts of all jobs of both servers."""
    found = list[str]()
    for path in trees.scanned(6, ROOT, ".github/workflows/*.yml"):
        jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
        found += [step.get("run", "") for job in jobs.values() for step in job.get("steps", [])]
    gitlab: dict[str, Any] = yaml.safe_load((ROOT / ".gitlab-ci.yml").read_text(encoding="utf-8"))
    for job in gitlab.values():
        if isinstance(job, dict):
            found += job.get("script", [])
    return found


GPU_IMAGE = "debian-13-ml"
_NEEDS_A_STORE = "scripts/golden cve"
"""A job restores one; here it is empty, and the command says that it cannot look."""
_AFTER = {"scripts/golden watch --propose": "make watch UPDATE=1 || true; "}
"""What the job before it typed."""
COMMANDS = sorted({match[1] for text in scripts() for match in _TYPED.finditer(text)} - OF_TESTS)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone whose environment has no requirement of a test, with a verified build."""
    need("make", "git")
    folder = tmp_path_factory.mktemp("pipelines") / "clone"
    subprocess.run(["git", "clone", "--quiet", "--shared", ROOT, folder], check=True)
    runtime_environment.make(folder / ".venv")
    shutil.copy(ROOT / "requirements/run.txt", folder / ".venv/.requirements")
    for image in (builds.IMAGE, GPU_IMAGE):
        verify.point_latest(BuildFolder(builds.build(folder, 1, image=image)))
    return folder


def test_jobs_type_what_is_tried_here() -> None:
    assert len(COMMANDS) > 12
    assert set(COMMANDS) > WORKS_HERE


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_a_job_goes_as_far_as_somebody_else_s_machine(
    clone: Path, tmp_path: Path, command: str
) -> None:
    text = _AFTER.get(command, "") + command
    image = GPU_IMAGE if "gpu" in command else builds.IMAGE
    done = typed(clone, text, tmp_path, IMAGE=image, CHANGED="HEAD")
    if command in WORKS_HERE:
        assert done.returncode == 0, done.stdout
        return
    assert done.returncode in (2, 4)
    wanted = "the store has no " if command == _NEEDS_A_STORE else NOBODY.removeprefix("http://")
    assert wanted in done.stdout


def typed(folder: Path, text: str, home: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """What a shell says of `text` in a job's environment, on both streams."""
    mirrors = {
        f"GOLDEN_MIRROR_{name}": f"{NOBODY}/"
        for name in ("DEBIAN", "DEBIAN_SECURITY", "UBUNTU", "NVIDIA", "NVIDIA_CONTAINER", "PYPI")
    }
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "CI": "true",
        "GOLDEN_CACHE": str(home / "cache"),
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": NOBODY,
        "HTTPS_PROXY": NOBODY,
        "HTTP_PROXY": NOBODY,
        **mirrors,
        **settings,
    }
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", text],
        cwd=folder,
        env=env,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert "Traceback" not in done.stdout and "No module named" not in done.stdout, done.stdout
    return done


FOLDER = "infra/images"
STOPS_AT = {"bake": "bake", "publish": "bake", "watch": "watch"}
"""The target of each job that asks a mirror first."""


@pytest.fixture(scope="module")
def monorepo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A company's git repository with a subfolder of images, whose last commit has a lock, and what
    `make setup` installs of Python."""
    top = tmp_path_factory.mktemp("company")
    folder = top / FOLDER
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost"]
    subprocess.run([*git, "init", "--quiet", "--initial-branch=main"], cwd=top, check=True)
    assert cli.main(["init", str(folder)]) == 0
    names = [f"images/{builds.IMAGE}.yml", f"locks/{builds.IMAGE}.lock.json.sha256"]
    for name in (*names, f"locks/{builds.IMAGE}.lock.json"):
        shutil.copy(ROOT / "packer" / name, folder / "packer" / name)
        subprocess.run([*git, "add", "."], cwd=top, check=True)
        subprocess.run([*git, "commit", "--quiet", "--message", name], cwd=top, check=True)
    runtime_environment.make(folder / ".venv")
    return top


@pytest.mark.parametrize("server", ["github", "gitlab"])
@pytest.mark.parametrize("job", ["check", "bake", "publish", "watch"])
def test_a_job_of_a_company_s_pipeline_works_in_a_subfolder(
    monorepo: Path, tmp_path: Path, server: str, job: str
) -> None:
    """From the top, as the server starts it; what needs the machine's own packages is left out."""
    if server == "github":
        pipeline = _loaded(monorepo / ".github/workflows/infra-images.yml")
        lines = [f"cd {pipeline['defaults']['run']['working-directory']}"]
        lines += [step.get("run", "") for step in pipeline["jobs"][job]["steps"]]
    else:
        pipeline = _loaded(monorepo / ".gitlab/infra-images.yml")
        lines = [*pipeline[".infra-images"]["before_script"]]
        lines += pipeline[f"infra-images-{job}"]["script"]
        lines = [line for line in lines if not line.startswith("apt-get ")]
    settings = {
        "MAKEFLAGS": " -- SETUP=true",
        "IMAGE": builds.IMAGE,
        "CHANGED": "HEAD^1",
        "ONLY": "--published",
        "CI_MERGE_REQUEST_DIFF_BASE_SHA": "HEAD^1",
        "CI_COMMIT_BEFORE_SHA": "HEAD^1",
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"),
        "AWS_ID_TOKEN": "x",
    }
    done = typed(monorepo, "\n".join(lines).replace("sudo -E ", ""), tmp_path, **settings)
    if job == "check":
        assert done.returncode == 0, done.stdout
        assert f"{builds.IMAGE}: build " in done.stdout
        assert server == "gitlab" or f'["{builds.IMAGE}"]' in done.stdout
        return
    assert done.returncode == 2
    assert NOBODY.removeprefix("http://") in done.stdout
    assert "make: *** [Makefile:" in done.stdout and f"{STOPS_AT[job]}] Error 4" in done.stdout
