"""What the check of ports says: nothing of what is declared, and of all else who it is and what to
write."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from goldenami.model.roles import listening
from goldenami.model.roles.listening import Listen
from goldenami.model.supported.platforms import PLATFORMS
from support.gpu import gpu_checks

ROOT = Path(__file__).resolve().parents[3]
CHECKS = gpu_checks.module(ROOT / "tests/image/seal/test_listening.py")
AGENT = Listen(port=9100, unit="agent.service")
ANYWHERE = Listen(port=9100, unit="agent.service", addresses=["::"])
STATSD = Listen(port=8125, unit="agent.service", protocol=listening.Protocol.UDP)
ROLES = {"container_runtime_engine": "docker", "jupyterhub_port": 8000}


def declared(*rows: Listen, roles: tuple[str, ...] = ("os_updates",)) -> list[dict[str, Any]]:
    return listening.of_image(ROOT, PLATFORMS["trixie"], roles, ROLES, list(rows))


def heard(words: str) -> dict[str, Any]:
    protocol, address, port, unit = words.split()
    return {"protocol": protocol, "address": address, "port": int(port), "unit": unit}


@pytest.mark.parametrize(
    ("row", "roles"),
    [
        ("tcp 0.0.0.0 22 ssh.service", ("os_updates",)),
        ("tcp :: 22 ssh.socket", ("os_updates",)),
        ("udp 10.0.2.15 68 systemd-networkd.service", ("os_updates",)),
        ("udp fe80::1 546 systemd-networkd.service", ("os_updates",)),
        ("tcp 127.0.0.1 41233 containerd.service", ("container_runtime",)),
        ("tcp 127.0.0.1 8000 jupyterhub.service", ("jupyterhub",)),
        ("tcp 127.0.0.1 8081 jupyterhub.service", ("jupyterhub",)),
    ],
)
def test_what_roles_declare_is_believed(row: str, roles: tuple[str, ...]) -> None:
    assert list(CHECKS.undeclared([heard(row)], declared(roles=roles))) == []
    assert len(list(CHECKS.undeclared([heard(row)], []))) == 1


@pytest.mark.parametrize(
    ("row", "rows", "says"),
    [
        ("tcp 127.0.0.1 9100 agent.service", [AGENT], ""),
        ("tcp ::1 9100 agent.socket", [AGENT], ""),
        ("tcp ::ffff:127.0.0.1 9100 agent.service", [AGENT], ""),
        ("tcp * 9100 agent.service", [ANYWHERE], ""),
        ("udp 127.0.0.1 8125 agent.service", [STATSD], ""),
        ("tcp 127.0.0.1 8125 agent.service", [STATSD], "declared is nobody"),
        ("tcp 127.0.0.1 9100 agent.service", [], "declared is nobody"),
        ("tcp * 9100 agent.service", [AGENT], "declared is agent.service at 127.0.0.1, ::1"),
        ("tcp 0.0.0.0 9100 agent.service", [AGENT], "declared is agent.service at 127.0.0.1, ::1"),
        ("tcp 127.0.0.1 9100 other.service", [AGENT], "declared is agent.service at"),
        ("udp 127.0.0.1 9100 agent.service", [AGENT], "declared is nobody"),
        ("tcp 0.0.0.0 22 dropbear.service", [], "declared is ssh.service at 0.0.0.0, ::"),
        ("udp 0.0.0.0 51820 kernel", [], "declared is nobody"),
    ],
)
def test_what_listens_is_declared_or_named(row: str, rows: list[Listen], says: str) -> None:
    found = list(CHECKS.undeclared([heard(row)], declared(*rows)))
    assert len(found) == bool(says)
    for text in found:
        assert says in text, text
        line = re.search(r"write `listen: (.*)` into", text)
        assert line, text
        # What it says to write is what it then believes.
        (written,) = [Listen.model_validate(one) for one in yaml.safe_load(line[1])]
        assert list(CHECKS.undeclared([heard(row)], declared(written))) == []


def test_definition_s_rows_have_to_listen_and_roles_rows_may() -> None:
    assert [row["role"] for row in declared(AGENT)] == ["", *["os_updates"] * 3]


def test_program_names_the_unit_of_a_socket(tmp_path: Path) -> None:
    """On this machine, with a `systemctl` that knows two sockets of units."""
    (tmp_path / "systemctl").write_text(
        "#!/bin/sh\nprintf 'Listen=/run/a.sock (Stream)\\nListen=[::]:22 (Stream)\\n"
        "Id=ssh.socket\\n\\nListen=0.0.0.0:69 (Datagram)\\nId=tftp.socket\\n'\n",
        encoding="utf-8",
    )
    (tmp_path / "systemctl").chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (tmp_path / "ss").write_text(
            "#!/bin/sh\ncat <<END\n"
            f'tcp LISTEN 0 9 127.0.0.1:{port} 0.0.0.0:* users:(("a",pid={os.getpid()},fd=3))\n'
            'tcp LISTEN 0 9 *:22 *:* users:(("sshd",pid=0,fd=3),("systemd",pid=1,fd=80))\n'
            'udp UNCONN 0 0 [::1]%lo:69 [::]:* users:(("systemd",pid=1,fd=81))\n'
            "udp UNCONN 0 0 0.0.0.0:51820 0.0.0.0:*\nEND\n",
            encoding="utf-8",
        )
        (tmp_path / "ss").chmod(0o755)
        said = subprocess.run(
            [sys.executable, "-c", CHECKS.HEARD],
            check=True,
            capture_output=True,
            text=True,
            env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        )
    rows = [(row["port"], row["address"], row["unit"]) for row in json.loads(said.stdout)["rows"]]
    assert rows[0][:2] == (port, "127.0.0.1") and rows[0][2]
    assert rows[1:] == [
        (22, "*", "a process that has ended"),
        (22, "*", "ssh.socket"),
        (69, "::1", "tftp.socket"),
        (51820, "0.0.0.0", "kernel"),
    ]
