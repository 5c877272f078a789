"""A machine on which golden-idle runs as a process: its counters, its metadata service, its
settings.

The counters are files that a test writes; time runs SPEED times as fast, so that a window of 15
minutes is 7.5 seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from golden_idle.account import Account, AccountError, Instance

from support.aws.emulator import Emulator
from support.loopback import Loopback, QuietHandler
from support.waiting import LIMIT_S, until

ROLE = Path(__file__).resolve().parents[3] / "roles/golden_idle"
PROGRAM = ROLE / "files/golden-idle"
SPEED = 120
REGION = "us-east-1"
TOKEN = "golden-token"
_CPU_STEP = 10_000
"""Ticks of CPU that are many cores at any speed."""


class _Imds(QuietHandler):
    """IMDSv2 as far as the agent asks: a token, and the instance's identity and tags to whoever
    has it."""

    paths: dict[str, str]

    def do_PUT(self) -> None:
        self.answer(200 if self.path == "/latest/api/token" else 404, TOKEN.encode())

    def do_GET(self) -> None:
        known = self.headers.get("X-aws-ec2-metadata-token") == TOKEN
        text = self.paths.get(self.path.removeprefix("/latest/"))
        status = 404 if text is None else 200
        self.answer(status if known else 401, (text or "").encode())


@contextmanager
def metadata_service(instance: str, tags: Mapping[str, str] | None = None) -> Iterator[str]:
    """The address of a metadata service of that instance. It tells `tags`, if it tells any."""
    document = {
        "instanceId": instance,
        "instanceType": "g6.xlarge",
        "imageId": "ami-0",
        "region": REGION,
    }
    paths = {f"meta-data/tags/instance/{key}": value for key, value in (tags or {}).items()}
    paths["dynamic/instance-identity/document"] = json.dumps(document)
    with Loopback(type("Imds", (_Imds,), {"paths": paths})) as server:
        yield server.url


def join(instance: str, group: str) -> None:
    """Put an instance into a new group, unprotected."""
    groups = boto3.client("autoscaling", REGION)
    groups.create_auto_scaling_group(
        AutoScalingGroupName=group,
        MinSize=0,
        MaxSize=2,
        DesiredCapacity=0,
        InstanceId=instance,
        AvailabilityZones=[f"{REGION}a"],
    )
    groups.attach_instances(AutoScalingGroupName=group, InstanceIds=[instance])


def member(instance: str, group: str) -> tuple[Account, str]:
    """The agent's side of an instance in a new group, and a topic; an SSM parameter holds a webhook
    of nobody."""
    join(instance, group)
    boto3.client("ssm", REGION).put_parameter(
        Name="/golden-idle/webhook", Type="SecureString", Value="https://127.0.0.1:9/nobody"
    )
    topic = boto3.client("sns", REGION).create_topic(Name="golden-idle")["TopicArn"]
    return Account(Instance(instance, "g6.xlarge", "ami-0", REGION)), topic


def ask_all(agent: Account, group: str, topic: str) -> None:
    """Metrics, protection, both kinds of notice, and the end: all that the agent ever asks of an
    account, to which `state_ends` has answers."""
    assert agent.group() == group
    assert agent.kept(group) == 0
    agent.put([{"MetricName": "golden_idle", "Value": 0.0}])
    agent.protect(group, True)
    agent.notify(topic, "subject", "text", ["ann"])
    with pytest.raises(AccountError, match="the webhook cannot be reached"):
        agent.notify("ssm:/golden-idle/webhook", "subject", "text", [])
    agent.tag("goldenami:health", "healthy")
    assert agent.hooks(group) == {}
    agent.answer_hook(group, "keep", done=False)
    agent.answer_hook(group, "keep", done=True)
    assert agent.block_end() == "2026-12-24T11:30:00+00:00"
    agent.leave_group()
    with pytest.raises(AccountError, match="No managed instance found"):
        agent.fail()


def state_ends(aws: Emulator) -> None:
    """Answer what an account says of hooks and of capacity blocks."""
    aws.answer("autoscaling:CompleteLifecycleAction")
    aws.answer("autoscaling:RecordLifecycleActionHeartbeat")
    block = {"CapacityReservationId": "cr-1", "EndDate": "2026-12-24T12:00:00Z"}
    aws.answer("ec2:DescribeInstances", Reservations=[{"Instances": [block]}])
    aws.answer("ec2:DescribeCapacityReservations", CapacityReservations=[block])


class IdleMachine:
    """The files below `root`, and the agent that looks at them."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.root, self.stopped = root, root / "stopped"
        self._ticks = 1000
        self.ends_with = 0
        self._write("sys/block/nvme0n1/device/model")
        self._write("dev/pts/0")
        self._write("proc/meminfo", "MemTotal: 1000 kB\nMemFree: 300 kB\n")
        self._write("proc/1/mounts", f"/dev/nvme0n1p1 {root} ext4 rw 0 0\n")
        self._write("proc/net/dev", "head\nhead\n")
        self.work(0)
        found = yaml.safe_load((ROLE / "defaults/main.yml").read_text(encoding="utf-8"))
        self._write(
            "etc/golden-idle.json",
            json.dumps(
                {
                    **{name.removeprefix("golden_idle_"): value for name, value in found.items()},
                    "window_minutes": 15,
                    "grace_minutes": 5,
                    "poweroff_command": ["touch", str(self.stopped)],
                    **settings,
                }
            ),
        )

    def _write(self, name: str, text: str = "") -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        part.write_text(text, encoding="utf-8")
        part.replace(path)

    def gpu(self) -> None:
        """Put a GPU on the bus."""
        self._write("sys/bus/pci/devices/0000:00:1e.0/vendor", "0x10de\n")
        self._write("sys/bus/pci/devices/0000:00:1e.0/class", "0x030200\n")

    def work(self, steps: int = 1) -> None:
        """Compute something."""
        self._ticks += steps * _CPU_STEP
        self._write("proc/stat", f"cpu  {self._ticks} 0 0 5000 0 0 0 0 0 0\n")

    @contextmanager
    def agent(
        self, imds: str = "http://127.0.0.1:9", speed: float = SPEED, **environment: str
    ) -> Iterator[Running]:
        """The agent, until the end of the block; it has to end well, or as `ends_with` says now."""
        ends_with = self.ends_with
        process = subprocess.Popen(
            [
                sys.executable,
                "-IB",
                str(PROGRAM),
                "--root",
                str(self.root),
                "run",
                "--speed",
                str(speed),
            ],
            env={**os.environ, "AWS_EC2_METADATA_SERVICE_ENDPOINT": imds, **environment},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            yield Running(self, process)
        finally:
            process.terminate()
            said, _ = process.communicate(timeout=LIMIT_S)
        assert process.returncode == ends_with, said

    def golden_idle(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run the command as a user does."""
        return subprocess.run(
            [sys.executable, "-IB", str(PROGRAM), "--root", str(self.root), *argv],
            capture_output=True,
            text=True,
            check=False,
        )


class Running:
    """The agent's process, and what it says of itself."""

    def __init__(self, machine: IdleMachine, process: subprocess.Popen[str]) -> None:
        self.machine, self.process = machine, process

    def state(self) -> dict[str, Any]:
        """What the agent last wrote, or nothing before its first sample."""
        path = self.machine.root / "run/golden-idle/state.json"
        found: dict[str, Any] = (
            json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        )
        return found

    def wait(self, condition: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """The first state that fulfils the condition; fails where the agent ends before that, or
        never gets there."""
        state: dict[str, Any] = {}

        def fulfilled() -> bool:
            nonlocal state
            state = self.state()
            assert self.process.poll() is None, f"the agent ended with {self.process.returncode}"
            return bool(state and condition(state))

        try:
            until("another state of the agent", fulfilled)
        except AssertionError as error:
            raise AssertionError(f"{error}; its last state: {state}") from None
        return state
