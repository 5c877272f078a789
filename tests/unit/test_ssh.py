"""What is said where a command over SSH gives no status. A machine's own end of a session is in test_vm.py."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from goldenami.core import shell
from goldenami.core.errors import StageFailed
from goldenami.local import ssh


@pytest.fixture
def connections() -> Iterator[list[socket.socket]]:
    """Who connected to a machine that says that it is one and then hangs up."""
    seen = list[socket.socket]()

    def answer() -> None:
        with contextlib.suppress(OSError):
            while True:
                link, _ = server.accept()
                seen.append(link)
                link.sendall(b"SSH-2.0-golden\r\n")
                link.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer)
        thread.start()
        seen.append(server)  # the port, for whoever connects
        yield seen
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.fixture
def config(connections: list[socket.socket], tmp_path: Path) -> Path:
    shell.output(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")])
    return ssh.write_config(tmp_path, host="127.0.0.1", port=connections[0].getsockname()[1], user="admin",
                            key=tmp_path / "key")


def test_a_lost_session_is_named_with_what_ssh_did(config: Path, connections: list[socket.socket]) -> None:
    with pytest.raises(ssh.SessionLost) as caught:
        ssh.run(config, "cloud-id; " * 20)
    assert caught.value.message == f"the SSH session ended before `{('cloud-id; ' * 20)[:60]}...` did"
    assert f"127.0.0.1 port {connections[0].getsockname()[1]}" in caught.value.tail.splitlines()[-1]
    assert len(caught.value.tail.splitlines()) <= shell.TAIL_LINES


def test_a_look_is_asked_once_more_and_the_log_says_why(
    config: Path, connections: list[socket.socket], tmp_path: Path,
) -> None:
    said = list[str]()
    with pytest.raises(StageFailed, match="the SSH session ended before `cloud-id` did"):
        ssh.look(config, "cloud-id", say=said.append, log=tmp_path / "verify.log")
    assert len(connections[1:]) == 2
    assert said == ["the SSH session ended before `cloud-id` did: asked once more"]
    assert "Connecting to 127.0.0.1" in (tmp_path / "verify.log").read_text(encoding="utf-8")
