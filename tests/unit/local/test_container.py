"""Commands over SSH in machines of this host: how long they may take, and whose their status is."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from goldenami.core.errors import StageFailed
from goldenami.local.machine.container import Container
from goldenami.local.programs import open_session


def ssh(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs as `ssh`."""
    (folder / "ssh").write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    (folder / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_the_status_of_a_session_is_not_that_of_its_last_command(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    ssh(tmp_path, 'echo "$@"; exit 1', monkeypatch)
    assert open_session.session(tmp_path / "config") == 0
    assert capfd.readouterr().out == f"-t -F {tmp_path}/config golden\n"


def test_a_session_is_greeted_as_a_login_is(tmp_path: Path) -> None:
    """A machine's own connection is shared, and sshd sends the login's message to the first session
    of one."""
    (tmp_path / "config").write_text(
        "Host golden\nHostName 127.0.0.1\nPort 2222\nControlMaster auto\n"
        f'ControlPath "{tmp_path}/ssh"\n',
        encoding="utf-8",
    )
    asked = [
        subprocess.run(
            ["ssh", "-G", "-F", str(path), "golden"], capture_output=True, text=True, check=True
        ).stdout
        for path in (tmp_path / "config", open_session.of_its_own(tmp_path / "config", tmp_path))
    ]
    assert [f"controlpath {tmp_path}/ssh" in each for each in asked] == [True, False]
    assert ["hostname 127.0.0.1" in each and "port 2222" in each for each in asked] == [True, True]


def test_a_command_that_hangs_in_a_container_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ssh(tmp_path, "exec sleep 20", monkeypatch)
    with subprocess.Popen(["true"]) as process:
        box = Container(
            name="x",
            tree=tmp_path,
            ssh_key=tmp_path / "key",
            process=process,
            console=tmp_path / "log",
        )
        with pytest.raises(StageFailed, match="`apt-get update` took longer than 1 s"):
            box.ssh("apt-get", "update", timeout_s=0.6)
