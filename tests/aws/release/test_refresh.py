"""Groups of several instance types: a refresh changes the version that they launch, and nothing
else."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from support.aws.emulator import Emulator
from support.builds import builds
from support.builds.builds import IMAGE, Checkout, RegionState
from support.waiting import until

ALONE = "publish: {regions: [us-east-1], launch_template: {instance_type: c7i.large}}\n"
REFRESHED = "instance_refresh: {groups: [web], checkpoint_percent: 20}, launch_template"
GROUP = ALONE.replace("launch_template", REFRESHED)


def client() -> Any:
    return boto3.client("autoscaling", region_name="us-east-1")


def policy(ours: dict[str, str], other: dict[str, str]) -> dict[str, Any]:
    """Two types, one of them from a template of its own, mostly on Spot."""
    return {
        "LaunchTemplate": {
            "LaunchTemplateSpecification": ours,
            "Overrides": [
                {"InstanceType": "c7i.large"},
                {
                    "InstanceType": "m7i.large",
                    "WeightedCapacity": "2",
                    "LaunchTemplateSpecification": other,
                },
            ],
        },
        "InstancesDistribution": {
            "OnDemandBaseCapacity": 1,
            "OnDemandPercentageAboveBaseCapacity": 20,
            "SpotAllocationStrategy": "price-capacity-optimized",
        },
    }


def shown() -> dict[str, Any]:
    """The group's policy, its templates by id and version, once no refresh is in progress."""
    until(
        "the end of the refresh",
        lambda: (
            client().describe_instance_refreshes(AutoScalingGroupName="web")["InstanceRefreshes"][
                0
            ]["Status"]
            == "Successful"
        ),
    )
    (group,) = client().describe_auto_scaling_groups(AutoScalingGroupNames=["web"])[
        "AutoScalingGroups"
    ]
    found: dict[str, Any] = group["MixedInstancesPolicy"]
    template = found["LaunchTemplate"]
    for spec in (
        template["LaunchTemplateSpecification"],
        template["Overrides"][1]["LaunchTemplateSpecification"],
    ):
        spec.pop("LaunchTemplateName", None)
    return found


def test_a_group_of_several_types_keeps_its_policy(checkout: Checkout) -> None:
    checkout.define(ALONE)
    builds.build(checkout.root, 1)
    checkout.run("publish", IMAGE)
    state = RegionState("us-east-1")
    template = state.template()
    assert template is not None
    ami = template["LaunchTemplateData"]["ImageId"]
    other = state.ec2.create_launch_template(
        LaunchTemplateName="other", LaunchTemplateData={"ImageId": ami, "InstanceType": "m7i.large"}
    )["LaunchTemplate"]["LaunchTemplateId"]
    checkout.define(GROUP)
    assert "no region has the Auto Scaling group web" in checkout.run("publish", IMAGE, code=2)
    theirs = {"LaunchTemplateId": other, "Version": "1"}
    ours = {"LaunchTemplateId": template["LaunchTemplateId"], "Version": "1"}
    client().create_auto_scaling_group(
        AutoScalingGroupName="web",
        MinSize=1,
        MaxSize=2,
        AvailabilityZones=["us-east-1a"],
        MixedInstancesPolicy=policy(ours, theirs),
    )
    checkout.define(GROUP)
    builds.build(checkout.root, 2)
    assert "us-east-1: refresh of web: started" in checkout.run("publish", IMAGE)
    preferences = {
        "AutoRollback": True,
        "SkipMatching": True,
        "MinHealthyPercentage": 90,
        "CheckpointPercentages": [20, 100],
        "CheckpointDelay": 3600,
    }
    (started,) = state.refreshes()
    assert started["Preferences"] | preferences == started["Preferences"]
    assert shown() == policy(ours | {"Version": "2"}, theirs)
    assert "nothing to do" in checkout.golden("publish", IMAGE).text
    assert "us-east-1: refresh of web: started" in checkout.run("rollback", IMAGE)
    assert shown() == policy(ours, theirs)


def group(checkout: Checkout, version: str) -> RegionState:
    """A group that launches the template of the first of two builds, by that version of it."""
    checkout.define(ALONE)
    builds.build(checkout.root, 1)
    checkout.run("publish", IMAGE)
    client().create_auto_scaling_group(
        AutoScalingGroupName="web",
        MinSize=1,
        MaxSize=2,
        AvailabilityZones=["us-east-1a"],
        LaunchTemplate={"LaunchTemplateName": f"golden-{IMAGE}", "Version": version},
    )
    checkout.define(GROUP)
    builds.build(checkout.root, 2)
    return RegionState("us-east-1")


def launched() -> str:
    (found,) = client().describe_auto_scaling_groups(AutoScalingGroupNames=["web"])[
        "AutoScalingGroups"
    ]
    return str(found["LaunchTemplate"]["Version"])


@pytest.mark.parametrize("version", ["$Default", "$Latest"])
def test_a_group_that_no_refresh_rolls_back_is_told_before_anything_moves(
    checkout: Checkout, version: str
) -> None:
    """Also by a candidate's promotion; the group takes the build once it names a number."""
    state = group(checkout, version)
    before = state.parameter("latest")
    said = checkout.run("publish", IMAGE, code=2)
    assert (
        f"nothing is changed: the Auto Scaling group web in us-east-1 names version {version} "
        f"of golden-{IMAGE}, from which no refresh rolls back" in said
    ), said
    assert (
        f"--auto-scaling-group-name web --launch-template LaunchTemplateName=golden-{IMAGE},"
        "Version=NUMBER`" in said
    )
    assert (state.parameter("latest"), state.refreshes()) == (before, [])
    checkout.define(GROUP.replace("regions", "soak_hours: 1, regions"))
    checkout.run("publish", IMAGE, code=11)
    assert "no refresh rolls back" in checkout.run("promote", IMAGE, "--now", code=2)
    assert state.parameter("latest") == before
    client().update_auto_scaling_group(
        AutoScalingGroupName="web",
        LaunchTemplate={"LaunchTemplateName": f"golden-{IMAGE}", "Version": "1"},
    )
    checkout.run("promote", IMAGE, "--now")
    until("the refresh", lambda: launched() == "2")


def test_a_build_that_another_refresh_keeps_from_its_group_is_told_until_it_has_it(
    checkout: Checkout, aws: Emulator
) -> None:
    aws.set(refresh_s=3600)
    state = group(checkout, "1")
    checkout.run("publish", IMAGE)
    checkout.run("status", IMAGE)
    third = builds.build(checkout.root, 3).name
    said = checkout.run("publish", IMAGE, code=7)
    assert (
        "`latest` has moved, but not every group follows: another refresh of web is in progress "
        "in us-east-1" in said
    ), said
    assert f"`scripts/golden publish {IMAGE} --build {third}` continues" in said
    assert state.parameter("latest") == state.ami(third)
    behind = (
        f"{IMAGE} in us-east-1: the group web launches version {{}}, and the default is 3; its "
        "refresh is {}"
    )
    assert behind.format("1", "not begun") in checkout.run("status", IMAGE, code=6)
    aws.set(refresh_s=0)
    until("the first refresh", lambda: launched() == "2")
    assert behind.format("2", "not begun") in checkout.run("status", IMAGE, code=6)
    aws.set(refresh_s=3600)
    assert "refresh of web: started" in checkout.run("publish", IMAGE)
    checkout.run("status", IMAGE)
    client().rollback_instance_refresh(AutoScalingGroupName="web")
    aws.set(refresh_s=0)
    until("the rollback", lambda: state.refreshes()[0]["Status"] == "RollbackSuccessful")
    assert behind.format("2", "RollbackSuccessful") in checkout.run("status", IMAGE, code=6)


def test_a_rollback_takes_a_group_back_though_a_person_set_the_default(checkout: Checkout) -> None:
    """To the version of the build, not to the one that the person made."""
    state = group(checkout, "1")
    checkout.run("publish", IMAGE)
    until("the refresh", lambda: launched() == "2")
    template = {"LaunchTemplateName": f"golden-{IMAGE}"}
    state.ec2.create_launch_template_version(
        **template, SourceVersion="2", LaunchTemplateData={"InstanceType": "m7i.large"}
    )
    state.ec2.modify_launch_template(**template, DefaultVersion="3")
    assert "us-east-1: refresh of web: started" in checkout.run("rollback", IMAGE, code=5)
    until("the way back", lambda: launched() == "1")
    assert [version["DefaultVersion"] for version in state.versions()] == [False, False, True]
