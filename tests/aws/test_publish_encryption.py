"""Publishing under keys that change: what is a child of what, what is refused before anything is
sent."""

from __future__ import annotations

from collections.abc import Iterator
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


def publish(checkout: Checkout, code: int = 0) -> str:
    return checkout.run("publish", IMAGE, code=code)


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
    checkout: Checkout, first: Path, ec2: Any, aws: Emulator,
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
