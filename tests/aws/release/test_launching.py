"""Launches by the image's names, as their users make them: one instance, a group, a fleet, a
parameter."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import boto3
import pytest
from goldenami.aws.channels.ledger import Channel
from goldenami.aws.channels.pointers import channel_name
from goldenami.model.definitions import definition_file
from support.builds import builds
from support.builds.builds import IMAGE, Checkout, RegionState
from support.builds.tools import complaints

NAMED = {"LaunchTemplateName": f"golden-{IMAGE}"}
GROUP: dict[str, Any] = {
    "AutoScalingGroupName": "web",
    "MinSize": 1,
    "MaxSize": 2,
    "AvailabilityZones": ["us-east-1a"],
}


@pytest.fixture
def region(checkout: Checkout) -> RegionState:
    """Where one build is `latest`, by a definition that names no type."""
    checkout.define("publish: {regions: [us-east-1]}\n")
    builds.build(checkout.root, 1)
    assert checkout.golden("publish", IMAGE).code == 0
    return RegionState("us-east-1")


def launched(state: RegionState) -> list[dict[str, Any]]:
    found = state.ec2.describe_instances(
        Filters=[{"Name": "instance-state-name", "Values": ["running"]}]
    )
    return [each for one in found["Reservations"] for each in one["Instances"]]


PAGE = (Path(__file__).resolve().parents[3] / "docs/launching.md").read_text(encoding="utf-8")
YAML = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def policy() -> Any:
    """The mixed instances policy that the page shows, for the image of these tests."""
    (shown,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    made = json.loads(shown.replace("golden-IMAGE", f"golden-{IMAGE}"))
    # moto rounds a share of one machine down to none
    made["InstancesDistribution"]["OnDemandPercentageAboveBaseCapacity"] = 100
    return made


def test_one_instance_by_the_template_and_a_type(region: RegionState) -> None:
    region.ec2.run_instances(
        LaunchTemplate=NAMED, InstanceType="m7i.xlarge", MinCount=1, MaxCount=1
    )
    (instance,) = launched(region)
    assert (instance["ImageId"], instance["InstanceType"]) == (
        region.parameter("latest"),
        "m7i.xlarge",
    )
    assert instance["MetadataOptions"]["HttpTokens"] == "required"


def test_a_group_by_the_policy_of_the_page(checkout: Checkout, region: RegionState) -> None:
    """Each build of `latest` reaches it by a refresh."""
    groups = boto3.client("autoscaling", region_name="us-east-1")
    made = policy()
    groups.create_auto_scaling_group(**GROUP, MixedInstancesPolicy=made, DesiredCapacity=2)
    instance, _ = launched(region)
    (described,) = region.ec2.describe_instance_types(InstanceTypes=[instance["InstanceType"]])[
        "InstanceTypes"
    ]
    assert instance["ImageId"] == region.parameter("latest")
    assert described["VCpuInfo"]["DefaultVCpus"] >= 8
    assert described["MemoryInfo"]["SizeInMiB"] >= 16384
    assert instance["InstanceType"].partition(".")[0] in ("c7i", "m7i")
    checkout.define("publish: {regions: [us-east-1], instance_refresh: {groups: [web]}}\n")
    builds.build(checkout.root, 2)
    assert "refresh of web: started" in checkout.run("publish", IMAGE)


def test_what_the_page_shows_is_taken(checkout: Checkout, tmp_path: Path) -> None:
    """Its sections of a definition, its CloudFormation templates."""
    templates = [text for text in YAML if "Resources:" in text]
    for section in (text for text in YAML if text not in templates):
        checkout.define(section)
        definition_file.load(checkout.root, definition_file.path_of(checkout.root, IMAGE))
    assert (len(YAML), len(templates)) == (2, 1)
    for number, template in enumerate(templates):
        (tmp_path / f"{number}.yml").write_text(template, encoding="utf-8")
    assert complaints("cfn-lint", *map(str, tmp_path.glob("*.yml"))) == ""


def test_the_terraform_that_the_page_shows_is_well_formed(tmp_path: Path) -> None:
    """Packer reads the same language."""
    (shown,) = re.findall(r"```hcl\n(.*?)```", PAGE, re.DOTALL)
    file = tmp_path / "main.pkr.hcl"
    for text, said in ((shown, ""), (shown.replace("{", "", 1), "failed to parse HCL")):
        file.write_text(text, encoding="utf-8")
        assert said in complaints(
            "packer", "fmt", "-check", str(file), env={"CHECKPOINT_DISABLE": "1"}
        )
    assert f'"{channel_name("IMAGE", Channel.LATEST)}"' in shown
