"""GOLDEN_BOOT_LIMIT_S: checked where a machine boots, and only there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from goldenami.core.errors import BadInput
from goldenami.local import ssh


@pytest.mark.parametrize("text", ["10m", "0", "-1", "nan", "inf", "600 s"])
def test_what_is_no_number_of_seconds_is_refused(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv(ssh.LIMIT, text)
    with pytest.raises(BadInput, match=f"GOLDEN_BOOT_LIMIT_S is `{text}`"):
        ssh.boot_limit_s()


def test_a_command_that_boots_nothing_does_not_ask() -> None:
    root = Path(__file__).resolve().parents[2]
    env = {**os.environ, "PYTHONPATH": str(root / "scripts"), ssh.LIMIT: "10m"}
    done = subprocess.run([sys.executable, "-m", "goldenami.cli", "images"], check=False,
                          capture_output=True,
                          text=True, env=env, cwd=root)
    assert done.returncode == 0, done.stderr
