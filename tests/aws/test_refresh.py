"""Groups of several instance types: a refresh changes the version that they launch, and nothing
else."""

from __future__ import annotations

from typing import Any

import boto3
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
    return {"LaunchTemplate": {"LaunchTemplateSpecification": ours, "Overrides": [
                {"InstanceType": "c7i.large"},
                {"InstanceType": "c7a.large", "WeightedCapacity": "2",
                 "LaunchTemplateSpecification": other}]},
            "InstancesDistribution": {"OnDemandBaseCapacity": 1,
                                      "OnDemandPercentageAboveBaseCapacity": 20,
                                      "SpotAllocationStrategy": "price-capacity-optimized"}}


def shown() -> dict[str, Any]:
    """The group's policy, its templates by id and version, once no refresh is in progress."""
    until("the end of the refresh", lambda: client().describe_instance_refreshes(
        AutoScalingGroupName="web")["InstanceRefreshes"][0]["Status"] == "Successful")
    (group,) = client().describe_auto_scaling_groups(AutoScalingGroupNames=["web"])[
        "AutoScalingGroups"
    ]
    found: dict[str, Any] = group["MixedInstancesPolicy"]
    template = found["LaunchTemplate"]
    for spec in (template["LaunchTemplateSpecification"],
                 template["Overrides"][1]["LaunchTemplateSpecification"]):
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
    other = state.ec2.create_launch_template(LaunchTemplateName="other", LaunchTemplateData={
        "ImageId": ami, "InstanceType": "c7a.large"})["LaunchTemplate"]["LaunchTemplateId"]
    checkout.define(GROUP)
    assert "no region has the Auto Scaling group web" in checkout.run("publish", IMAGE, code=2)
    theirs = {"LaunchTemplateId": other, "Version": "1"}
    ours = {"LaunchTemplateId": template["LaunchTemplateId"], "Version": "1"}
    client().create_auto_scaling_group(
        AutoScalingGroupName="web", MinSize=1, MaxSize=2, AvailabilityZones=["us-east-1a"],
        MixedInstancesPolicy=policy(ours, theirs))
    checkout.define(GROUP)
    builds.build(checkout.root, 2)
    assert "us-east-1: refresh of web: started" in checkout.run("publish", IMAGE)
    preferences = {"AutoRollback": True, "SkipMatching": True, "MinHealthyPercentage": 90,
                   "CheckpointPercentages": [20, 100], "CheckpointDelay": 3600}
    (started,) = state.refreshes()
    assert started["Preferences"] | preferences == started["Preferences"]
    assert shown() == policy(ours | {"Version": "2"}, theirs)
    assert "nothing to do" in checkout.golden("publish", IMAGE).text
    assert "us-east-1: refresh of web: started" in checkout.run("rollback", IMAGE)
    assert shown() == policy(ours, theirs)
