"""A scenario: golden-idle as its unit runs it, in a booted image, with a GPU that is made up and an
emulated account.

It is busy and protected, protected again, idle and told, and at last it turns the machine off, from
within the unit's own sandbox. Its time runs SPEED times as fast; nothing else of the unit is
changed.
"""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import boto3
from goldenami.local.vm import vm

from support.aws.emulator import KEY, Emulator, environment, running
from support.aws.seeded_account import SeededAccount
from support.builds import guest
from support.gpu import gpu_machine
from support.idle import machine as idle_machine
from support.idle.machine import REGION
from support.idle.topic import Topic
from support.waiting import until

SPEED = 5
"""A sample each two seconds, which an emulated processor can take: a window of 15 minutes is
three."""
GROUP = "workstations"
HOST = "10.0.2.2"
"""This machine's loopback, as QEMU's user mode network shows it to its guest."""
LIMIT_S = 900.0
FILES = "/opt/golden-test"
DROP_IN = f"""[Service]
Environment=AWS_ENDPOINT_URL=%s AWS_ACCESS_KEY_ID={KEY} AWS_SECRET_ACCESS_KEY=none
Environment=LD_LIBRARY_PATH={FILES} FAKE_GPU={FILES}/settings
BindReadOnlyPaths={FILES}/bus:/sys/bus/pci/devices
ExecStart=
ExecStart=/usr/local/bin/golden-idle run --speed {SPEED}
"""


def user_data(topic: str) -> str:
    """What a launch says: the action, and lines above what an emulated machine without work needs
    for itself."""
    own = {
        "action": "poweroff",
        "target": topic,
        "window_minutes": 15,
        "grace_minutes": 5,
        "cpu_seconds": 5400,
        "network_mb": 18000,
        "disks_mb": 18000,
    }
    return "#cloud-config\n" + json.dumps(
        {
            "write_files": [
                {
                    "path": "/etc/golden-idle.local.json",
                    "permissions": "0600",
                    "content": json.dumps(own),
                }
            ]
        }
    )


def install(machine: vm.Machine, folder: Path, endpoint: str) -> None:
    """Put a GPU on the bus that the unit sees, with NVIDIA's library, and lead the unit to the
    account."""
    files = folder / "files"
    (files / "bus/0000:00:1e.0").mkdir(parents=True)
    gpu_machine.compile_libraries(files)
    (files / "bus/0000:00:1e.0/vendor").write_text("0x10de\n", encoding="utf-8")
    (files / "bus/0000:00:1e.0/class").write_text("0x030200\n", encoding="utf-8")
    (files / "settings").write_text(
        "count 1\nname NVIDIA L4\nmemory_mib 23034\nutilization 40\n", encoding="utf-8"
    )
    (files / "unit").write_text(DROP_IN % endpoint, encoding="utf-8")
    guest.put(machine, files, FILES)
    machine.ssh(
        f"sudo install -D -m 644 {FILES}/unit "
        "/run/systemd/system/golden-idle.service.d/test.conf && "
        "sudo systemctl daemon-reload && sudo systemctl restart golden-idle"
    )


def member(instance: str) -> dict[str, Any]:
    """The instance as its group has it."""
    found = boto3.client("autoscaling", REGION).describe_auto_scaling_instances(
        InstanceIds=[instance]
    )
    return dict(found["AutoScalingInstances"][0])


def protected(instance: str) -> bool:
    """Whether its group must not scale it in."""
    return bool(member(instance)["ProtectedFromScaleIn"])


def metrics() -> list[dict[str, Any]]:
    """What was published."""
    return list(boto3.client("cloudwatch", REGION).list_metrics(Namespace="CWAgent")["Metrics"])


def status(machine: vm.Machine) -> dict[str, Any]:
    """What the agent says of itself."""
    found: dict[str, Any] = json.loads(machine.ssh("golden-idle status --json"))
    return found


def said(machine: vm.Machine) -> str:
    """The agent's journal, and what SELinux, AppArmor or seccomp have refused it."""
    return machine.ssh(
        "sudo journalctl -o cat -u golden-idle -n 40; systemctl show golden-idle "
        "-p Result -p NRestarts "
        "-p MemoryPeak; golden-idle status || true"
    )


def busy_and_idle(machine: vm.Machine, instance: str, topic: Topic) -> dict[str, Any]:
    """Through all stages, up to a machine that is off."""
    groups = boto3.client("autoscaling", REGION)
    told: dict[str, Any] = {}
    until("protection", lambda: protected(instance), limit_s=LIMIT_S, poll_s=1)
    told["busy"] = status(machine)
    groups.set_instance_protection(
        AutoScalingGroupName=GROUP, InstanceIds=[instance], ProtectedFromScaleIn=False
    )
    until("protection that is set again", lambda: protected(instance), limit_s=LIMIT_S, poll_s=1)
    until(
        "a metric of the GPU",
        lambda: any(each["MetricName"] == "nvidia_smi_utilization_gpu" for each in metrics()),
        limit_s=LIMIT_S,
        poll_s=1,
    )
    told["metrics"] = metrics()
    told["unit"] = dict(
        line.split("=", 1)
        for line in machine.ssh(
            "systemctl show golden-idle -p NRestarts -p MemoryPeak -p NoNewPrivileges "
            "-p ProtectSystem"
        ).splitlines()
    )
    groups.detach_instances(
        AutoScalingGroupName=GROUP, InstanceIds=[instance], ShouldDecrementDesiredCapacity=True
    )
    machine.ssh(f"echo utilization 0 | sudo tee -a {FILES}/settings")
    told["notice"] = until("a notice", topic.messages, limit_s=LIMIT_S, poll_s=1)[0]
    return told


def account_of(emulator: Emulator, folder: Path) -> tuple[str, str, Topic]:
    """An emulated account: the port of its endpoint, an instance in a group, a topic."""
    os.environ.update(environment(emulator.url, folder))
    emulator.set(pending_s=0)
    account = SeededAccount(emulator)
    instance = account.launch(account.ami(1))
    idle_machine.join(instance, GROUP)
    return emulator.url.rpartition(":")[2], instance, Topic()


def main() -> None:
    """The facts: what was seen on the way, and how the machine ended."""
    folder, stack = guest.prepare(), ExitStack()
    port, instance, topic = account_of(stack.enter_context(running()), folder)
    with (
        stack,
        guest.booted(folder, instance_id=instance, user_data=user_data(topic.arn)) as machine,
    ):
        first = machine.ssh("sudo golden-idle check")
        install(machine, folder, f"http://{HOST}:{port}")
        told = busy_and_idle(machine, instance, topic)
        try:
            ended = machine.process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not power off: {said(machine)}") from None
        console = machine.serial_log.read_text(encoding="utf-8", errors="replace")
    guest.tell(
        folder, **told, instance=instance, settings=first, ended=ended, console=console[-2000:]
    )


if __name__ == "__main__":
    main()
