"""The hub's spawner on the emulated account: a real JupyterHub, real calls, machines on the
loopback."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from support.aws import hub as hubs
from support.aws.emulator import Emulator
from support.aws.hub import PORT, REGION, TEMPLATE, TYPES, Hub, machines
from support.aws.seeded_account import SeededAccount
from support.waiting import until


@pytest.fixture
def places(aws: Emulator) -> dict[str, str]:
    account = SeededAccount(aws)
    account.template(TEMPLATE, [account.ami(1)])
    return hubs.network()


@pytest.fixture
def hub(places: dict[str, str], tmp_path: Path) -> Hub:
    return Hub(tmp_path, template=TEMPLATE, types=TYPES, security_groups=[places["group"]],
               subnets=[places["a"], places["b"]], notices="ssm:/golden-idle/team")


@contextmanager
def answering(machine: dict[str, Any]) -> Iterator[None]:
    """The machine's notebook server, as the hub sees it."""
    server = ThreadingHTTPServer((machine["PrivateIpAddress"], 8888), hubs.Notebook)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def test_a_server_has_a_machine_of_its_own_and_the_home_of_its_user(hub: Hub) -> None:
    ec2 = boto3.client("ec2", REGION)
    with hub.running():
        assert hub.start("ann", "g5.xlarge") == 202
        [machine] = until("a machine", machines)
        with answering(machine):
            until("ann's server", lambda: hub.is_ready("ann"))
        assert machine["InstanceType"] == "g5.xlarge"
        data = ec2.describe_instance_attribute(InstanceId=machine["InstanceId"], Attribute="userData")
        told = base64.b64decode(data["UserData"]["Value"]).decode()
        assert told.startswith("#cloud-config\n")
        server, idle = json.loads(told.partition("\n")[2])["write_files"]
        assert {server["permissions"], idle["permissions"]} == {"0600"}
        [home] = ec2.describe_volumes(Filters=[{"Name": "tag:goldenami:user", "Values": ["ann"]}])[
            "Volumes"]
        assert home["Attachments"][0]["InstanceId"] == machine["InstanceId"] and home["Encrypted"]
        content = json.loads(server["content"])
        assert (content["user"], content["home"]) == ("ann", home["VolumeId"])
        assert content["env"]["JUPYTERHUB_API_URL"] == f"http://127.0.0.1:{PORT}/hub/api"
        assert content["env"]["JUPYTERHUB_API_TOKEN"] not in hub.log.read_text(encoding="utf-8")
        assert json.loads(idle["content"]) == {"action": "poweroff",
                                               "target": "ssm:/golden-idle/team"}
