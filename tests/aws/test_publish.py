"""A proven build to two regions: what is there afterwards, what a second publish does, what is refused."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from goldenami.core import records
from goldenami.core.errors import ExitCode
from goldenami.model.builds.build_records import BLOCKS_FILE, LOCK_FILE, BakeRecord, Boot, Verdict
from goldenami.release.publish.publish_records import PLAN_FILE, PublishPlan
from support.aws.emulator import Emulator
from support.builds import builds
from support.builds.builds import IMAGE, REGIONS, Checkout, RegionState


@pytest.fixture
def build(checkout: Checkout) -> Path:
    return builds.build(checkout.root, 1)


def publish(checkout: Checkout, *args: str, image: str = IMAGE, code: int = 0) -> str:
    """Run `golden publish`; returns what it said."""
    ran = checkout.golden("publish", image, *args)
    assert ran.code == code, ran.text
    return ran.text


def nothing_there(region: str) -> bool:
    state = RegionState(region)
    return not (state.amis() or state.snapshots() or state.template() or state.parameter("latest"))


def test_a_build_reaches_both_regions(checkout: Checkout, build: Path) -> None:
    publish(checkout)
    for region in REGIONS:
        state = RegionState(region)
        state.check([build.name], build.name)
        ami = state.amis()[f"{IMAGE}-{build.name}"]
        facts = {key: ami[key] for key in ("Architecture", "BootMode", "ImdsSupport", "EnaSupport", "RootDeviceName",
                                           "Description")}
        assert facts == {"Architecture": "x86_64", "BootMode": "uefi-preferred", "ImdsSupport": "v2.0",
                         "EnaSupport": True, "RootDeviceName": "/dev/xvda", "Description": "Debian 12 for tests"}
        (device,) = ami["BlockDeviceMappings"]
        assert (device["Ebs"]["VolumeType"], device["Ebs"]["VolumeSize"]) == ("gp3", 1)
        bake = records.read(build / "bake.json", BakeRecord)
        tags = {"goldenami:image": IMAGE, "goldenami:build-id": build.name, "goldenami:lock-sha256": bake.lock_sha256,
                "goldenami:git-commit": "0" * 40, "goldenami:disk-sha256": bake.disk_sha256,
                "goldenami:manifest-sha256": bake.manifest_sha256}
        assert {tag["Key"]: tag["Value"] for tag in ami["Tags"]} == tags
        (snapshot,) = state.snapshots()
        sent = {"goldenami:stored-bytes": str(3 << 19)} if region == REGIONS[0] else {}
        assert {tag["Key"]: tag["Value"] for tag in snapshot["Tags"]} == tags | sent
        after = datetime.datetime.fromisoformat(ami["DeprecationTime"]) - datetime.datetime.now(datetime.UTC)
        assert after.days in (89, 90)
        assert state.parameter("candidate") == ami["ImageId"]


def test_the_template_launches_the_literal_ami_as_the_definition_says(checkout: Checkout, build: Path) -> None:
    checkout.define("""\
        publish:
          regions: [us-east-1]
          launch_template: {iops: 6000, throughput: 500, initialization_rate: 200, volume_size_gib: 20}
        """)
    publish(checkout)
    template = RegionState("us-east-1").template()
    assert template is not None
    data = template["LaunchTemplateData"]
    assert data["MetadataOptions"] == data["MetadataOptions"] | {"HttpTokens": "required", "HttpEndpoint": "enabled"}
    assert data["BlockDeviceMappings"] == [{"DeviceName": "/dev/xvda", "Ebs": {
        "VolumeType": "gp3", "Iops": 6000, "Throughput": 500, "VolumeInitializationRate": 200, "VolumeSize": 20,
        "DeleteOnTermination": True}}]
    assert not {"InstanceType", "InstanceRequirements"} & data.keys(), "each launch names its own type"
    checkout.define("publish: {regions: [us-east-1], launch_template: {instance_type: c7i.large}}\n")
    assert "move the default" in publish(checkout)
    version = RegionState("us-east-1").template()
    assert version is not None
    assert (version["VersionNumber"], version["LaunchTemplateData"]["InstanceType"]) == (2, "c7i.large")


def test_the_records_say_what_is_where(checkout: Checkout, build: Path) -> None:
    publish(checkout)
    sent, copied = records.read(build / PLAN_FILE, PublishPlan).regions
    assert sent.upload and copied.copy_of and (sent.region, copied.region) == REGIONS
    assert (sent.upload.blocks, copied.copy_of.region, copied.upload) == (builds.BLOCKS, sent.region, None)
    record = checkout.record(build)
    for region in REGIONS:
        ami = RegionState(region).amis()[f"{IMAGE}-{build.name}"]
        published = record.regions[region]
        assert (published.ami, published.template_version, published.previous_ami) == (ami["ImageId"], 1, None)
        assert published.snapshot == ami["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]


def test_a_second_build_is_sent_as_the_difference(checkout: Checkout, build: Path, aws: Emulator) -> None:
    publish(checkout)
    before = len([call for call, _ in aws.calls() if call == "ebs:PutSnapshotBlock"])
    second = builds.build(checkout.root, 2)
    assert "in 1 blocks, the rest is in snap-" in publish(checkout)
    assert len([call for call, _ in aws.calls() if call == "ebs:PutSnapshotBlock"]) - before == len(REGIONS)
    for region in REGIONS:
        state = RegionState(region)
        state.check([build.name, second.name], second.name)
        assert [version["VersionNumber"] for version in state.versions()] == [1, 2]
        published = checkout.record(second).regions[region]
        assert (published.previous_ami, published.previous_template_version) == (
            state.amis()[f"{IMAGE}-{build.name}"]["ImageId"], 1)
        old, new = (state.amis()[f"{IMAGE}-{each.name}"]["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
                    for each in (build, second))
        own_tags = next(each["Tags"] for each in state.snapshots() if each["SnapshotId"] == new)
        assert {"goldenami:parent-snapshot": old, "goldenami:stored-bytes": str(1 << 19)}.items() <= {
            tag["Key"]: tag["Value"] for tag in own_tags}.items()


def test_a_second_publish_is_a_no_op_that_says_so(checkout: Checkout, build: Path, aws: Emulator) -> None:
    publish(checkout)
    before = len(aws.calls())
    text = publish(checkout)
    assert f"nothing to do: build {build.name} is published in 2 regions" in text
    calls = [call for call, _ in aws.calls()[before:]]
    assert sorted(calls) == sorted(["sts:GetCallerIdentity", *2 * [
        "ec2:DescribeImages", "ec2:DescribeImageAttribute", "ec2:DescribeLaunchTemplateVersions",
        "ssm:GetParameters", "dynamodb:GetItem"]])


def test_a_dry_run_changes_nothing(checkout: Checkout, build: Path, aws: Emulator) -> None:
    text = publish(checkout, "--dry-run")
    assert f"register {IMAGE}-{build.name}: x86_64, uefi-preferred, IMDSv2 only, ENA, 1 GiB gp3" in text
    assert {call.partition(":")[2][:3] for call, _ in aws.calls()} == {"Get", "Des"}
    assert all(nothing_there(region) for region in REGIONS)


def test_shares_and_protection_follow_the_definition(checkout: Checkout, build: Path) -> None:
    checkout.define("""\
        publish:
          regions: [us-east-1]
          share_with: ["210987654321", "210987654322"]
          deregistration_protection: true
        """)
    publish(checkout)
    state = RegionState("us-east-1")
    (ami,) = state.amis().values()
    assert ami["DeregistrationProtection"].startswith("enabled")

    def users() -> list[str]:
        answer = state.ec2.describe_image_attribute(ImageId=ami["ImageId"], Attribute="launchPermission")
        return sorted(row["UserId"] for row in answer["LaunchPermissions"])

    assert users() == ["210987654321", "210987654322"]
    checkout.define('publish: {regions: [us-east-1], share_with: ["210987654322"]}\n')
    assert "launch permissions: ['210987654321', '210987654322'], not ['210987654322']" in publish(checkout)
    assert users() == ["210987654322"]
    assert "nothing to do" in publish(checkout)


def test_a_key_of_ones_own(checkout: Checkout, build: Path, aws: Emulator) -> None:
    import boto3

    checkout.define("publish: {regions: [us-east-1], kms_key: alias/golden}\n")
    assert "no KMS key alias/golden in us-east-1" in publish(checkout, code=2)
    assert nothing_there("us-east-1")
    kms = boto3.client("kms", region_name="us-east-1")
    key = kms.create_key()["KeyMetadata"]
    kms.create_alias(AliasName="alias/golden", TargetKeyId=key["KeyId"])
    publish(checkout)
    (snapshot,) = RegionState("us-east-1").snapshots()
    assert (snapshot["Encrypted"], snapshot["KmsKeyId"]) == (True, key["Arn"])


# --- channels -------------------------------------------------------------------------------------------------------

def gpu_build(checkout: Checkout, number: int = 1) -> Path:
    return builds.build(checkout.root, number, image=builds.GPU_IMAGE, sm=("86",))


def test_an_image_that_no_gpu_saw_is_a_candidate_only(checkout: Checkout, tmp_path: Path) -> None:
    build = gpu_build(checkout)
    text = publish(checkout, image=builds.GPU_IMAGE, code=ExitCode.HELD_BACK)
    assert text.endswith(f"next: scripts/golden gpu-test {builds.GPU_IMAGE}\n"), text
    assert "`latest` and the template stay: not tested on a GPU" in text
    for region in REGIONS:
        state = RegionState(region, builds.GPU_IMAGE)
        assert state.parameter("candidate") == state.amis()[f"{builds.GPU_IMAGE}-{build.name}"]["ImageId"]
        assert (state.parameter("latest"), state.template()) == (None, None)
    ran = checkout.golden("promote", builds.GPU_IMAGE)
    assert (ran.code, f"build {build.name} is not tested on a GPU" in ran.text) == (6, True)
    assert "nothing to do" in publish(checkout, image=builds.GPU_IMAGE, code=ExitCode.HELD_BACK)
    builds.write_junit(tmp_path / "gpu.xml", build.name)
    assert checkout.golden("attest", builds.GPU_IMAGE, "--gpu-test", str(tmp_path / "gpu.xml"),
                           "--by", "Ada").code == 0
    ran = checkout.golden("promote", builds.GPU_IMAGE)
    assert ran.code == 0, ran.text
    for region in REGIONS:
        RegionState(region, builds.GPU_IMAGE).check([build.name], build.name)
        entry = RegionState(region, builds.GPU_IMAGE).ledger().latest
        assert entry is not None
        assert entry.gpu == "tested on a GPU, by a person's word"


def test_an_untested_gpu_may_be_accepted_and_that_is_recorded(checkout: Checkout) -> None:
    build = gpu_build(checkout)
    publish(checkout, "--accept-untested-gpu", image=builds.GPU_IMAGE)
    state = RegionState("us-west-2", builds.GPU_IMAGE)
    state.check([build.name], build.name)
    entry = state.ledger().latest
    assert entry is not None
    assert entry.gpu == checkout.record(build).gpu == "not tested on a GPU, accepted"


@pytest.mark.parametrize(("changes", "message"), [
    ({"build_id": "0" * 12}, "it is of build 000000000000, not"), ({"build_id": ""}, "it is of build (unnamed), not"),
    ({"gpu": ""}, "it names no GPU"), ({"inner": "<failure/>"}, "tests failed, limits/one first"),
    ({"inner": "<error/>"}, "tests failed, limits/one first"),
    ({"without": "nvidia_driver/every_gpu_computes_right"},
     "1 of 20 checks on a GPU are not in it, nvidia_driver/every_gpu_computes_right first"),
])
def test_a_file_that_attests_nothing(
    checkout: Checkout, tmp_path: Path, changes: dict[str, Any], message: str,
) -> None:
    build = gpu_build(checkout)
    builds.write_junit(tmp_path / "gpu.xml", **({"build_id": build.name} | changes))
    ran = checkout.golden("attest", builds.GPU_IMAGE, "--gpu-test", str(tmp_path / "gpu.xml"),
                           "--by", "Ada")
    assert (ran.code, message in ran.text) == (6, True), ran.text
    assert not (build / "attest.json").exists()


def test_an_attestation_is_of_one_disk(checkout: Checkout, tmp_path: Path) -> None:
    build = gpu_build(checkout)
    builds.write_junit(tmp_path / "gpu.xml", build.name)
    assert checkout.golden("attest", builds.GPU_IMAGE, "--gpu-test", str(tmp_path / "gpu.xml"),
                           "--by", "Ada").code == 0
    (tmp_path / "cut.xml").write_text("<testsuites>", encoding="utf-8")
    assert "is not JUnit XML" in checkout.golden("attest", builds.GPU_IMAGE, "--gpu-test",
                                                 str(tmp_path / "cut.xml"), "--by", "Ada").text
    sha256 = builds.write_disk(build / "disk.raw", 99)
    bake = records.read(build / "bake.json", BakeRecord)
    assert bake.disk is not None
    records.write(build / "bake.json", bake.model_copy(update={"disk": bake.disk.model_copy(update={
        "sha256": sha256})}))
    builds.write_verify(build)
    assert "not tested on a GPU" in publish(checkout, "--dry-run", image=builds.GPU_IMAGE)


def test_a_candidate_soaks(checkout: Checkout, build: Path) -> None:
    checkout.define("publish: {regions: [us-east-1], soak_hours: 24}\n")
    assert publish(checkout, "--dry-run").endswith(f"next: scripts/golden publish {IMAGE}\n")
    said = publish(checkout, code=ExitCode.HELD_BACK)
    assert f"a candidate stands 24 h: then `scripts/golden promote {IMAGE}`" in said
    assert RegionState("us-east-1").parameter("latest") is None
    ran = checkout.golden("promote", IMAGE)
    assert (ran.code, "has to stand until" in ran.text) == (6, True)
    assert RegionState("us-east-1").parameter("latest") is None
    assert checkout.golden("promote", IMAGE, "--dry-run", "--now").code == 0
    assert RegionState("us-east-1").parameter("latest") is None
    ran = checkout.golden("promote", IMAGE, "--now")
    assert ran.code == 0, ran.text
    RegionState("us-east-1").check([build.name], build.name)
    assert "nothing to do" in publish(checkout), "it is `latest`, so that nothing is held back"


def test_a_region_that_comes_back_behind_is_named_until_the_promotion(checkout: Checkout, build: Path) -> None:
    """While it was dropped `latest` went on elsewhere; a candidate that soaks does not change that yet."""
    publish(checkout)
    checkout.define("publish: {regions: [us-east-1], left_regions: [us-west-2]}\n")
    second = builds.build(checkout.root, 2)
    publish(checkout)
    builds.build(checkout.root, 3)
    checkout.define("publish: {regions: [us-east-1, us-west-2], soak_hours: 1}\n")
    text = publish(checkout, code=ExitCode.HELD_BACK)
    told = f"the regions' `latest` differ: us-east-1 {second.name}, us-west-2 {build.name}"
    assert text.count(told) == 2, "before, and at the end"
    assert told in checkout.golden("status", IMAGE, "--check").text
    assert checkout.golden("promote", IMAGE, "--now").code == 0
    assert checkout.golden("status", IMAGE, "--check").code == 0


def test_promote_wants_one_candidate_everywhere(checkout: Checkout, build: Path) -> None:
    assert "has no candidate in us-east-1, us-west-2" in checkout.golden("promote", IMAGE).text
    checkout.define("publish: {regions: [us-east-1], soak_hours: 1}\n")
    publish(checkout, code=ExitCode.HELD_BACK)
    checkout.define("publish: {regions: [us-east-1, us-west-2], soak_hours: 1}\n")
    ran = checkout.golden("promote", IMAGE)
    assert (ran.code, "has no candidate in us-west-2" in ran.text) == (2, True)


def test_latest_does_not_go_back_by_publishing(checkout: Checkout, build: Path) -> None:
    second = builds.build(checkout.root, 2)
    publish(checkout)
    text = publish(checkout, "--build", build.name, code=2)
    assert f"names build {second.name}, which is newer than {build.name}" in text
    for region in REGIONS:
        RegionState(region).check([second.name], second.name)


# --- refusals -------------------------------------------------------------------------------------------------------

def change_disk_and_list(build: Path) -> None:
    builds.write_disk(build / "disk.raw", 7)
    (build / BLOCKS_FILE).write_bytes((build / BLOCKS_FILE).read_bytes()[::-1])


REFUSALS: list[tuple[str, Callable[[Path], object], str]] = [
    ("missing", lambda build: (build / "verify.json").unlink(), "has no verify record"),
    ("failing", lambda build: builds.write_verify(build, verdict=Verdict.NOT_VERIFIED,
                                                  checks=builds.wrong("boot/imdsv2")),
     "1 of 3 checks failed, boot/imdsv2 first"),
    ("of another build", lambda build: builds.write_verify(build, build_id="0" * 12),
     f"its verify record is of {IMAGE} 000000000000"),
    ("of another disk", lambda build: builds.write_verify(build, disk_sha256="0" * 64),
     "its verify record is of another disk (000000000000, not"),
    ("of no disk", lambda build: builds.write_verify(build, disk_sha256=None),
     "does not say that it is of this disk"),
    ("without IMDSv2", lambda build: builds.write_verify(build, checks=builds.wrong("x")[1:]),
     "does not prove that it boots where the metadata service"),
    ("without UEFI", lambda build: builds.write_verify(
        build, boots=[Boot(firmware="bios", seconds_to_ssh=1.0)]), "it was not booted under uefi"),
    ("with another lock", lambda build: records.write(build / LOCK_FILE, builds.lock(IMAGE, 7)),
     "lock.json is not the lock that was baked"),
    ("of a changed disk without its list", change_disk_and_list, "is not the disk that was verified"),
]


@pytest.mark.parametrize(("spoil", "message"), [row[1:] for row in REFUSALS], ids=[row[0] for row in REFUSALS])
def test_a_proof_that_is_none(
    checkout: Checkout, build: Path, spoil: Callable[[Path], object], message: str,
) -> None:
    spoil(build)
    assert message in publish(checkout, code=6)
    assert all(nothing_there(region) for region in REGIONS)


def test_a_build_whose_parts_do_not_fit(checkout: Checkout) -> None:
    lock = builds.lock(IMAGE, 1)
    builds.build(checkout.root, 1, packages={})
    said = publish(checkout, code=2)
    assert f"{lock.kernel.package} {lock.kernel.version} is not among the packages [one_kernel]" in said
    assert nothing_there("us-east-1")


def test_builds_and_definitions_that_are_not_there(checkout: Checkout) -> None:
    assert f"{IMAGE} has no build here" in publish(checkout, code=2)
    build = builds.build(checkout.root, 1)
    assert "has no build 000000000000 here" in publish(checkout, "--build", "0" * 12, code=2)
    checkout.define("")
    assert "its definition has no section `publish`" in publish(checkout, code=2)
    checkout.define("publish: {regions: [us-east-1]}\n")
    (build / "disk.raw").unlink()
    assert "disk.raw does not exist" in publish(checkout, code=2)


def test_a_region_without_the_hardware(checkout: Checkout, build: Path) -> None:
    checkout.define("publish: {regions: [us-east-1, me-south-1]}\n")
    text = publish(checkout, code=2)
    assert "me-south-1 has no" in text
    assert "us-east-1 has no" not in text
    assert nothing_there("us-east-1")
    publish(checkout, "--allow-missing-families")
    RegionState("me-south-1").check([build.name], build.name)


def test_an_ami_of_that_name_that_is_not_ours(checkout: Checkout, build: Path) -> None:
    state = RegionState("us-west-2")
    volume = state.ec2.create_volume(AvailabilityZone="us-west-2a", Size=1)["VolumeId"]
    snapshot = state.ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    state.ec2.get_waiter("snapshot_completed").wait(SnapshotIds=[snapshot], WaiterConfig={"Delay": 1})
    state.ec2.register_image(Name=f"{IMAGE}-{build.name}", RootDeviceName="/dev/xvda", Architecture="x86_64",
                             VirtualizationType="hvm",
                             BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot}}])
    assert "was not made by this pipeline" in publish(checkout, code=2)
    assert nothing_there("us-east-1")


def test_an_ami_deleted_behind_our_back_is_made_again(checkout: Checkout, build: Path) -> None:
    checkout.define("publish: {regions: [us-east-1, us-west-2], transfer: upload}\n")
    publish(checkout)
    state = RegionState("us-west-2")
    gone = state.amis()[f"{IMAGE}-{build.name}"]["ImageId"]
    state.ec2.deregister_image(ImageId=gone)
    assert f"latest: {gone} -> the new AMI" in publish(checkout)
    for region in REGIONS:
        RegionState(region).check([build.name], build.name)
    assert state.parameter("latest") != gone


def test_an_attribute_changed_behind_our_back_is_corrected_or_named(checkout: Checkout, build: Path) -> None:
    publish(checkout)
    state = RegionState("us-east-1")
    ami = state.amis()[f"{IMAGE}-{build.name}"]["ImageId"]
    state.ec2.modify_image_attribute(ImageId=ami, Attribute="launchPermission",
                                     LaunchPermission={"Add": [{"UserId": "210987654321"}]})
    state.ec2.disable_image_deprecation(ImageId=ami)
    text = publish(checkout)
    assert f"correct {ami}: launch permissions: ['210987654321'], not []" in text
    assert f"correct {ami}: deprecation date: False, not True" in text
    assert "nothing to do" in publish(checkout)
    state.ec2.disable_image(ImageId=ami)
    assert f"{ami} ({IMAGE}-{build.name}) is disabled" in publish(checkout, code=2)
