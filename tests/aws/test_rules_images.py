"""What the emulator's snapshots and AMIs are, where a table cannot say it."""

from __future__ import annotations

import datetime
from typing import Any

from support.aws.emulator_probe import KEY, STRANGER, STRANGERS_KEY, ProbeAccount, probe

SHARE = {"LaunchPermission": {"Add": [{"UserId": STRANGER}]}}


def described(account: ProbeAccount, snapshot: str) -> dict[str, Any]:
    found: dict[str, Any] = account.ec2.describe_snapshots(
        SnapshotIds=[snapshot])["Snapshots"][0]
    return found


# --- snapshots ----------------------------------------------------------------------------------


@probe("pending_until_complete")
def test_a_snapshot_is_pending_until_complete(account: ProbeAccount) -> None:
    account.set(pending_s=3600)
    snapshot = account.start()
    assert described(account, snapshot)["State"] == "pending"
    account.ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=0)
    assert described(account, snapshot)["State"] == "pending"
    account.set(pending_s=0)
    assert described(account, snapshot)["State"] == "completed"


@probe("get_ebs_default_kms_key_id", "key_of_new")
def test_encryption_by_default_is_by_the_accounts_default_key(account: ProbeAccount) -> None:
    def key_of(snapshot: str) -> Any:
        return described(account, snapshot).get("KmsKeyId")

    kms = account.client("kms")
    plain = account.snapshot()
    assert key_of(plain) is None
    account.ec2.enable_ebs_encryption_by_default()
    assert account.ec2.get_ebs_default_kms_key_id()["KmsKeyId"] == "alias/aws/ebs"
    first = account.snapshot()
    assert key_of(first) == kms.describe_key(KeyId="alias/aws/ebs")["KeyMetadata"]["Arn"]
    own = kms.create_key()["KeyMetadata"]["Arn"]
    account.ec2.modify_ebs_default_kms_key_id(KmsKeyId=own)
    second = account.snapshot()
    assert (key_of(second), account.ec2.get_ebs_default_kms_key_id()["KmsKeyId"]) == (own, own)
    assert key_of(account.snapshot(ParentSnapshotId=first)) == key_of(first)
    account.ec2.disable_ebs_encryption_by_default()
    assert key_of(account.snapshot(ParentSnapshotId=plain)) is None


# --- AMIs ---------------------------------------------------------------------------------------


@probe("disabled_is_hidden", "disabled_is_not_shared")
def test_a_disabled_image_is_hidden_and_shared_no_longer(account: ProbeAccount) -> None:
    image = account.image()
    account.ec2.modify_image_attribute(ImageId=image, **SHARE)
    account.ec2.disable_image(ImageId=image)
    assert account.ec2.describe_images(Owners=["self"])["Images"] == []
    assert account.describe(image, IncludeDisabled=True)["State"] == "disabled"
    account.ec2.enable_image(ImageId=image)
    assert account.describe(image)["State"] == "available"
    shared = account.ec2.describe_image_attribute(ImageId=image, Attribute="launchPermission")
    assert shared["LaunchPermissions"] == []


@probe("deprecation_date", "deprecated_is_hidden")
def test_a_deprecated_image_is_hidden_from_others(account: ProbeAccount) -> None:
    image, now = account.image(), datetime.datetime.now(datetime.UTC)
    account.set(accounts={STRANGERS_KEY: STRANGER})
    account.ec2.modify_image_attribute(ImageId=image, **SHARE)
    odd = datetime.datetime(now.year + 2, 1, 31, 12, 0, 31, tzinfo=datetime.UTC)
    account.ec2.enable_image_deprecation(ImageId=image, DeprecateAt=odd)
    assert account.describe(image)["DeprecationTime"] == f"{now.year + 2}-01-31T12:01:00.000Z"

    def seen(key: str, **more: Any) -> list[str]:
        images = account.client("ec2", key=key).describe_images(**more)["Images"]
        return [each["ImageId"] for each in images]
    assert seen(STRANGERS_KEY) == [image]
    account.ec2.enable_image_deprecation(ImageId=image,
                                         DeprecateAt=datetime.datetime.now(datetime.UTC))
    account.set(clock_ahead_s=60)  # the date was rounded to a minute
    assert (seen(KEY), seen(STRANGERS_KEY)) == ([image], [])
    assert seen(STRANGERS_KEY, IncludeDeprecated=True) == [image]
    account.ec2.disable_image_deprecation(ImageId=image)
    assert "DeprecationTime" not in account.describe(image)
