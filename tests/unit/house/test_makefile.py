"""What Make targets run, by `make -n`."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support.builds.tools import ROOT


def run(*args: str, **env: str) -> str:
    """The last command that Make would run; the environment's own CI does not count."""
    known = {
        name: value
        for name, value in os.environ.items()
        if name not in ("CI", "RELOCK", "IMAGE", "MAKEFLAGS")
    }
    done = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", *args],
        cwd=ROOT,
        env={**known, **env},
        check=True,
        capture_output=True,
        text=True,
    )
    return " ".join(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("env", "relocks"),
    [
        ({}, True),
        ({"CI": "true"}, False),
        ({"CI": "true", "RELOCK": "1"}, True),
        ({"RELOCK": "1"}, True),
    ],
)
def test_a_bake_in_ci_makes_no_new_lock_on_the_side(env: dict[str, str], relocks: bool) -> None:
    """It would be baked and published without that anybody has seen it."""
    assert run("bake", "IMAGE=x", **env) == "scripts/golden bake x" + (
        " --relock" if relocks else ""
    )
    assert run("bake", "IMAGE=x", *(f"{name}={value}" for name, value in env.items())) == run(
        "bake", "IMAGE=x", **env
    )


@pytest.mark.parametrize(
    ("words", "env", "command"),
    [
        ("bake IMAGE=x", {"CI": "true", "CHANGED": "HEAD"}, "golden bake x --changed HEAD"),
        ("bake IMAGE=x", {"CI": "true", "CHANGED": ""}, "golden bake x"),
        ("bake IMAGE=x GOLDEN_CACHE=/a AWS_REGION=us-east-1 CI=1", {}, "golden bake x"),
        ("rollback IMAGE=x", {}, "golden rollback x"),
        ("lock STALE=1", {}, "golden lock --stale"),
        ("lock IMAGE=x STALE=1", {}, "golden lock --stale x"),
        ("check IMAGE=x EXPLAIN=1", {}, "golden check x --explain"),
        (
            "rollback IMAGE=x BUILD=0123456789ab REGION=us-east-1 DRY_RUN=1",
            {},
            "golden rollback x --to 0123456789ab --region us-east-1 --dry-run",
        ),
        ("test", {}, "test all"),
        ("test", {"LONG": "1"}, "test long"),
        ("test LONG=1", {}, "test long"),
        ("test-fast", {}, "test fast"),
        ("test-fast CHANGED=1", {}, "test changed"),
    ],
)
def test_what_a_variable_becomes(words: str, env: dict[str, str], command: str) -> None:
    """As pipelines give it, in the environment, and as a person types it."""
    assert run(*words.split(), **env) == f"scripts/{command}"


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["bake", "image=x"], "there is no variable image; known, in capitals: IMAGE ROLE "),
        (
            ["clean", "ALL=1", "IMGAE=x"],
            "there is no variable IMGAE; known, in capitals: IMAGE ROLE ",
        ),
        (["bake", "IMAGE="], "IMAGE is empty; known: "),
        (["clean", "ALL=0"], "ALL is a switch: give 1, or leave it out"),
    ],
)
def test_a_variable_that_nothing_reads_is_refused(args: list[str], complaint: str) -> None:
    """Make would bake the default image instead."""
    done = subprocess.run(
        ["make", "--dry-run", *args], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert complaint in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("target", ["watch", "publish", "release", "bake"])
def test_what_is_no_failure_is_none_of_make(tmp_path: Path, target: str) -> None:
    """Make itself ends with 2 whatever a command ends with."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name, text in {"setup": "exit 0", "golden": "exit $ENDS"}.items():
        script = tmp_path / "scripts" / name
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        script.chmod(0o755)
    done = [
        code
        for code in (1, 2, 4, 5, 6, 7, 8, 10, 11, 130)
        if subprocess.run(
            ["make", target],
            cwd=tmp_path,
            capture_output=True,
            env={**os.environ, "ENDS": str(code)},
        ).returncode
        == 0
    ]
    assert done == {"watch": [10], "publish": [11], "release": [11], "bake": []}[target]
