"""What the shell scripts and the Makefile do when something is not as usual."""

from __future__ import annotations

import argparse
import shutil
import subprocess
from pathlib import Path

import pytest
import tools
from goldenami import cli
from tools import ROOT

MOLECULE = """#!/bin/sh
# Ctrl-C reaches the whole group; molecule cleans up and exits with 1.
echo "$3" >>runs
trap 'exit 1' INT
kill -INT 0
sleep 5
"""


def test_a_tier_that_does_not_exist_is_refused() -> None:
    ran = subprocess.run([ROOT / "scripts/test", "al"], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "there is no tier `al`" in ran.stderr


def test_an_interrupt_ends_all_scenarios(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / ".venv/bin").mkdir(parents=True)
    shutil.copy(ROOT / "scripts/molecule", tmp_path / "scripts/molecule")
    (tmp_path / ".venv/bin/molecule").write_text(MOLECULE, encoding="utf-8")
    (tmp_path / ".venv/bin/molecule").chmod(0o755)
    argv = [tmp_path / "scripts/molecule", "first", "second"]
    ran = subprocess.run(argv, capture_output=True, start_new_session=True)
    assert ran.returncode == 130
    assert (tmp_path / "runs").read_text(encoding="utf-8") == "first\n"


def test_every_installation_waits_for_dpkgs_lock_and_asks_nothing() -> None:
    lines = [line for line in (ROOT / "scripts/setup").read_text(encoding="utf-8").splitlines()
             if "quietly apt-get install" in line]
    assert lines
    assert all("DPkg::Lock::Timeout" in line and "DEBIAN_FRONTEND=noninteractive" in line for line in lines)


def waiting() -> list[str]:
    """Subcommands with --wait."""
    action = next(found for found in cli.parser()._actions if isinstance(found, argparse._SubParsersAction))
    return [name for name, command in action.choices.items() if "--wait" in command.format_help()]


@pytest.mark.parametrize("target", waiting())
def test_a_target_hands_wait_on(target: str) -> None:
    ran = subprocess.run([tools.find("make"), "--dry-run", target, "WAIT=1"], cwd=ROOT, capture_output=True, text=True,
                         check=True)
    assert f"scripts/golden {target} " in ran.stdout and " --wait" in ran.stdout
