"""golden-health as a process in the emulated account: metric, tag, and a group that replaces the
broken machine, but not while a job runs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import pytest
from support.aws.emulator import Emulator
from support.aws.seeded_account import SeededAccount
from support.gpu import gpu_machine, health_machine
from support.gpu.gpu_machine import GpuMachine
from support.idle import machine as idle_machine
from support.idle.machine import REGION, IdleMachine
from support.waiting import LIMIT_S, until

GROUP, TYPE = "trainers", "g5.12xlarge"
LOST = {"memory_error.3": 15}
SAID = "GPU 3: nvmlDeviceGetMemoryInfo returned 15 (GPU is lost)"


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gpu_machine.compile_libraries(tmp_path_factory.mktemp("libraries"))


@pytest.fixture
def group(aws: Emulator, account: SeededAccount) -> list[str]:
    template = account.template("golden", [account.ami(1)])
    boto3.client("autoscaling", REGION).create_auto_scaling_group(
        AutoScalingGroupName=GROUP,
        MinSize=0,
        MaxSize=4,
        DesiredCapacity=4,
        AvailabilityZones=[f"{REGION}a"],
        LaunchTemplate={"LaunchTemplateId": template, "Version": "1"},
    )
    return members()


def members() -> list[str]:
    ec2 = boto3.client("ec2", REGION)
    found = boto3.client("autoscaling", REGION).describe_auto_scaling_groups(
        AutoScalingGroupNames=[GROUP]
    )["AutoScalingGroups"][0]["Instances"]
    running = ec2.describe_instances(InstanceIds=[each["InstanceId"] for each in found])
    return sorted(
        each["InstanceId"]
        for part in running["Reservations"]
        for each in part["Instances"]
        if each["State"]["Name"] == "running"
    )


def tag(instance: str) -> str:
    found = boto3.client("ec2", REGION).describe_tags(
        Filters=[
            {"Name": "resource-id", "Values": [instance]},
            {"Name": "key", "Values": ["goldenami:health"]},
        ]
    )["Tags"]
    return "".join(each["Value"] for each in found)


@contextmanager
def looks(path: Path, libraries: Path, instance: str, replace: str) -> Iterator[GpuMachine]:
    """A machine as the instance; its settings of golden_idle are the defaults."""
    IdleMachine(path)
    machine = health_machine.whole(path, libraries, TYPE, publish_enabled=True, replace=replace)
    with idle_machine.metadata_service(instance) as imds:
        os.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = imds
        try:
            yield machine
        finally:
            del os.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"]


def test_of_four_machines_exactly_the_broken_one_is_replaced(
    group: list[str], libraries: Path, tmp_path: Path
) -> None:
    for number, instance in enumerate(group):
        with looks(tmp_path / instance, libraries, instance, "idle") as machine:
            if number == 2:
                machine.set(LOST)
            if number == 1:  # it is odd, and another machine would be, too
                machine.set({"ecc.0": 0})
            health_machine.found(machine)
            told = health_machine.golden_health(machine, "status").stdout
            assert ("Auto Scaling is told" in told) == (number == 2), told
    after = members()
    assert len(after) == 4 and set(group) - set(after) == {group[2]}
    assert [tag(each) for each in group] == [
        "healthy",
        "GPU 0: ECC is off:  nvidia-smi -e 1   then reboot",
        "GPU 3: nvmlDeviceGetMemoryInfo returned 15  GPU is lost ",
        "healthy",
    ]
    listed = boto3.client("cloudwatch", REGION).list_metrics(
        Namespace="CWAgent", MetricName="golden_health_findings"
    )["Metrics"]
    dimensions = [{pair["Name"]: pair["Value"] for pair in each["Dimensions"]} for each in listed]
    assert {each["InstanceId"] for each in dimensions} == set(group)
    assert {each["AutoScalingGroupName"] for each in dimensions} == {GROUP}


@pytest.mark.parametrize(("replace", "replaced"), [("never", False), ("always", True)])
def test_what_the_image_says_is_done(
    group: list[str], libraries: Path, tmp_path: Path, replace: str, replaced: bool
) -> None:
    with looks(tmp_path, libraries, group[0], replace) as machine:
        machine.set(LOST)
        assert health_machine.found(machine) == {SAID: True}
    assert (group[0] not in members()) == replaced


def test_nothing_is_replaced_while_a_job_runs(
    group: list[str], libraries: Path, tmp_path: Path
) -> None:
    """One that has CUDA open; then somebody's hold."""
    with looks(tmp_path, libraries, group[0], "idle") as machine:
        machine.set(LOST)
        folder, hold = tmp_path / "proc/4242", tmp_path / "run/golden-idle/holds/0-1.json"
        for made in (folder / "fd", hold.parent):
            made.mkdir(parents=True)
        (folder / "comm").write_text("train\n", encoding="utf-8")
        (folder / "fd/7").symlink_to("/dev/nvidia-uvm")
        process = health_machine.started(machine, "look")

        def says(words: str) -> bool:
            told = health_machine.golden_health(machine, "status").stdout
            return f"not replaced while a job runs: {words}" in told

        until("the job", lambda: says("train (4242) has CUDA open"))
        ends = time.clock_gettime(time.CLOCK_BOOTTIME) + 3600
        hold.write_text(json.dumps({"until": ends, "reason": "a demo"}), encoding="utf-8")
        (folder / "fd/7").unlink()
        until("the hold", lambda: says("held by root: a demo"))
        assert group[0] in members() and process.poll() is None
        hold.unlink()
        _, trouble = process.communicate(timeout=LIMIT_S)
        assert (process.returncode, trouble) == (0, "")
    assert set(group) - set(members()) == {group[0]}
