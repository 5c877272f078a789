"""The launch template of an image: what the definition states, and versions that a person made."""

from __future__ import annotations

import base64
from typing import Any

import boto3
import pytest
from support.aws.emulator import Emulator
from support.builds import builds
from support.builds.builds import IMAGE, REGIONS, Checkout

NAME = f"golden-{IMAGE}"


def define(checkout: Checkout, template: str) -> None:
    checkout.define(
        f"publish: {{regions: [{', '.join(REGIONS)}], launch_template: {{{template}}}}}\n"
    )


def versions(region: str) -> dict[int, dict[str, Any]]:
    rows = boto3.client("ec2", region_name=region).describe_launch_template_versions(
        LaunchTemplateName=NAME
    )
    return {row["VersionNumber"]: row for row in rows["LaunchTemplateVersions"]}


def default(region: str) -> dict[str, Any]:
    (row,) = (row for row in versions(region).values() if row["DefaultVersion"])
    return row


@pytest.fixture
def published(checkout: Checkout, aws: Emulator) -> str:
    aws.set(pending_s=0.01)
    return checkout.publish(1)


@pytest.mark.usefixtures("published")
def test_a_version_says_what_the_definition_states(checkout: Checkout) -> None:
    groups = [
        boto3.client("ec2", region_name=region).create_security_group(
            GroupName="front", Description="x"
        )["GroupId"]
        for region in REGIONS
    ]
    (checkout.root / "packer/user-data.sh").write_text("#!/bin/sh\necho new\n", encoding="utf-8")
    define(
        checkout,
        "security_groups: [front], key: dev, instance_profile: other, "
        "user_data_file: packer/user-data.sh, iops: 4000, throughput: 500, "
        "initialization_rate: 200, volume_size_gib: 20, instance_type: c7i.large, "
        "metadata_options: {hop_limit: 3}",
    )
    assert f"move the default of {NAME}: version 1" in checkout.run("publish", IMAGE)
    for region, group in zip(REGIONS, groups, strict=True):
        first, data = (versions(region)[number]["LaunchTemplateData"] for number in (1, 2))
        assert not {"InstanceType", "InstanceRequirements"} & first.keys(), (
            "each launch names its own type"
        )
        assert default(region)["VersionNumber"] == 2 and data["InstanceType"] == "c7i.large"
        assert (data["SecurityGroupIds"], data["KeyName"]) == ([group], "dev")
        assert data["IamInstanceProfile"]["Name"] == "other"
        assert base64.b64decode(data["UserData"]) == b"#!/bin/sh\necho new\n"
        assert data["BlockDeviceMappings"] == [
            {
                "DeviceName": "/dev/xvda",
                "Ebs": {
                    "VolumeType": "gp3",
                    "Iops": 4000,
                    "Throughput": 500,
                    "VolumeInitializationRate": 200,
                    "VolumeSize": 20,
                    "DeleteOnTermination": True,
                },
            }
        ]
        assert data["MetadataOptions"] == {
            "HttpTokens": "required",
            "HttpEndpoint": "enabled",
            "HttpPutResponseHopLimit": 3,
        }
    for name in ("fro*", "nowhere"):
        define(checkout, f"security_groups: ['{name}']")
        text = checkout.run("publish", IMAGE, code=2)
        assert f"no security groups are named {name} in us-" in text


def test_a_default_that_a_person_set_stays_until_a_person_gives_it_back(
    checkout: Checkout, published: str
) -> None:
    ec2 = boto3.client("ec2", region_name=REGIONS[1])
    ec2.create_launch_template_version(
        LaunchTemplateName=NAME,
        SourceVersion="1",
        LaunchTemplateData={"InstanceType": "m7i.xlarge"},
    )
    second = builds.build(checkout.root, 2).name
    ec2.modify_launch_template(LaunchTemplateName=NAME, DefaultVersion="2")
    text = checkout.run("publish", IMAGE, code=2)
    assert f"somebody set version 2 as the default of {NAME} in {REGIONS[1]}: it stays" in text
    assert f"--launch-template-name {NAME} --default-version NUMBER" in text
    assert (default(REGIONS[0])["VersionNumber"], default(REGIONS[1])["VersionNumber"]) == (1, 2)
    ec2.modify_launch_template(LaunchTemplateName=NAME, DefaultVersion="1")
    checkout.run("publish", IMAGE)
    taken = default(REGIONS[1])
    assert (taken["VersionDescription"], taken["VersionNumber"]) == (f"build {second}", 3)
    assert versions(REGIONS[1])[2]["LaunchTemplateData"]["InstanceType"] == "m7i.xlarge", (
        "a person's version is kept"
    )
    assert versions(REGIONS[1])[1]["VersionDescription"] == f"build {published}"
