"""Publishing under keys that change: what is a child of what, what is refused before anything is
sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from support.aws.emulator import Emulator
from support.builds import builds
from support.builds.builds import IMAGE, Checkout, RegionState

REGION = "us-east-1"
PARTNER = "210987654321"


@pytest.fixture
def ec2(aws: Emulator) -> Iterator[Any]:
    client = boto3.client("ec2", REGION)
    yield client
    client.disable_ebs_encryption_by_default()


def define(checkout: Checkout, more: str = "") -> None:
    checkout.define(f"publish: {{regions: [{REGION}]{more}}}\n")


def publish(checkout: Checkout, *args: str, code: int = 0) -> str:
    return checkout.run("publish", IMAGE, *args, code=code)


def own_key(alias: str = "alias/golden") -> str:
    kms = boto3.client("kms", REGION)
    key = kms.create_key()["KeyMetadata"]
    kms.create_alias(AliasName=alias, TargetKeyId=key["KeyId"])
    return str(key["Arn"])


def of_build(folder: Path) -> dict[str, Any]:
    state = RegionState(REGION)
    used = state.amis()[f"{IMAGE}-{folder.name}"]["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    snapshot = next(each for each in state.snapshots() if each["SnapshotId"] == used)
    return {**snapshot, "Tags": {tag["Key"]: tag["Value"] for tag in snapshot["Tags"]}}


@pytest.fixture
def first(checkout: Checkout, ec2: Any) -> Path:
    return builds.build(checkout.root, 1)


def test_encryption_by_default_that_is_switched_on_later(
    checkout: Checkout, first: Path, ec2: Any
) -> None:
    """EBS refuses an unencrypted parent then: the whole disk goes up once, and differences from
    then on."""
    define(checkout)
    publish(checkout)
    ec2.enable_ebs_encryption_by_default()
    second = builds.build(checkout.root, 2)
    said = publish(checkout)
    old, new = of_build(first)["SnapshotId"], of_build(second)
    assert f"the whole disk: {old} is not encrypted, and new snapshots are, by arn:aws:kms:" in said
    assert new["Encrypted"] and "goldenami:parent-snapshot" not in new["Tags"]
    third = builds.build(checkout.root, 3)
    publish(checkout)
    assert of_build(third)["Tags"]["goldenami:parent-snapshot"] == new["SnapshotId"]
    RegionState(REGION).check([first.name, second.name, third.name], third.name)


@pytest.mark.slow
def test_a_key_that_is_taken_out_or_replaced(checkout: Checkout, first: Path) -> None:
    """A child has its parent's key: under another key, or none, there is no child."""
    old_key, new_key = own_key(), own_key("alias/new")
    define(checkout, ", kms_key: alias/golden")
    publish(checkout)
    assert of_build(first)["KmsKeyId"] == old_key
    second = builds.build(checkout.root, 2)
    define(checkout)
    assert "which nothing asks for any more" in publish(checkout)
    assert not of_build(second)["Encrypted"]
    third = builds.build(checkout.root, 3)
    define(checkout, ", kms_key: alias/new")
    assert f"is not encrypted, and new snapshots are, by {new_key}" in publish(checkout)
    assert of_build(third)["KmsKeyId"] == new_key


def test_a_share_that_nobody_could_use_is_refused_before_anything_is_sent(
    checkout: Checkout,
    first: Path,
    ec2: Any,
    aws: Emulator,
) -> None:
    ec2.enable_ebs_encryption_by_default()
    define(checkout, f", share_with: ['{PARTNER}']")
    assert f"{REGION} encrypts snapshots by alias/aws/ebs, which {PARTNER} cannot use" in publish(
        checkout, code=2
    )
    assert not [call for call, _ in aws.calls() if call.startswith("ebs:")]
    define(checkout)
    publish(checkout)
    define(checkout, f", share_with: ['{PARTNER}']")
    assert f"which {PARTNER} cannot use" in publish(checkout, code=2), "of an AMI that exists"


def short(key: str) -> str:
    """The id in an ARN: moto disables keys by no other name."""
    return key.rpartition("/")[2]


def disable(kms: Any, key: str) -> str:
    kms.disable_key(KeyId=short(key))
    return f"`aws kms enable-key --region {REGION} --key-id {key}`"


def delete(kms: Any, key: str) -> str:
    kms.schedule_key_deletion(KeyId=short(key), PendingWindowInDays=7)
    back = f"`aws kms cancel-key-deletion --region {REGION} --key-id {key}`"
    return f"{back}, then `aws kms enable-key --region {REGION} --key-id {key}`"


def bring_back(kms: Any, key: str) -> None:
    if kms.describe_key(KeyId=key)["KeyMetadata"]["KeyState"] == "PendingDeletion":
        kms.cancel_key_deletion(KeyId=short(key))
    kms.enable_key(KeyId=short(key))


@pytest.mark.parametrize("take_away", [disable, delete])
def test_a_key_that_is_taken_away_stops_each_move_and_is_told(
    checkout: Checkout,
    first: Path,
    ec2: Any,
    aws: Emulator,
    take_away: Callable[[Any, str], str],
) -> None:
    """The account's default key, of the user: nothing is uploaded and no pointer moves."""
    kms, key = boto3.client("kms", REGION), own_key("alias/company")
    ec2.enable_ebs_encryption_by_default()
    ec2.modify_ebs_default_kms_key_id(KmsKeyId=key)
    define(checkout)
    way_back = take_away(kms, key)
    said = publish(checkout, code=2)
    assert f"the KMS key {key} is " in said and f"to do: {way_back}" in said, said
    assert not [call for call, _ in aws.calls() if call.startswith("ebs:")]
    bring_back(kms, key)
    publish(checkout)
    second = builds.build(checkout.root, 2)
    publish(checkout)
    assert "is encrypted" not in checkout.run("status", IMAGE) + checkout.run("drift", IMAGE)
    way_back = take_away(kms, key)
    amis = {name: ami["ImageId"] for name, ami in RegionState(REGION).amis().items()}
    for command in ("status", "drift"):
        told = checkout.run(command, IMAGE, code=6)
        for ami in amis.values():
            assert f"{ami} cannot be launched: the KMS key {key} is " in told, told
        assert way_back in told
    assert way_back in checkout.run("rollback", IMAGE, code=2)
    assert RegionState(REGION).parameter("latest") == amis[f"{IMAGE}-{second.name}"]
    bring_back(kms, key)
    checkout.run("rollback", IMAGE)
    take_away(kms, key)
    ec2.delete_launch_template(LaunchTemplateName=f"golden-{IMAGE}")
    assert way_back in publish(checkout, "--build", first.name, code=2), "an AMI that is there"
    assert RegionState(REGION).template() is None


def test_a_key_that_nobody_may_look_at_is_told_and_the_rest_is_shown(
    checkout: Checkout, first: Path, ec2: Any, aws: Emulator
) -> None:
    ec2.enable_ebs_encryption_by_default()
    define(checkout)
    publish(checkout)
    aws.set(denied={"*": ["kms:DescribeKey"]})
    told = checkout.run("status", IMAGE, code=6)
    assert "nobody here may look at its KMS key" in told and first.name in told, told
