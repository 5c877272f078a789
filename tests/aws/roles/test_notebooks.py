"""The hub's spawner on the emulated account: a real JupyterHub, real calls, machines on the
loopback."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import boto3
import pytest
from support.aws import hub as hubs
from support.aws.emulator import Emulator, Faults
from support.aws.hub import REGION, Hub, answering, machines
from support.waiting import until

NONE_LEFT = "InsufficientInstanceCapacity"


@pytest.fixture
def settings(aws: Emulator) -> dict[str, Any]:
    return hubs.network(aws)


@pytest.fixture
def hub(settings: dict[str, Any], tmp_path: Path) -> Hub:
    return Hub(tmp_path, **settings)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as entered:
        yield entered


def homes() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = boto3.client("ec2", REGION).describe_volumes(
        Filters=[{"Name": "tag-key", "Values": ["goldenami:user"]}]
    )["Volumes"]
    return found


def started(hub: Hub, stack: ExitStack, user: str = "ann") -> dict[str, Any]:
    before = len(machines())
    assert hub.start(user) == 202, hub.log()
    machine = until("a machine", lambda: machines()[before:])[-1]
    stack.enter_context(answering(machine))
    until(f"the server of {user}", lambda: hub.is_ready(user))
    return machine


def test_a_server_has_a_machine_of_its_own_and_the_home_of_its_user(
    hub: Hub, stack: ExitStack
) -> None:
    with hub.running():
        assert "g5.xlarge: $1.01 an hour" in hub.form("ann")
        machine = started(hub, stack)
        server, idle = hubs.told(machine)
        [home] = homes()
        assert home["Attachments"][0]["InstanceId"] == machine["InstanceId"] and home["Encrypted"]
        content = json.loads(server["content"])
        assert (content["user"], content["home"]) == ("ann", home["VolumeId"])
        assert content["env"]["JUPYTERHUB_API_URL"] == f"http://127.0.0.1:{hub.port}/hub/api"
        assert content["env"]["JUPYTERHUB_API_TOKEN"] not in hub.log()
        assert json.loads(idle["content"]) == {
            "action": "poweroff",
            "target": "ssm:/golden-idle/team",
            "keep": "s3://acme-keep/vision",
        }
        hub.ask("DELETE", "/users/ann/server")
        until("its end", lambda: machines()[0]["State"]["Name"] == "terminated")
        again = started(hub, stack)
    assert again["InstanceId"] != machine["InstanceId"]
    [home] = homes()
    assert home["Attachments"][0]["InstanceId"] == again["InstanceId"]


def test_a_user_s_name_is_no_pattern(hub: Hub, stack: ExitStack) -> None:
    """EC2's filters know wildcards, and the emulator's a shell's brackets, too."""
    with hub.running():
        ann = started(hub, stack)
        [home] = homes()
        for name in ("an?", "a*", "[a]nn"):
            user = quote(name, safe="")
            other = started(hub, stack, user)
            assert other["InstanceId"] != ann["InstanceId"]
            hub.ask("DELETE", f"/users/{user}/server")
            until(f"the end of {name}'s", lambda: machines()[-1]["State"]["Name"] == "terminated")
            assert machines()[0]["State"]["Name"] == "running" and hub.is_ready("ann")
        attached = [
            each["Attachments"][0]["InstanceId"]
            for each in homes()
            if each["VolumeId"] == home["VolumeId"]
        ]
    assert attached == [ann["InstanceId"]] and len(homes()) == 4


def test_a_zone_without_machines_is_left_for_the_next_until_there_is_a_home(
    hub: Hub, faults: Faults, stack: ExitStack
) -> None:
    with hub.running():
        faults.add("ec2:RunInstances", times=1, code=NONE_LEFT)
        machine = started(hub, stack)
        assert machine["Placement"]["AvailabilityZone"] == "us-east-1b"
        assert [home["AvailabilityZone"] for home in homes()] == ["us-east-1b"]
        hub.ask("DELETE", "/users/ann/server")
        until("its end", lambda: machines()[0]["State"]["Name"] == "terminated")
        faults.add("ec2:RunInstances", code=NONE_LEFT)
        hub.start("ann")
        assert hub.progress("ann")[-1:] == [
            "Spawn failed: No g6.xlarge now in us-east-1b; your home is in us-east-1b. Choose "
            "another type, or try again later."
        ]


def test_a_machine_that_never_answers_is_ended_and_the_next_form_says_so(hub: Hub) -> None:
    with hub.running(limit_s=3):
        hub.start("ann")
        [machine] = until("a machine", machines)
        assert hub.ended("ann") == (
            f"Your last machine, {machine['InstanceId']}, gave no server, and was ended."
        )
    assert machines()[0]["State"]["Name"] == "terminated"


@pytest.mark.parametrize("when", ["runs", "boots", "unknown"])
def test_a_hub_that_starts_again_finds_its_machines(
    hub: Hub, aws: Emulator, stack: ExitStack, when: str
) -> None:
    """It is killed while a server runs, or while its machine boots; AWS may not answer then."""
    with hub.running():
        if when == "boots":
            hub.start("ann")
            until("a machine", machines)
        else:
            started(hub, stack)
    if when == "boots":
        stack.enter_context(answering(machines()[0]))
    aws.set(denied={"*": ["ec2:DescribeInstances"]} if when == "unknown" else {})
    with hub.running():
        until("ann's server", lambda: hub.is_ready("ann"))
    aws.set(denied={})
    assert [each["State"]["Name"] for each in machines()] == ["running"]


def test_the_next_form_says_how_a_machine_ended(hub: Hub, aws: Emulator, stack: ExitStack) -> None:
    ec2 = boto3.client("ec2", REGION)
    with hub.running():
        first = started(hub, stack)["InstanceId"]
        aws.set(denied={"*": ["ec2:DescribeInstances"]})
        until("a warning", lambda: "is the machine there?" in hub.log())
        assert hub.is_ready("ann"), "nobody loses a server while AWS does not answer"
        aws.set(denied={})
        ec2.create_tags(
            Resources=[first], Tags=[{"Key": "goldenami:ended", "Value": "idle for 60 minutes"}]
        )
        ec2.terminate_instances(InstanceIds=[first])
        assert hub.ended("ann") == f"Your last machine, {first}, ended: idle for 60 minutes."
        second = started(hub, stack)["InstanceId"]
        ec2.terminate_instances(InstanceIds=[second])
        assert hub.ended("ann") == (
            f"Your last machine, {second}, ended: somebody ended it, you or an administrator."
        )


def test_a_look_that_began_before_a_stop_does_not_stop_the_next_server(
    hub: Hub, faults: Faults, stack: ExitStack
) -> None:
    with hub.running():
        started(hub, stack)
        faults.add("ec2:DescribeInstances", "slow", times=1, seconds=2)
        until("a look that takes long", faults.met)
        hub.ask("DELETE", "/users/ann/server")
        # What the hub asks because of that look takes long, too.
        faults.add("ec2:DescribeInstances", "slow", times=1, seconds=1.9)
        time.sleep(2.1)
        again = started(hub, stack)
        time.sleep(3)  # all that the look could do is done by now
        assert hub.is_ready("ann"), hub.log()
    assert [each["State"]["Name"] for each in machines()] == ["terminated", "running"]
    assert machines()[-1]["InstanceId"] == again["InstanceId"]


def test_a_machine_that_ended_in_the_second_of_another_s_launch_is_not_taken_for_it(
    hub: Hub, stack: ExitStack
) -> None:
    ec2 = boto3.client("ec2", REGION)
    with hub.running():
        own = started(hub, stack)
    its = [each for each in own["Tags"] if not each["Key"].startswith("aws:")]
    tagged = [{"ResourceType": "instance", "Tags": its}]
    pair = ec2.run_instances(
        ImageId=own["ImageId"], MinCount=2, MaxCount=2, TagSpecifications=tagged
    )["Instances"]
    ec2.terminate_instances(InstanceIds=[pair[0]["InstanceId"]])
    with hub.running():
        until("ann's server", lambda: hub.is_ready("ann"))


def test_two_clicks_at_once_are_one_machine(hub: Hub) -> None:
    with hub.running():
        hub.ask("POST", "/users/ann")
        with ThreadPoolExecutor() as pool:
            assert list(pool.map(hub.start, ["ann", "ann"])) == [202, 202]
        until("a home", lambda: any(home["Attachments"] for home in homes()))
    assert (len(machines()), len(homes())) == (1, 1)


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        (
            {"security_groups": []},
            "The hub has no security group for machines: an administrator names "
            "one in /etc/jupyterhub/cluster.py.",
        ),
        (
            {"subnets": ["subnet-0123456789abcdef0"]},
            "AWS refuses describe_subnets: InvalidSubnetID.NotFound: ",
        ),
        ({"template": "golden-other"}, "AWS refuses run_instances: InvalidLaunchTemplate"),
        ({"types": ["g5.xlarge"]}, "`g6.xlarge` is not offered: choose one of g5.xlarge."),
    ],
)
def test_what_is_wrong_is_one_line_of_the_user_s_page(
    settings: dict[str, Any], tmp_path: Path, changed: dict[str, object], complaint: str
) -> None:
    with Hub(tmp_path, **{**settings, **changed}).running() as hub:
        hub.start("ann")
        # What fails at once is no longer on its way.
        assert complaint in (hub.progress("ann") or [hub.log()])[-1]
    assert not machines()
