"""Commands over SSH in machines of this host: how long they may take, and whose their status is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from goldenami.local import shell_inside


def ssh(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs as `ssh`."""
    (folder / "ssh").write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    (folder / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_the_status_of_a_session_is_not_that_of_its_last_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:
    ssh(tmp_path, 'echo "$@"; exit 1', monkeypatch)
    assert shell_inside.session(tmp_path / "config") == 0
    assert capfd.readouterr().out == f"-t -F {tmp_path}/config golden\n"
