"""The order of the unit that makes SSH host keys, by systemd's own reckoning."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from support.builds.tools import need

UNIT = (
    Path(__file__).resolve().parents[3]
    / "roles/seal/files/etc/systemd/system/golden-ssh-hostkeys.service"
)
SOCKET = (
    "[Unit]\nBefore=sockets.target\n[Socket]\nListenStream=22\n[Install]\nWantedBy=sockets.target\n"
)
SERVICE = "[Service]\nExecStart=/bin/true\n"
FIRST_BOOT = (
    "[Unit]\nDefaultDependencies=no\nBefore=sysinit.target\n"
    "[Service]\nType=oneshot\nExecStart=/bin/true\n"
)


def _cycles(folder: Path, unit: str) -> list[str]:
    """What systemd says of cycles where ssh.socket is enabled, as Ubuntu has it, and cloud-init
    runs."""
    units = {
        "golden-ssh-hostkeys.service": unit,
        "ssh.socket": SOCKET,
        "ssh.service": SERVICE,
        "cloud-init-network.service": FIRST_BOOT,
    }
    folder.mkdir()
    for name, text in units.items():
        (folder / name).write_text(text, encoding="utf-8")
    for target, name in (
        ("multi-user", "golden-ssh-hostkeys.service"),
        ("sockets", "ssh.socket"),
        ("multi-user", "cloud-init-network.service"),
    ):
        wants = folder / f"{target}.target.wants"
        wants.mkdir(exist_ok=True)
        (wants / name).symlink_to(f"../{name}")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "multi-user.target"],
        text=True,
        check=False,
        capture_output=True,
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{folder}:/usr/lib/systemd/system"},
    )
    return [line for line in done.stderr.splitlines() if "ycle" in line]


@pytest.mark.slow
def test_no_cycle_with_a_socket_that_systemd_opens(tmp_path: Path) -> None:
    need("systemd-analyze")
    text = UNIT.read_text(encoding="utf-8")
    assert _cycles(tmp_path / "ours", text) == []
    assert _cycles(tmp_path / "other", text.replace("DefaultDependencies=no\n", "")) != []
