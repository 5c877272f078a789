"""`golden cluster`: an image's machines as a stack that is rendered, made, changed and taken
away."""

from __future__ import annotations

import json
import re
from typing import Any

import boto3
import pytest
from goldenami.aws.services import stacks
from support.aws.emulator import Emulator
from support.builds import builds
from support.builds.builds import GPU_IMAGE, IMAGE, Checkout

REGION, STACK = "us-east-1", f"golden-cluster-{IMAGE}"
FAMILIES = ("c7i", "m7i", "c7a", "m7a")
GPU_FAMILIES = 4


@pytest.fixture
def published(checkout: Checkout) -> Checkout:
    checkout.define("publish: {regions: [us-east-1]}\n")
    builds.build(checkout.root, 1)
    checkout.run("publish", IMAGE)
    return checkout


def template_of(image: str) -> None:
    boto3.client("ec2", REGION).create_launch_template(
        LaunchTemplateName=f"golden-{image}",
        LaunchTemplateData={"ImageId": "ami-0123456789abcdef0"},
    )


@pytest.fixture
def subnets(aws: Emulator) -> str:
    found = boto3.client("ec2", REGION).describe_subnets()["Subnets"]
    return ",".join(sorted(each["SubnetId"] for each in found)[:2])


def group(family: str) -> dict[str, Any]:
    found = boto3.client("autoscaling", REGION).describe_auto_scaling_groups(
        AutoScalingGroupNames=[f"golden-{IMAGE}-{family}"]
    )["AutoScalingGroups"]
    return dict(found[0]) if found else {}


def distribution(described: dict[str, Any]) -> dict[str, Any]:
    return dict(described["MixedInstancesPolicy"]["InstancesDistribution"])


def listed(kind: str, image: str = IMAGE) -> set[str]:
    """The names of the stack's resources of a kind, such as `CloudWatch::Alarm`."""
    rows = boto3.client("cloudformation", REGION).list_stack_resources(
        StackName=f"golden-cluster-{image}"
    )["StackResourceSummaries"]
    return {row["PhysicalResourceId"] for row in rows if row["ResourceType"] == f"AWS::{kind}"}


def test_a_cluster_is_made_changed_and_taken_away(published: Checkout, subnets: str) -> None:
    said = published.run("cluster", "plan", IMAGE, "--set", f"Subnets={subnets}")
    assert f"{REGION}: a new stack {STACK}" in said
    assert said.count("add    AWS::AutoScaling::AutoScalingGroup") == 4
    assert not group("c7i")  # a plan leaves nothing

    said = published.run(
        "cluster",
        "apply",
        IMAGE,
        "--set",
        f"Subnets={subnets}",
        "--set",
        "MinInstances=1",
        "--set",
        "MaxInstances=3",
    )
    assert f"dashboards:name={STACK}" in said
    made = group("m7i")
    assert (made["MinSize"], made["MaxSize"]) == (1, 3)
    assert made["NewInstancesProtectedFromScaleIn"] is True
    assert made["VPCZoneIdentifier"] == subnets
    [machine] = made["Instances"]
    assert machine["ProtectedFromScaleIn"] is True
    has_its_machine_and_alarms(machine["InstanceId"])

    said = published.run(
        "cluster",
        "apply",
        IMAGE,
        "--set",
        "MaxInstances=5",
        "--set",
        "MonthlyBudget=500",
        "--set",
        "OnDemandPercent=30",
    )
    assert "modify AWS::AutoScaling::AutoScalingGroup M7iGroup" in said
    assert "AWS::Budgets::Budget" in said
    changed = group("m7i")
    assert (changed["MinSize"], changed["MaxSize"]) == (1, 5)
    assert distribution(changed)["OnDemandPercentageAboveBaseCapacity"] == 30
    assert [each["InstanceId"] for each in changed["Instances"]] == [machine["InstanceId"]]
    assert f"{REGION}: nothing to do" in published.run("cluster", "plan", IMAGE)

    said = published.run("cluster", "remove", IMAGE, code=2)
    assert f"golden-{IMAGE}-m7i: 1 machines, 1 of them protected" in said
    assert f"4 machines of {STACK} run" in said and group("m7i")
    published.run("cluster", "remove", IMAGE, "--with-machines")
    assert not group("m7i")
    assert boto3.client("cloudwatch", REGION).list_dashboards()["DashboardEntries"] == []
    assert stacks.find(boto3.client("cloudformation", REGION), STACK) is None
    assert "there is no stack" in published.run("cluster", "remove", IMAGE, code=2)


def has_its_machine_and_alarms(machine: str) -> None:
    described = boto3.client("ec2", REGION).describe_instances(InstanceIds=[machine])
    [instance] = described["Reservations"][0]["Instances"]
    assert instance["InstanceType"].startswith("m7i.")
    assert {"Key": "goldenami:cluster", "Value": IMAGE} in instance["Tags"]
    # By which pipelines may end what they test on.
    assert "goldenami:image" not in str(instance["Tags"])
    assert listed("CloudWatch::Alarm") == {
        f"golden-{IMAGE}-{family}-{what}"
        for family in FAMILIES
        for what in ("missing", "disk", "idle")
    }


def test_gpus_are_tracked_and_a_budget_is_made_where_asked(
    checkout: Checkout, subnets: str
) -> None:
    template_of(GPU_IMAGE)
    said = checkout.run(
        "cluster",
        "apply",
        GPU_IMAGE,
        "--set",
        f"Subnets={subnets}",
        "--set",
        "GpuTargetPercent=60",
        "--set",
        "MonthlyBudget=500",
        "--set",
        "Email=me@example.org",
    )
    assert "g5.xlarge $1.006" in said
    assert "(AWS's price list (pricing:GetProducts) of 2024-12-02)" in said
    kinds = ("AutoScaling::ScalingPolicy", "Budgets::Budget")
    assert [len(listed(kind, GPU_IMAGE)) for kind in kinds] == [GPU_FAMILIES, 1]
    checkout.run(
        "cluster", "apply", GPU_IMAGE, "--set", "GpuTargetPercent=0", "--set", "MonthlyBudget=0"
    )
    assert not any(listed(kind, GPU_IMAGE) for kind in kinds)


def test_what_is_rendered_is_what_is_deployed(checkout: Checkout, subnets: str) -> None:
    template_of(IMAGE)
    text = checkout.run("cluster", "render", IMAGE)
    cloudformation = boto3.client("cloudformation", REGION)
    made = cloudformation.create_change_set(
        StackName=STACK,
        ChangeSetName="by-hand",
        ChangeSetType="CREATE",
        TemplateBody=text,
        Parameters=[
            {"ParameterKey": name, "ParameterValue": value}
            for name, value in (("Subnets", subnets), ("TemplateVersion", "1"))
        ],
    )  # as `aws cloudformation deploy`
    cloudformation.execute_change_set(ChangeSetName=made["Id"])
    assert f"{REGION}: nothing to do" in checkout.run("cluster", "plan", IMAGE)
    made = boto3.client("cloudwatch", REGION).get_dashboard(DashboardName=STACK)
    assert "arn:aws:cloudwatch:us-east-1:123456789012:alarm:" in made["DashboardBody"]
    assert json.loads(made["DashboardBody"])["widgets"]


def test_the_machines_get_a_role_of_their_own(checkout: Checkout, subnets: str) -> None:
    """By its tags it is for groups of this cluster, and for what its team keeps; it goes with the
    cluster. The groups wait for what users keep."""
    role = f"golden-ami-cluster-{IMAGE}"
    checkout.define(
        f"publish: {{regions: [us-east-1], launch_template: {{instance_profile: {role}}}}}\n"
    )
    path = checkout.root / f"packer/images/{IMAGE}.yml"
    keep = "roles:\n  golden_idle: {golden_idle_keep: s3://acme-keep/vision}\n"
    path.write_text(path.read_text(encoding="utf-8").replace("roles:\n", keep), encoding="utf-8")
    template_of(IMAGE)
    checkout.run(
        "account",
        "apply",
        "--region",
        REGION,
        "--set",
        "GitHubRepository=acme/images",
        "--set",
        "KeepBucket=acme-keep",
    )
    checkout.run("cluster", "apply", IMAGE, "--set", f"Subnets={subnets}")
    iam = boto3.client("iam")
    made = iam.get_role(RoleName=role)["Role"]
    assert made["Tags"] == [
        {"Key": "goldenami:cluster", "Value": IMAGE},
        {"Key": "goldenami:team", "Value": "vision"},
    ]
    hooks = boto3.client("autoscaling", REGION).describe_lifecycle_hooks(
        AutoScalingGroupName=f"golden-{IMAGE}-m7i"
    )["LifecycleHooks"]
    assert [
        (hook["LifecycleTransition"], hook["HeartbeatTimeout"], hook["DefaultResult"])
        for hook in hooks
    ] == [("autoscaling:EC2_INSTANCE_TERMINATING", 300, "CONTINUE")]
    assert made["PermissionsBoundary"]["PermissionsBoundaryArn"].endswith("/golden-ami-boundary")
    profile = iam.get_instance_profile(InstanceProfileName=role)["InstanceProfile"]
    assert [each["RoleName"] for each in profile["Roles"]] == [role]
    checkout.run("cluster", "remove", IMAGE)
    assert role not in str(iam.list_roles()["Roles"])


WRONG: list[tuple[tuple[str, ...], str]] = [
    ((IMAGE,), "where shall machines start?"),
    (
        (IMAGE, "--set", "Subnets=subnet-0123456789", "--set", "Subnets=subnet-1123456789"),
        "subnet-1123456789` comes beside another one",
    ),
    ((IMAGE, "--set", "Subnets=vpc-1"), "Subnets cannot be `vpc-1`"),
    (
        (IMAGE, "--set", "Subnets=subnet-0123456789", "--set", "MinInstances=3"),
        "3 machines at least and 1 at most",
    ),
    (
        (IMAGE, "--set", "Subnets=subnet-0123456789", "--set", "MonthlyBudget=500EUR"),
        "MonthlyBudget cannot be `500EUR`",
    ),
    ((IMAGE, "--set", "GpuTargetPercent=60"), f"{IMAGE} has no GPU to scale by"),
    ((IMAGE, "--set", "MaxInstance=3"), "did you mean `MaxInstances`?"),
    ((IMAGE, "--region", "eu-west-1"), f"{IMAGE} is not published to eu-west-1"),
    (
        (IMAGE, "--set", "Subnets=subnet-0123456789", "--set", "TemplateVersion=$Default"),
        "TemplateVersion cannot be `$Default`",
    ),
    (
        (GPU_IMAGE, "--set", "Subnets=subnet-0123456789"),
        f"there is no launch template golden-{GPU_IMAGE}",
    ),
]


def test_what_goes_wrong(checkout: Checkout) -> None:
    checkout.define("publish: {regions: [us-east-1]}\n")
    for args, said in WRONG:
        text = checkout.run("cluster", "plan", *args, code=2)
        assert said in text and "to do:" in text
    boto3.client("cloudformation", REGION).create_stack(
        StackName=STACK,
        TemplateBody=json.dumps(
            {"Description": "mine", "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}
        ),
    )
    for verb in ("plan", "remove"):
        text = checkout.run("cluster", verb, IMAGE, code=2)
        assert f"the stack {STACK} in us-east-1 is not made from the template of" in text


def test_groups_name_the_number_of_the_default_version(checkout: Checkout, subnets: str) -> None:
    """CloudFormation takes no `$Default`, and a refresh rolls back to a number alone. A later
    change goes on to the version that is the default then, as a refresh did before it.
    """
    checkout.define("publish: {regions: [us-east-1], instance_refresh: {groups: [web]}}\n")
    template_of(IMAGE)
    checkout.run("cluster", "apply", IMAGE, "--set", f"Subnets={subnets}")
    assert versions() == {"1"}
    ec2, name = boto3.client("ec2", REGION), f"golden-{IMAGE}"
    ec2.create_launch_template_version(
        LaunchTemplateName=name, SourceVersion="1", LaunchTemplateData={}
    )
    ec2.modify_launch_template(LaunchTemplateName=name, DefaultVersion="2")
    checkout.run("cluster", "apply", IMAGE)
    assert versions() == {"2"}
    checkout.run("cluster", "apply", IMAGE, "--set", "TemplateVersion=1")
    assert versions() == {"1"}


def versions() -> set[str]:
    groups = boto3.client("autoscaling", REGION).describe_auto_scaling_groups()["AutoScalingGroups"]
    return {
        each["MixedInstancesPolicy"]["LaunchTemplate"]["LaunchTemplateSpecification"]["Version"]
        for each in groups
    }


def test_a_region_without_a_family_has_no_group_of_it(checkout: Checkout, subnets: str) -> None:
    checkout.define("publish: {regions: [us-east-1]}\n")
    definition = checkout.root / f"packer/images/{IMAGE}.yml"
    text = definition.read_text(encoding="utf-8")
    definition.write_text(
        re.sub(r"hardware: \[[^]]*\]", "hardware: [m7i, p3]", text), encoding="utf-8"
    )
    template_of(IMAGE)
    said = checkout.run("cluster", "plan", IMAGE, "--set", f"Subnets={subnets}")
    assert "p3: not in us-east-1, so it has no group" in said and "P3Group" not in said


def test_prices_that_nobody_may_ask_for_are_unknown(
    checkout: Checkout, aws: Emulator, subnets: str
) -> None:
    template_of(GPU_IMAGE)
    aws.set(denied={"*": ["pricing:*"]})
    said = checkout.run("cluster", "plan", GPU_IMAGE, "--set", f"Subnets={subnets}")
    assert "on demand (unknown: the AWS credentials may not call " in said
    assert "g5       unknown" in said and "$0" not in said
    rendered = checkout.run("cluster", "render", GPU_IMAGE)
    assert "Price of idle hours\\n\\nunknown: the AWS" in rendered
