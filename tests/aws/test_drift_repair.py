"""`golden drift repair INSTANCE`: what drifted is replaced, by its group or by a root volume."""

from __future__ import annotations

from typing import Any

import pytest
from goldenami.fleet.drift import repair
from goldenami.fleet.drift.repair import RepairPlan, RepairWay
from support.aws.emulator import Emulator
from support.aws.fleet import TEMPLATE, Fleet
from support.aws.kill_proxy import KillPoint, KillProxy, When
from support.aws.seeded_account import REGION, SeededAccount
from support.builds.builds import IMAGE, Checkout


@pytest.fixture
def fleet(account: SeededAccount, checkout: Checkout) -> Fleet:
    return Fleet.publish(account, checkout)


def described(fleet: Fleet, instance: str) -> dict[str, Any]:
    found = fleet.account.ec2.describe_instances(InstanceIds=[instance])["Reservations"]
    return dict(found[0]["Instances"][0])


def volume(fleet: Fleet, instance: str) -> str:
    return str(described(fleet, instance)["BlockDeviceMappings"][0]["Ebs"]["VolumeId"])


def planned(fleet: Fleet, instance: str) -> RepairPlan:
    return RepairPlan.model_validate_json(
        fleet.checkout.run("drift", "repair", instance, "--dry-run", "--json"))


def test_an_instance_alone_gets_a_root_volume_of_latest(fleet: Fleet) -> None:
    """An instance of an older build, and one of a foreign AMI that the image's template
    launched."""
    foreign = fleet.account.launch(fleet.account.ami(7, tagged=False, recorded=False),
                                   LaunchTemplate={**TEMPLATE, "Version": "2"})
    for instance, before in ((fleet.by_version(1), fleet.builds[0]), (foreign, "")):
        old = volume(fleet, instance)
        plan = planned(fleet, instance)
        assert plan.way is RepairWay.ROOT_VOLUME
        assert (plan.build_before, plan.build_id) == (before, fleet.builds[1])
        assert volume(fleet, instance) == old, "a plan changes nothing"
        said = fleet.checkout.run("drift", "repair", instance,
                                  *(["--keep-volume"] if before else []))
        assert "it is in no group" in said
        assert volume(fleet, instance) != old
        assert described(fleet, instance)["ImageId"] == fleet.ami(2)
        kept = [each["VolumeId"] for each in fleet.account.ec2.describe_volumes()["Volumes"]]
        assert (old in kept) is bool(before)


def test_an_instance_of_a_group_is_terminated_there(fleet: Fleet) -> None:
    """A refresh that skips what matches leaves it as it is; its group launches another one."""
    instance = fleet.group("web", "$Default")
    assert planned(fleet, instance).way is RepairWay.GROUP
    fleet.account.groups.start_instance_refresh(AutoScalingGroupName="web",
                                                Preferences={"SkipMatching": True})
    assert fleet.members("web") == [instance], "drift on a disk is no difference to a refresh"
    assert "its group launches a fresh one" in fleet.checkout.run("drift", "repair", instance)
    assert described(fleet, instance)["State"]["Name"] == "terminated"
    (fresh,) = fleet.members("web")
    assert fresh != instance and described(fleet, fresh)["ImageId"] == fleet.ami(2)


def test_a_group_that_would_drift_again_or_does_nothing(fleet: Fleet) -> None:
    pinned = fleet.group("pinned", "1")
    said = fleet.checkout.run("drift", "repair", pinned, code=5)
    assert f"launches {fleet.ami(1)}" in said and "refresh" in said
    idle = fleet.group("idle", "2")
    fleet.account.groups.suspend_processes(AutoScalingGroupName="idle", ScalingProcesses=["Launch"])
    assert "Launch is suspended" in fleet.checkout.run("drift", "repair", idle, code=5)
    groups = fleet.account.groups
    groups.create_launch_configuration(
        LaunchConfigurationName="old", ImageId=fleet.ami(1), InstanceType="c7i.large")
    groups.create_auto_scaling_group(AutoScalingGroupName="old", LaunchConfigurationName="old",
                                     MinSize=1, MaxSize=1,
                                     AvailabilityZones=[f"{fleet.account.region}a"])
    (old,) = fleet.members("old")
    said = fleet.checkout.run("drift", "repair", old, code=5)
    assert "the group old names no launch template" in said
    assert {described(fleet, each)["State"]["Name"] for each in (pinned, idle, old)} == {"running"}


def test_what_cannot_be_repaired_is_one_line(fleet: Fleet, aws: Emulator) -> None:
    stranger = fleet.account.launch(fleet.account.ami(7, tagged=False, recorded=False))
    stopped, ended = fleet.by_version(1), fleet.by_version(1)
    fleet.account.ec2.stop_instances(InstanceIds=[stopped])
    fleet.account.ec2.terminate_instances(InstanceIds=[ended])
    running = fleet.by_version(1)
    for args, code, said in (
            ((stranger,), 2, "is of no image of this checkout"), ((stopped,), 5, "is stopped"),
            ((ended,), 4, "is terminated"), (("i-0123456789abcdef0",), 2, "there is no instance"),
            (("i-1",), 2, "is no id of an instance"), ((), 2, "which instance is repaired?")):
        assert said in fleet.checkout.run("drift", "repair", *args, code=code)
    aws.set(denied={"*": ["ec2:CreateReplaceRootVolumeTask"]})
    said = fleet.checkout.run("drift", "repair", running, code=8)
    assert "ec2:CreateReplaceRootVolumeTask" in said
    fleet.checkout.run("drift", IMAGE, running, code=2)


def test_a_replacement_that_hangs_and_one_that_was_killed(
    fleet: Fleet, aws: Emulator, kill_proxy: KillProxy, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A second run goes on with the first one's task: the volume is replaced once."""
    instance = fleet.by_version(1)
    aws.set(pending_s=3600)
    monkeypatch.setattr(repair, "TASK_S", 0.2)
    assert "is pending after" in fleet.checkout.run("drift", "repair", instance, code=4)
    point = KillPoint("ec2:CreateReplaceRootVolumeTask", REGION, 1, When.AFTER)
    other = fleet.by_version(1)
    assert kill_proxy.run(fleet.checkout.root, "drift", "repair", other, point=point)[0] == -9
    aws.set(pending_s=0)
    for each in (instance, other):
        fleet.checkout.run("drift", "repair", each)
        tasks = fleet.account.ec2.describe_replace_root_volume_tasks(
            Filters=[{"Name": "instance-id", "Values": [each]}])["ReplaceRootVolumeTasks"]
        assert described(fleet, each)["ImageId"] == fleet.ami(2) and tasks
