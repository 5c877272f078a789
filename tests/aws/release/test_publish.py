"""A proven build to two regions: what is there afterwards, what a second publish does, what is
refused."""

from __future__ import annotations

import datetime
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from goldenami.core import records
from goldenami.core.errors import ExitCode
from goldenami.model.builds.build_records import BLOCKS_FILE, LOCK_FILE, BakeRecord, Boot, Verdict
from goldenami.model.supported.allowed_types import AllowedTypes
from support.aws.emulator import Emulator
from support.builds import builds
from support.builds.builds import IMAGE, REGIONS, Checkout, RegionState


@pytest.fixture
def build(checkout: Checkout) -> Path:
    return builds.build(checkout.root, 1)


def publish(checkout: Checkout, *args: str, image: str = IMAGE, code: int = 0) -> str:
    return checkout.run("publish", image, *args, code=code)


def nothing_there(region: str) -> bool:
    state = RegionState(region)
    return not (state.amis() or state.snapshots() or state.template() or state.parameter("latest"))


def test_two_builds_reach_both_regions(checkout: Checkout, build: Path, aws: Emulator) -> None:
    """What a plan changes, what a publish leaves, what the next one sends, what is no way back."""
    text = publish(checkout, "--dry-run")
    assert f"register {IMAGE}-{build.name}: x86_64, uefi-preferred, IMDSv2 only, ENA" in text
    assert {call.partition(":")[2][:3] for call, _ in aws.calls()} == {"Get", "Des"}, "a plan"
    publish(checkout)
    check_first(checkout, build)
    before = len(aws.calls())
    done = f"nothing to do: build {build.name} is published in 2 regions"
    assert done in publish(checkout)
    reads = [
        "ec2:DescribeImages",
        "ec2:DescribeImageAttribute",
        "ssm:GetParameters",
        "ec2:DescribeLaunchTemplateVersions",
        "dynamodb:GetItem",
    ]
    calls = sorted(call for call, _ in aws.calls()[before:])
    assert calls == sorted(["sts:GetCallerIdentity", *2 * reads]), "no call more"
    second = builds.build(checkout.root, 2)
    assert "in 1 blocks, the rest is in snap-" in publish(checkout)
    check_difference(checkout, build, second)
    sent = [region for call, region in aws.calls()[before:] if call == "ebs:PutSnapshotBlock"]
    assert sorted(sent) == sorted(REGIONS), "one block to each region"
    text = publish(checkout, "--build", build.name, code=2)
    assert f"names build {second.name}, which is newer than {build.name}" in text, "no way back"


def tags_of(described: dict[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in described["Tags"]}


def check_first(checkout: Checkout, build: Path) -> None:
    """AMI, snapshot, tags and record of a first publish."""
    bake, record = records.read(build / "bake.json", BakeRecord), checkout.record(build)
    tags = {
        "goldenami:image": IMAGE,
        "goldenami:build-id": build.name,
        "goldenami:lock-sha256": bake.lock_sha256,
        "goldenami:git-commit": "0" * 40,
        "goldenami:disk-sha256": bake.disk_sha256,
        "goldenami:instance-types": AllowedTypes(
            supported=("c7a.*", "c7i.*", "m7a.*", "m7i.*"), unsupported=("*.metal*",)
        ).digest,
        "goldenami:manifest-sha256": bake.manifest_sha256,
    }
    wanted = {
        "Architecture": "x86_64",
        "BootMode": "uefi-preferred",
        "ImdsSupport": "v2.0",
        "EnaSupport": True,
        "RootDeviceName": "/dev/xvda",
        "Description": "Debian 13 for tests",
    }
    for region in REGIONS:
        state, published = RegionState(region), record.regions[region]
        state.check([build.name], build.name)
        ami, (snapshot,) = state.amis()[f"{IMAGE}-{build.name}"], state.snapshots()
        assert ami | wanted == ami
        (device,) = ami["BlockDeviceMappings"]
        assert (device["Ebs"]["VolumeType"], device["Ebs"]["VolumeSize"]) == ("gp3", 1)
        sent = {"goldenami:stored-bytes": str(3 << 19)} if region == REGIONS[0] else {}
        assert (tags_of(ami), tags_of(snapshot)) == (tags, tags | sent)
        date = datetime.datetime.fromisoformat(ami["DeprecationTime"])
        assert (date - datetime.datetime.now(datetime.UTC)).days in (89, 90)
        assert state.parameter("candidate") == published.ami == ami["ImageId"]
        assert published.template_version == 1
        assert published.snapshot == snapshot["SnapshotId"]
        assert ami.get("SourceImageRegion") == (None if sent else REGIONS[0])


def check_difference(checkout: Checkout, build: Path, second: Path) -> None:
    for region in REGIONS:
        state = RegionState(region)
        state.check([build.name, second.name], second.name)
        assert [version["VersionNumber"] for version in state.versions()] == [1, 2]
        old, new = (state.amis()[f"{IMAGE}-{each.name}"] for each in (build, second))
        parent, own = (raw["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"] for raw in (old, new))
        tags = next(tags_of(each) for each in state.snapshots() if each["SnapshotId"] == own)
        assert (tags["goldenami:parent-snapshot"], tags["goldenami:stored-bytes"]) == (
            parent,
            str(1 << 19),
        )


# --- channels ---


def gpu_build(checkout: Checkout, number: int = 1) -> Path:
    return builds.build(checkout.root, number, image=builds.GPU_IMAGE, sm=("86",))


def test_a_candidate_soaks(checkout: Checkout, build: Path) -> None:
    """And a region that came back behind the others is named until the promotion."""
    both = "publish: {regions: [us-east-1, us-west-2]"
    checkout.define(f"{both}, soak_hours: 24}}\n")
    assert "has no candidate in us-east-1, us-west-2" in checkout.golden("promote", IMAGE).text
    assert publish(checkout, "--dry-run").endswith(f"next: scripts/golden publish {IMAGE}\n")
    said = publish(checkout, code=ExitCode.HELD_BACK)
    assert f"a candidate stands 24 h: then `scripts/golden promote {IMAGE}`" in said
    assert "has to stand until" in checkout.run("promote", IMAGE, code=6)
    checkout.run("promote", IMAGE, "--dry-run", "--now")
    assert RegionState("us-east-1").parameter("latest") is None
    checkout.run("promote", IMAGE, "--now")
    RegionState("us-east-1").check([build.name], build.name)
    assert "nothing to do" in publish(checkout), "it is `latest`, so that nothing is held back"
    checkout.define("publish: {regions: [us-east-1], left_regions: [us-west-2]}\n")
    second = builds.build(checkout.root, 2)
    publish(checkout)
    builds.build(checkout.root, 3)
    checkout.define(f"{both}, soak_hours: 1}}\n")
    text = publish(checkout, code=ExitCode.HELD_BACK)
    told = f"the regions' `latest` differ: us-east-1 {second.name}, us-west-2 {build.name}"
    assert text.count(told) == 2, "before, and at the end"
    assert told in checkout.golden("status", IMAGE).text
    checkout.run("promote", IMAGE, "--now")
    checkout.run("status", IMAGE)


def test_builds_and_definitions_that_are_not_there(checkout: Checkout) -> None:
    assert f"{IMAGE} has no build here" in publish(checkout, code=2)
    build = builds.build(checkout.root, 1, packages={})
    assert "is not among the packages [one_kernel]" in publish(checkout, code=2), "its parts"
    shutil.rmtree(build)
    build = builds.build(checkout.root, 1)
    assert "has no build 000000000000 here" in publish(checkout, "--build", "0" * 12, code=2)
    checkout.define("")
    assert "its definition has no section `publish`" in publish(checkout, code=2)
    checkout.define("publish: {regions: [us-east-1], kms_key: alias/golden}\n")
    assert "no KMS key alias/golden in us-east-1" in publish(checkout, code=2)
    checkout.define("publish: {regions: [us-east-1]}\n")
    (build / "disk.raw").unlink()
    assert "disk.raw does not exist" in publish(checkout, code=2)
    assert nothing_there("us-east-1")


# --- refusals ---


def change_disk_and_list(build: Path) -> None:
    builds.write_disk(build / "disk.raw", 7)
    (build / BLOCKS_FILE).write_bytes((build / BLOCKS_FILE).read_bytes()[::-1])


REFUSALS: list[tuple[Callable[[Path], object], str]] = [
    (lambda build: (build / "verify.json").unlink(), "has no verify record"),
    (
        lambda build: builds.write_verify(
            build, verdict=Verdict.NOT_VERIFIED, checks=builds.wrong("boot/imdsv2")
        ),
        "1 of 3 checks failed, boot/imdsv2 first",
    ),
    (
        lambda build: builds.write_verify(build, build_id="0" * 12),
        f"its verify record is of {IMAGE} 000000000000",
    ),
    (
        lambda build: builds.write_verify(build, disk_sha256="0" * 64),
        "its verify record is of another disk (000000000000, not",
    ),
    (
        lambda build: builds.write_verify(build, disk_sha256=None),
        "does not say that it is of this disk",
    ),
    (
        lambda build: builds.write_verify(build, checks=builds.wrong("x")[1:]),
        "does not prove that it boots where the metadata service",
    ),
    (
        lambda build: builds.write_verify(build, boots=[Boot(firmware="bios", seconds_to_ssh=1.0)]),
        "it was not booted under uefi",
    ),
    (
        lambda build: records.write(build / LOCK_FILE, builds.lock(IMAGE, 7)),
        "lock.json is not the lock that was baked",
    ),
    (change_disk_and_list, "is not of the disk that was verified"),
]


def test_a_proof_that_is_none(checkout: Checkout, build: Path) -> None:
    for spoil, message in REFUSALS:
        shutil.rmtree(build)
        spoil(builds.build(checkout.root, 1))
        assert message in publish(checkout, code=6)
    assert all(nothing_there(region) for region in REGIONS)


def test_a_region_without_the_hardware(checkout: Checkout, build: Path) -> None:
    checkout.define("publish: {regions: [us-east-1, me-south-1]}\n")
    text = publish(checkout)
    assert re.search(r"me-south-1 +has no \w+", text)
    assert not re.search(r"us-east-1 +has no", text)
    RegionState("me-south-1").check([build.name], build.name)


def test_an_ami_of_that_name_that_is_not_ours(checkout: Checkout, build: Path) -> None:
    state = RegionState("us-west-2")
    volume = state.ec2.create_volume(AvailabilityZone="us-west-2a", Size=1)["VolumeId"]
    snapshot = state.ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    state.ec2.get_waiter("snapshot_completed").wait(
        SnapshotIds=[snapshot], WaiterConfig={"Delay": 1}
    )
    state.ec2.register_image(
        Name=f"{IMAGE}-{build.name}",
        RootDeviceName="/dev/xvda",
        Architecture="x86_64",
        VirtualizationType="hvm",
        BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot}}],
    )
    assert "was not made by this pipeline" in publish(checkout, code=2)
    assert nothing_there("us-east-1")


def test_what_is_changed_behind_our_back_is_put_right_or_named(
    checkout: Checkout,
    build: Path,
) -> None:
    checkout.define("""\
        publish:
          regions: [us-east-1, us-west-2]
          transfer: upload
          share_with: ["210987654322"]
          deregistration_protection: true
        """)
    publish(checkout)
    state, name = RegionState("us-east-1"), f"{IMAGE}-{build.name}"
    ami = state.amis()[name]["ImageId"]

    def users() -> list[str]:
        answer = state.ec2.describe_image_attribute(ImageId=ami, Attribute="launchPermission")
        return sorted(row["UserId"] for row in answer["LaunchPermissions"])

    assert users() == ["210987654322"]
    assert state.amis()[name]["DeregistrationProtection"].startswith("enabled")
    state.ec2.modify_image_attribute(
        ImageId=ami,
        Attribute="launchPermission",
        LaunchPermission={"Add": [{"UserId": "210987654321"}]},
    )
    state.ec2.disable_image_deprecation(ImageId=ami)
    state.ec2.replace_image_instance_type_specification(ImageId=ami)
    lost = {"Key": "goldenami:manifest-sha256", "Value": "0" * 64}
    state.ec2.delete_tags(Resources=[ami, state.snapshots()[0]["SnapshotId"]], Tags=[lost])
    text = publish(checkout)
    for said in (
        "launch permissions: ['210987654321', '210987654322'], not ['210987654322']",
        "deprecation date: False, not True",
        "instance types: 'any', not '",
        "tag goldenami:manifest-sha256: None",
    ):
        assert f"correct {ami}: {said}" in text, text
    assert users() == ["210987654322"]
    assert all(lost in each["Tags"] for each in (state.amis()[name], *state.snapshots()))
    assert "nothing to do" in publish(checkout)
    make_again(checkout, build)
    state.ec2.disable_image(ImageId=ami)
    assert f"{ami} ({name}) is disabled" in publish(checkout, code=2)


def make_again(checkout: Checkout, build: Path) -> None:
    """An AMI that somebody deregistered is made again; one of another disk is refused."""
    name = f"{IMAGE}-{build.name}"
    west = RegionState("us-west-2")
    gone = west.amis()[name]["ImageId"]
    west.ec2.disable_image_deregistration_protection(ImageId=gone)
    west.ec2.deregister_image(ImageId=gone)
    assert f"latest: {gone} -> the new AMI" in publish(checkout)
    west.check([build.name], build.name)
    new = west.parameter("latest")
    other = {"Key": "goldenami:disk-sha256", "Value": "0" * 64}
    west.ec2.create_tags(Resources=[new], Tags=[other])
    said = f"{new} is named {name} and is of another disk of the same build"
    assert said in publish(checkout, code=2)
