"""GOLDEN_BOOT_LIMIT_S: checked where a machine boots, and only there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from goldenami.core.errors import BadInput
from goldenami.image.builders.local import LocalBuilder
from goldenami.image.verify import verify
from goldenami.local import ssh
from goldenami.model.builds.build_folder import BuildFolder
from support.builds import builds
from support.builds.tools import need


@pytest.mark.parametrize("text", ["10m", "0", "-1", "nan", "inf", "600 s"])
def test_what_is_no_number_of_seconds_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(ssh.LIMIT, text)
    with pytest.raises(BadInput, match=f"GOLDEN_BOOT_LIMIT_S is `{text}`"):
        ssh.boot_limit_s()


def test_a_command_that_boots_nothing_does_not_ask() -> None:
    root = Path(__file__).resolve().parents[2]
    env = {**os.environ, "PYTHONPATH": str(root / "scripts"), ssh.LIMIT: "10m"}
    done = subprocess.run([sys.executable, "-m", "goldenami.cli", "images"], check=False, capture_output=True,
                          text=True, env=env, cwd=root)
    assert done.returncode == 0, done.stderr


def test_a_session_in_a_disk_is_given_up_when_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:
    """The disk is noise: no loader, no kernel."""
    need("qemu-system-x86_64", "unshare", "setpriv")
    verify.point_latest(BuildFolder(builds.build(tmp_path, 1)))
    monkeypatch.setenv(ssh.LIMIT, "1")
    assert LocalBuilder(tmp_path).shell(builds.IMAGE) == 5
    assert "SSH did not answer within 1 s" in capfd.readouterr().err
    monkeypatch.setenv(ssh.LIMIT, "1 s")
    with pytest.raises(BadInput):
        LocalBuilder(tmp_path).shell(builds.IMAGE)
