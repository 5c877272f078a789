"""The metadata service, over real HTTP on loopback."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from goldenami.local.vm import imds

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFAKE golden-test"
TTL = {imds.TTL_HEADER: "60"}


class Client:
    """Requests to one service, and what its log says of them."""

    def __init__(self, port: int, log: Path) -> None:
        self.port, self.log = port, log

    def ask(self, method: str, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        link.request(method, path, headers=headers or {})
        answer = link.getresponse()
        text = answer.read().decode()
        link.close()
        return answer.status, text

    def token(self) -> dict[str, str]:
        status, token = self.ask("PUT", "/latest/api/token", TTL)
        assert status == 200
        return {imds.TOKEN_HEADER: token}

    def get(self, path: str) -> str:
        status, text = self.ask("GET", path, self.token())
        assert status == 200, (path, status)
        return text

    def rows(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines()]


def serve(instance: imds.Instance) -> Iterator[Client]:
    service = imds.Service(("127.0.0.1", 0), instance)
    thread = threading.Thread(target=service.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield Client(service.server_address[1], Path(instance.log))
    service.shutdown()
    thread.join()
    service.server_close()


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    yield from serve(imds.Instance(log=str(tmp_path / "imds.log"), public_key=KEY + "\n"))


def test_version_1_gets_nothing(client: Client) -> None:
    for path in ("/", "/latest/meta-data/instance-id", "/latest/user-data", "/nonsense"):
        assert client.ask("GET", path)[0] == 401
    assert {(row["status"], row["token"]) for row in client.rows()} == {(401, "none")}


def test_invented_token_gets_nothing(client: Client) -> None:
    client.token()
    invented = {imds.TOKEN_HEADER: "AQAEinvented"}
    assert client.ask("GET", "/latest/meta-data/instance-id", invented)[0] == 401
    assert client.rows()[-1]["token"] == "invalid"


def test_what_is_not_there(client: Client) -> None:
    for path in (
        "latest/meta-data/iam/info",
        "latest/meta-data/instance-i",
        "latest/meta-data/mac/x",
        "2030-01-01/meta-data/instance-id",
        "latest/user-data",
    ):
        assert client.ask("GET", f"/{path}", client.token())[0] == 404, path


def test_what_cloud_init_reads(client: Client) -> None:
    root = "/2021-03-23/meta-data"
    assert client.get(f"{root}/instance-id").startswith("i-")
    assert client.get(f"{root}/public-keys/") == "0=golden"
    assert client.get(f"{root}/public-keys/0/") == "openssh-key"
    assert client.get(f"{root}/public-keys/0/openssh-key") == KEY
    (mac,) = client.get(f"{root}/network/interfaces/macs/").split()
    assert mac == client.get(f"{root}/mac") + "/"
    assert client.get(f"{root}/network/interfaces/macs/{mac}local-ipv4s") == client.get(
        f"{root}/local-ipv4"
    )
    assert client.get(f"{root}/placement/availability-zone") == "us-east-1a"
    assert client.get(f"{root}/local-hostname") == "ip-10-0-2-15.ec2.internal"
    assert "services/" in client.get(f"{root}/").split()
    assert "ami-id" in client.get(root).split()
    assert client.get("/").split() == list(imds.VERSIONS)
    document = json.loads(client.get("/latest/dynamic/instance-identity/document"))
    assert document["region"] == "us-east-1"
    assert document["instanceId"] == client.get("/latest/meta-data/instance-id")
