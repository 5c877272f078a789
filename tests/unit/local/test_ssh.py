"""What is said where a command over SSH gives no status. A machine's own end of a session is in
test_vm.py."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from goldenami.core import shell
from goldenami.core.errors import StageFailed
from goldenami.local.machine import ssh


class Machine(socketserver.TCPServer):
    """It says that it is one, and hangs up."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), socketserver.BaseRequestHandler)
        self.port, self.connections = self.socket.getsockname()[1], 0
        self.name = b"SSH-2.0-golden\r\n"

    def finish_request(self, request: Any, client_address: Any) -> None:
        """One connection."""
        self.connections += 1
        request.sendall(self.name)


@pytest.fixture
def machine() -> Iterator[Machine]:
    with Machine() as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.05])
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def config(machine: Machine, tmp_path: Path) -> Path:
    shell.output(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")])
    return ssh.write_config(
        tmp_path, host="127.0.0.1", port=machine.port, user="admin", key=tmp_path / "key"
    )


def test_a_lost_session_is_named_with_what_ssh_did(config: Path, machine: Machine) -> None:
    with pytest.raises(ssh.SessionLost) as caught:
        ssh.run(config, "cloud-id; " * 20)
    assert (
        caught.value.message == f"the SSH session ended before `{('cloud-id; ' * 20)[:60]}...` did"
    )
    assert f"127.0.0.1 port {machine.port}" in caught.value.tail.splitlines()[-1]
    assert len(caught.value.tail.splitlines()) <= shell.TAIL_LINES


def test_a_look_is_asked_once_more_and_the_log_says_why(
    config: Path, machine: Machine, tmp_path: Path
) -> None:
    said = list[str]()
    with pytest.raises(StageFailed, match="the SSH session ended before `cloud-id` did"):
        ssh.run_again_if_lost(config, "cloud-id", say=said.append, log=tmp_path / "verify.log")
    assert machine.connections == 2
    assert said == ["the SSH session ended before `cloud-id` did: asked once more"]
    assert "Connecting to 127.0.0.1" in (tmp_path / "verify.log").read_text(encoding="utf-8")


def test_a_look_waits_until_sshd_has_forgotten_what_failed_before(
    config: Path, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the real one says it; here it never forgets."""
    machine.name = b"Not allowed at this time\r\n"
    monkeypatch.setattr(ssh, "LET_IN_S", 1.5)
    with pytest.raises(StageFailed):
        ssh.run_again_if_lost(config, "cloud-id", say=lambda _: None, log=tmp_path / "verify.log")
    assert machine.connections > 2
