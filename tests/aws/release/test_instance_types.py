"""The instance types that EC2 launches a published AMI on: which `publish` allows, what it says
before, and who names it when somebody changed them."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from support.aws.emulator import Emulator
from support.builds import builds
from support.builds.builds import GPU_IMAGE, IMAGE, REGIONS, Checkout, RegionState
from support.gpu import candidates

SECTION = f"publish: {{regions: [{', '.join(REGIONS)}]}}\n"
ANY = SECTION.replace("}", ", instance_types: any}")


def lists(region: str) -> dict[str, list[str]]:
    """The lists of the only AMI."""
    (ami,) = RegionState(region).amis().values()
    specification = ami.get("InstanceTypeSpecification", {})
    return {
        name: [item["InstanceType"] for item in items]
        for name, items in specification.items()
        if items
    }


ALLOWED = {
    "SupportedInstanceTypes": ["c7a.*", "c7i.*", "m7a.*", "m7i.*"],
    "UnsupportedInstanceTypes": ["*.metal*"],
}


def launch(region: str, instance_type: str) -> str:
    state = RegionState(region)
    (ami,) = state.amis().values()
    answer = state.ec2.run_instances(
        ImageId=ami["ImageId"], InstanceType=instance_type, MinCount=1, MaxCount=1
    )
    return str(answer["Instances"][0]["InstanceId"])


@pytest.fixture
def published(checkout: Checkout) -> str:
    checkout.define(SECTION)
    build_id = builds.build(checkout.root, 1).name
    assert "launch only on c7a.*, c7i.*, m7a.*, m7i.* but *.metal*" in checkout.run(
        "publish", IMAGE
    )
    return build_id


def test_ec2_launches_it_on_the_types_of_its_hardware_alone(published: str) -> None:
    for region in REGIONS:  # a copy has no lists of its own
        assert lists(region) == ALLOWED
        launch(region, "m7i.large")
        for refused in ("g5.xlarge", "t3.micro", "c7i.metal-24xl"):
            with pytest.raises(ClientError, match="InvalidParameterCombination"):
                launch(region, refused)


@pytest.mark.parametrize("command", ["status", "drift"])
def test_lists_that_somebody_changed_are_named_and_set_again(
    checkout: Checkout, published: str, command: str
) -> None:
    state = RegionState(REGIONS[1])
    (ami,) = state.amis().values()
    state.ec2.replace_image_instance_type_specification(ImageId=ami["ImageId"])
    assert lists(REGIONS[1]) == {}
    text = checkout.golden(command, IMAGE).text
    said = f"somebody changed the instance types that EC2 launches {ami['ImageId']} on: "
    assert f"{said}`scripts/golden publish {IMAGE} --build {published}` sets them again" in text
    checkout.run("publish", IMAGE, "--build", published)
    assert lists(REGIONS[1]) == ALLOWED
    assert said not in checkout.golden(command, IMAGE).text


def test_a_candidate_whose_lists_somebody_changed_is_not_promoted(checkout: Checkout) -> None:
    checkout.define(SECTION.replace("}", ", soak_hours: 1}"))
    builds.build(checkout.root, 1)
    checkout.run("publish", IMAGE, code=11)
    state = RegionState(REGIONS[0])
    (ami,) = state.amis().values()
    state.ec2.replace_image_instance_type_specification(ImageId=ami["ImageId"])
    text = checkout.run("promote", IMAGE, "--now", code=6)
    assert f"somebody changed the instance types of {ami['ImageId']} in {REGIONS[0]}: any" in text
    checkout.run("publish", IMAGE, code=11)
    checkout.run("promote", IMAGE, "--now")


def test_a_candidate_of_another_rule_is_refused_before_a_machine_is_launched(
    checkout: Checkout,
) -> None:
    build_id = candidates.publish(checkout)
    checkout.define(SECTION.replace("}", ", instance_types: declared}"), GPU_IMAGE)
    text = checkout.run("gpu-test", GPU_IMAGE, "--wait-minutes", "0", code=2)
    assert "was published for 75-one 86-one 89-one; " in text
    assert "`instance_types: declared` asks for 75-one 75-several 86-one" in text
    checkout.golden("publish", GPU_IMAGE)
    plan = checkout.run("gpu-test", GPU_IMAGE, "--dry-run")
    assert build_id in plan and "86-several" in plan
    state = RegionState(REGIONS[1], GPU_IMAGE)
    (ami,) = state.amis().values()
    state.ec2.replace_image_instance_type_specification(ImageId=ami["ImageId"])
    text = checkout.run("gpu-test", GPU_IMAGE, "--dry-run", code=2)
    assert f"{ami['ImageId']} in {REGIONS[1]} is not as published" in text


def test_another_rule_changes_a_published_build_by_its_settings_alone(
    checkout: Checkout, published: str, aws: Emulator
) -> None:
    checkout.define(ANY)
    before = len(aws.calls())
    text = checkout.run("publish", IMAGE, "--build", published)
    assert "nothing to do" not in text
    made = {action for action, _ in aws.calls()[before:]}
    assert made.isdisjoint({"ec2:RegisterImage", "ec2:CopyImage", "ebs:StartSnapshot"}), made
    assert [lists(region) for region in REGIONS] == [{}, {}]
    launch(REGIONS[0], "t3.micro")
    assert "somebody changed" not in checkout.golden("status", IMAGE).text


def group(instance_type: str, template: dict[str, Any]) -> None:
    boto3.client("autoscaling", region_name=REGIONS[0]).create_auto_scaling_group(
        AutoScalingGroupName="web",
        MinSize=0,
        MaxSize=2,
        AvailabilityZones=[f"{REGIONS[0]}a"],
        MixedInstancesPolicy={
            "LaunchTemplate": {
                "LaunchTemplateSpecification": {
                    "LaunchTemplateId": template["LaunchTemplateId"],
                    "Version": "1",
                },
                "Overrides": [{"InstanceType": "m7i.large"}, {"InstanceType": instance_type}],
            }
        },
    )


def test_machines_and_groups_of_other_types_are_told_before_anything_changes(
    checkout: Checkout,
) -> None:
    checkout.define(ANY)
    builds.build(checkout.root, 1)
    checkout.run("publish", IMAGE)
    for instance_type in ("t3.micro", "t3.micro", "g5.xlarge", "m7i.large"):
        launch(REGIONS[0], instance_type)
    checkout.define(SECTION)
    builds.build(checkout.root, 2)
    text = checkout.run("publish", IMAGE, "--dry-run")
    told = f"  {REGIONS[0]:<15} EC2 will not launch this build on "
    assert f"{told}g5.xlarge, as 1 running machines of the image are" in text
    assert f"{told}t3.micro, as 2 running machines of the image are" in text
    assert "build on m7i.large" not in text
    template = RegionState(REGIONS[0]).template()
    assert template is not None
    group("t3.micro", template)
    text = checkout.run("publish", IMAGE, code=2)
    assert f"the Auto Scaling group web in {REGIONS[0]} launches t3.micro, on which EC2" in text
    assert len(RegionState(REGIONS[0]).amis()) == 1
    checkout.define(ANY)
    checkout.run("publish", IMAGE)
