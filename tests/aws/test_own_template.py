"""A launch template of the user's: it gets versions with another AMI, and nobody's words in it are
lost."""

from __future__ import annotations

import base64
import random
from typing import Any

import boto3
import pytest
from goldenami.aws import tags
from support.aws.emulator import Emulator
from support.aws.kill_proxy import KillPoint, KillProxy, When
from support.aws.retirement import GRACELESS
from support.builds import builds
from support.builds.builds import IMAGE, REGIONS, Checkout, RegionState

NAME = "web"
THEIRS: dict[str, Any] = {
    "ImageId": "ami-0123456789abcdef0", "InstanceType": "m7i.large", "KeyName": "ops",
    "SecurityGroupIds": ["sg-0123456789abcdef0"], "IamInstanceProfile": {"Name": "web"},
    "UserData": base64.b64encode(b"#!/bin/sh\n").decode(),
    "MetadataOptions": {"HttpTokens": "required"},
    "BlockDeviceMappings": [
        {"DeviceName": "/dev/xvda",
         "Ebs": {"SnapshotId": "snap-0123456789abcdef0", "VolumeSize": 40,
                 "VolumeType": "gp3"}},
        {"DeviceName": "/dev/sdf",
         "Ebs": {"SnapshotId": "snap-0aaaaaaaaaaaaaaaa", "VolumeSize": 100}}],
    "TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "team", "Value": "web"}]}]}
KEPT = ("InstanceType", "KeyName", "SecurityGroupIds", "IamInstanceProfile", "UserData",
        "TagSpecifications")


def define(
    checkout: Checkout, template: str = f"name: {NAME}", regions: str = ", ".join(REGIONS)
) -> None:
    checkout.define(f"publish: {{regions: [{regions}], launch_template: {{{template}}}}}\n")


def create(region: str, *, mark: bool = True, **changes: Any) -> str:
    """The user's template in a region; returns its id."""
    marks = tags.specifications({tags.IMAGE: IMAGE}, "launch-template") if mark else []
    made: str = boto3.client("ec2", region_name=region).create_launch_template(
        LaunchTemplateName=NAME, LaunchTemplateData={**THEIRS, **changes}, TagSpecifications=marks)[
            "LaunchTemplate"]["LaunchTemplateId"]
    return made


def versions(region: str) -> dict[int, dict[str, Any]]:
    rows = boto3.client("ec2", region_name=region).describe_launch_template_versions(
        LaunchTemplateName=NAME
    )
    return {row["VersionNumber"]: row for row in rows["LaunchTemplateVersions"]}


def default(region: str) -> dict[str, Any]:
    (row,) = (row for row in versions(region).values() if row["DefaultVersion"])
    return row


@pytest.fixture
def theirs(checkout: Checkout, aws: Emulator) -> list[str]:
    """Ids of two builds, of which the second is `latest` by the user's template, which was taken
    over."""
    aws.set(pending_s=0.01)
    for region in REGIONS:
        create(region)
    define(checkout)
    build_ids = [builds.build(checkout.root, 1).name]
    said = "somebody set version 1 as the default of web in us-east-1: it stays"
    assert said in checkout.run("publish", IMAGE, code=2)
    assert not RegionState(REGIONS[0]).amis(), "refused before anything was made"
    checkout.run("publish", IMAGE, "--take-over")
    build_ids.append(builds.build(checkout.root, 2).name)
    checkout.run("publish", IMAGE)
    return build_ids


def test_a_version_changes_the_image_and_keeps_all_else(
    checkout: Checkout, theirs: list[str]
) -> None:
    for region in REGIONS:
        found = versions(region)
        assert [found[number]["VersionDescription"] for number in (2, 3)] == [
            f"build {each}" for each in theirs
        ]
        data, state = found[3]["LaunchTemplateData"], RegionState(region)
        assert {key: data[key] for key in KEPT} == {key: THEIRS[key] for key in KEPT}
        root, disk = data["BlockDeviceMappings"]
        assert root["Ebs"] == {"VolumeSize": 40,
                               "VolumeType": "gp3"}, "the snapshot was another image's"
        assert disk == THEIRS["BlockDeviceMappings"][1], "a data volume keeps its snapshot"
        assert (default(region)["VersionNumber"], data["ImageId"]) == (3, state.parameter("latest"))
        assert state.template() is None, "the pipeline keeps no template of its own beside it"
    assert f"nothing to do: build {theirs[1]}" in checkout.run("publish", IMAGE)
    checkout.run("rollback", IMAGE)
    for region in REGIONS:
        back = default(region)
        assert (back["VersionNumber"], len(versions(region))) == (2, 3), "the version that was"
        assert back["LaunchTemplateData"]["ImageId"] == RegionState(region).parameter("latest")
    checkout.run("status", IMAGE, "--check")


def test_what_the_definition_names_is_changed_too(checkout: Checkout, theirs: list[str]) -> None:
    group = boto3.client("ec2", region_name=REGIONS[0]).create_security_group(
        GroupName="front", Description="x")["GroupId"]
    (checkout.root / "packer/user-data.sh").write_text("#!/bin/sh\necho new\n", encoding="utf-8")
    define(checkout, f"name: {NAME}, security_groups: [front], key: dev, instance_profile: other, "
                     "user_data_file: packer/user-data.sh, iops: 4000, metadata_options: "
                     "{hop_limit: 3}", REGIONS[0])
    assert "move the default of web: version 3" in checkout.run("publish", IMAGE)
    data = default(REGIONS[0])["LaunchTemplateData"]
    assert (data["SecurityGroupIds"], data["KeyName"], data["IamInstanceProfile"]["Name"]) == (
        [group],
        "dev",
        "other",
    )
    assert base64.b64decode(data["UserData"]) == b"#!/bin/sh\necho new\n"
    assert data["BlockDeviceMappings"][0]["Ebs"] == {"VolumeSize": 40, "VolumeType": "gp3",
                                                     "Iops": 4000}
    assert data["MetadataOptions"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 3}
    assert data["TagSpecifications"] == THEIRS["TagSpecifications"]
    define(checkout, f"name: {NAME}, security_groups: ['fro*']", REGIONS[0])
    assert "no security groups are named fro* in us-east-1" in checkout.run(
        "publish", IMAGE, code=2
    )
    define(checkout, f"name: {NAME}, security_groups: [nowhere]", REGIONS[0])
    assert "no security groups are named nowhere in us-east-1" in checkout.run(
        "publish", IMAGE, code=2
    )


def test_a_default_that_a_person_set_is_taken_over_only_by_name(
    checkout: Checkout, theirs: list[str]
) -> None:
    ec2 = boto3.client("ec2", region_name=REGIONS[1])
    ec2.create_launch_template_version(LaunchTemplateName=NAME, SourceVersion="3",
                                       LaunchTemplateData={
                                           "InstanceType": "m7i.xlarge"})
    third = builds.build(checkout.root, 3).name
    ec2.modify_launch_template(LaunchTemplateName=NAME, DefaultVersion="4")
    for command in ("publish", "rollback"):
        text = checkout.run(command, IMAGE, code=2)
        assert "somebody set version 4 as the default of web in us-west-2: it stays" in text
        assert "--take-over replaces it" in text
    assert (default(REGIONS[0])["VersionNumber"], default(REGIONS[1])["VersionNumber"]) == (3, 4)
    checkout.run("publish", IMAGE, "--take-over")
    taken = default(REGIONS[1])
    assert (taken["VersionDescription"], taken["VersionNumber"]) == (f"build {third}", 5)
    assert taken["LaunchTemplateData"]["InstanceType"] == "m7i.xlarge"
    assert versions(REGIONS[1])[4]["LaunchTemplateData"]["InstanceType"] == "m7i.xlarge"


# --- templates that are not to be changed ---

def test_a_template_that_is_not_there_or_not_to_be_changed(checkout: Checkout) -> None:
    define(checkout, regions=REGIONS[0])
    builds.build(checkout.root, 1)

    def refused(text: str, template: str = f"name: {NAME}") -> None:
        define(checkout, template, REGIONS[0])
        assert text in checkout.run("publish", IMAGE, "--take-over", code=2)
        assert not RegionState(REGIONS[0]).amis(), "nothing is made"

    refused("there is no launch template web in us-east-1")
    refused("there is no launch template lt-0123456789abcdef0 in us-east-1",
            "id: lt-0123456789abcdef0")
    identifier = create(REGIONS[0], mark=False)
    refused(f"the launch template web in us-east-1 has no tag {tags.IMAGE}: it is not changed")
    ec2 = boto3.client("ec2", region_name=REGIONS[0])
    ec2.create_tags(Resources=[identifier], Tags=[{"Key": tags.IMAGE, "Value": "other"}])
    refused(f"the launch template {identifier} in us-east-1 is the image other's",
            f"id: {identifier}")
    ec2.create_tags(Resources=[identifier], Tags=[{"Key": tags.IMAGE, "Value": IMAGE}])
    need = {"VCpuCount": {"Min": 1}, "MemoryMiB": {"Min": 1}}
    rest = {key: value for key, value in THEIRS.items()
            if key not in ("InstanceType", "SecurityGroupIds")}
    ec2.create_launch_template_version(LaunchTemplateId=identifier, LaunchTemplateData={
        **rest, "InstanceRequirements": need,
        "NetworkInterfaces": [{"DeviceIndex": 0, "Groups": ["sg-1"]}]})
    refused(f"version 2 of {identifier} has InstanceRequirements, which excludes `instance_type`",
            f"name: {NAME}, instance_type: m7i.large")
    refused("has NetworkInterfaces, which excludes `security_groups`",
            f"name: {NAME}, security_groups: [sg-1]")
    ec2.create_launch_template_version(LaunchTemplateId=identifier, LaunchTemplateData={
        "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 1}}]})
    refused(f"version 3 of {identifier} has a root volume of 1 GiB, and the disk has")
    assert [row["DefaultVersion"] for row in versions(REGIONS[0]).values()].count(True) == 1
    assert default(REGIONS[0])["VersionNumber"] == 1
    define(checkout, f"id: {identifier}, source_version: default", REGIONS[0])
    checkout.run("publish", IMAGE, "--take-over")
    assert "NetworkInterfaces" not in default(REGIONS[0])["LaunchTemplateData"]


# --- kills ---

POINTS = [KillPoint(action, region, 1, when) for action in ("ec2:CreateLaunchTemplateVersion",
                                                            "ec2:ModifyLaunchTemplate")
          for region in REGIONS for when in When]


def test_a_kill_around_the_version_or_the_default_is_continued(
    checkout: Checkout, theirs: list[str], kill_proxy: KillProxy,
) -> None:
    for number, point in enumerate(random.sample(POINTS, 2)):
        build = builds.build(checkout.root, number + 3).name
        code, text = kill_proxy.run(checkout.root, "publish", IMAGE, point=point)
        assert (code, kill_proxy.struck) == (-9, True), f"{point}: {text}"
        checkout.run("publish", IMAGE)
        for region in REGIONS:
            assert default(region)["VersionDescription"] == f"build {build}", point
            said = [row.get("VersionDescription", "") for row in versions(region).values()]
            assert sorted(said)[1:] == sorted(set(said)
                                              - {""}), f"{point}: two versions of one build"
        checkout.run("status", IMAGE, "--check")


def test_versions_of_retired_builds_go_and_a_persons_stay(
    checkout: Checkout, aws: Emulator
) -> None:
    aws.set(pending_s=0.01, backdate_days=400)
    create(REGIONS[0])
    define(checkout, regions=REGIONS[0])
    for number in (1, 2, 3):
        builds.build(checkout.root, number)
        checkout.run("publish", IMAGE, "--take-over")
    for _ in range(3):
        checkout.run("retire", IMAGE, *GRACELESS)
    assert sorted(versions(REGIONS[0])) == [1, 4]
    assert len(RegionState(REGIONS[0]).amis()) == 1
    checkout.run("status", IMAGE, "--check")
