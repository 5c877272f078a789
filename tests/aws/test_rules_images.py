"""What the emulator's snapshots and AMIs are, where a table cannot say it."""

from __future__ import annotations

import base64
import datetime
import hashlib
from collections.abc import Callable
from typing import Any

from support.aws.emulator_probe import (
    ACCOUNT,
    KEY,
    OTHER_REGION,
    REGION,
    STRANGER,
    STRANGERS_KEY,
    ProbeAccount,
    block,
    probe,
    refused,
)
from support.waiting import until

ROOT_DEVICE = "/dev/xvda"
DAY = datetime.timedelta(days=1)
SHARE = {"LaunchPermission": {"Add": [{"UserId": STRANGER}]}}


def tags(kind: str, **values: str) -> dict[str, Any]:
    listed = [{"Key": key, "Value": value} for key, value in values.items()]
    return {"ResourceType": kind, "Tags": listed}


def tagged(described: dict[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in described.get("Tags", [])}


def described(account: ProbeAccount, snapshot: str, region: str = REGION) -> dict[str, Any]:
    ec2 = account.client("ec2", region)
    found: dict[str, Any] = ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]
    return found


# --- snapshots ----------------------------------------------------------------------------------


@probe("linear_checksum")
def test_the_whole_is_checked_in_the_order_of_blocks(account: ProbeAccount) -> None:
    snapshot = account.start()
    high, low = account.put(snapshot, 7, block("a")), account.put(snapshot, 3, block("b"))
    right, wrong = (base64.b64encode(hashlib.sha256(both).digest()).decode()
                    for both in (low + high, high + low))
    asked = {"SnapshotId": snapshot, "ChangedBlocksCount": 2, "ChecksumAlgorithm": "SHA256",
             "ChecksumAggregationMethod": "LINEAR"}
    refused("ValidationException", account.ebs.complete_snapshot, **asked, Checksum=wrong)
    account.ebs.complete_snapshot(**asked, Checksum=right)
    assert account.blocks(snapshot) == {3: block("b"), 7: block("a")}


@probe("pending_until_complete")
def test_a_snapshot_is_pending_until_complete(account: ProbeAccount) -> None:
    account.set(pending_s=3600)
    snapshot = account.start()
    assert described(account, snapshot)["State"] == "pending"
    account.ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=0)
    assert described(account, snapshot)["State"] == "pending"
    account.set(pending_s=0)
    assert described(account, snapshot)["State"] == "completed"


@probe("parent_fits", "snapshots_are_related")
def test_a_parent_is_inherited_from_and_compared_with(account: ProbeAccount) -> None:
    parent = account.snapshot(2, {0: block("a"), 1: block("b")})
    child = account.snapshot(3, {1: block("c"), 2: block("d")}, ParentSnapshotId=parent)
    changed = account.ebs.list_changed_blocks(FirstSnapshotId=parent, SecondSnapshotId=child)
    assert [(each["BlockIndex"], "FirstBlockToken" in each) for each in changed["ChangedBlocks"]] \
        == [(1, True), (2, False)]
    account.ec2.delete_snapshot(SnapshotId=parent)
    assert account.blocks(child) == {0: block("a"), 1: block("c"), 2: block("d")}


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


@probe("paginate")
def test_blocks_are_listed_in_pages(account: ProbeAccount) -> None:
    snapshot = account.snapshot(1, {2 * index: block(str(index)) for index in range(130)})
    listed = account.ebs.list_snapshot_blocks
    first = listed(SnapshotId=snapshot, MaxResults=100, StartingBlockIndex=3)
    assert [each["BlockIndex"] for each in first["Blocks"]] == list(range(4, 204, 2))
    rest = listed(SnapshotId=snapshot, MaxResults=100, NextToken=first["NextToken"])
    assert len(rest["Blocks"]) == 28 and "NextToken" not in rest


def test_a_bit_can_be_flipped_behind_the_api(
    account_at: Callable[[str], ProbeAccount], emulator: Any,
) -> None:
    account = account_at("emulator")
    snapshot = account.snapshot(blocks={0: block("a"), 1: block("b")})
    emulator.damage(snapshot, REGION, block=1, bit=9)
    assert account.blocks(snapshot) == {0: block("a"), 1: b"b\x02" + block("b")[2:]}


# --- AMIs ---------------------------------------------------------------------------------------


@probe("register_image")
def test_an_image_keeps_every_field(account: ProbeAccount) -> None:
    ebs = {"SnapshotId": account.snapshot(2), "VolumeSize": 8, "VolumeType": "gp3",
           "DeleteOnTermination": True}
    device = {"DeviceName": ROOT_DEVICE, "Ebs": ebs}
    asked = {"Description": "first", "BootMode": "uefi", "TpmSupport": "v2.0",
             "ImdsSupport": "v2.0"}
    image = account.image(BlockDeviceMappings=[device], **asked,
                          TagSpecifications=[tags("image", colour="gold")])
    found = account.describe(image)
    wanted = asked | {
        "Architecture": "x86_64", "EnaSupport": True, "VirtualizationType": "hvm",
        "RootDeviceName": ROOT_DEVICE, "RootDeviceType": "ebs", "OwnerId": ACCOUNT,
        "Name": "golden-1", "Public": False, "State": "available"}
    assert {key: found.get(key) for key in wanted} == wanted
    assert tagged(found) == {"colour": "gold"}
    assert found["BlockDeviceMappings"] == [
        {"DeviceName": ROOT_DEVICE, "Ebs": {**ebs, "Encrypted": False}}]
    bare = account.ec2.register_image(Name="bare", RootDeviceName=ROOT_DEVICE,
                                      BlockDeviceMappings=[device])
    found = account.describe(bare["ImageId"])
    assert (found["Architecture"], found["VirtualizationType"]) == ("i386", "paravirtual")


def copy(account: ProbeAccount, image: str, **more: Any) -> dict[str, Any]:
    """A copy in another region, as it is described."""
    ec2 = account.client("ec2", OTHER_REGION)
    made = ec2.copy_image(Name="copy", SourceImageId=image, SourceRegion=REGION, **more)["ImageId"]
    found: dict[str, Any] = ec2.describe_images(ImageIds=[made])["Images"][0]
    return found


@probe("copy_names_its_source")
def test_a_copy_keeps_and_names_its_source(account: ProbeAccount) -> None:
    image = account.image(BootMode="uefi-preferred", ImdsSupport="v2.0",
                          TagSpecifications=[tags("image", a="1")])
    account.ec2.modify_image_attribute(ImageId=image, **SHARE)
    made = copy(account, image, TagSpecifications=[tags("image", b="2"), tags("snapshot", c="3")])
    assert (made["SourceImageId"], made["SourceImageRegion"]) == (image, REGION)
    kept = (made["BootMode"], made["ImdsSupport"], made["EnaSupport"])
    assert kept == ("uefi-preferred", "v2.0", True)
    assert tagged(made) == {"b": "2"}
    assert tagged(copy(account, image, CopyImageTags=True)) == {"a": "1"}
    snapshot = made["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    assert tagged(described(account, snapshot, OTHER_REGION)) == {"c": "3"}
    shared = account.client("ec2", OTHER_REGION).describe_image_attribute(
        ImageId=made["ImageId"], Attribute="launchPermission")
    assert shared["LaunchPermissions"] == []


@probe("copy_is_encrypted_like_this")
def test_a_copy_may_be_encrypted_and_stays_so(account: ProbeAccount) -> None:
    plain = account.image()
    secret = account.image("secret", account.snapshot(1, Encrypted=True))
    for image, given, wanted in ((plain, {}, False), (plain, {"Encrypted": True}, True),
                                 (secret, {}, True)):
        made = copy(account, image, **given)
        assert made["BlockDeviceMappings"][0]["Ebs"]["Encrypted"] is wanted


@probe("create_image")
def test_create_image_tags_snapshots_and_keeps_the_size(account: ProbeAccount) -> None:
    instance = account.launch(ImageId=account.image(snapshot=account.snapshot(3, {0: block("a")})))
    made = account.ec2.create_image(
        InstanceId=instance["InstanceId"], Name="made",
        TagSpecifications=[tags("image", a="1"), tags("snapshot", b="2")])
    found = account.describe(made["ImageId"])
    ebs = found["BlockDeviceMappings"][0]["Ebs"]
    assert tagged(found) == {"a": "1"}
    assert tagged(described(account, ebs["SnapshotId"])) == {"b": "2"}
    assert (ebs["VolumeSize"], found["Architecture"]) == (3, "x86_64")
    assert account.blocks(ebs["SnapshotId"]) == {0: block("a")}


@probe("image_filter")
def test_images_are_filtered(account: ProbeAccount) -> None:
    snapshot = account.snapshot()
    image = account.image("golden-1", snapshot, TagSpecifications=[tags("image", colour="gold")])
    account.image("other")
    for name, value in (("block-device-mapping.snapshot-id", snapshot), ("name", "gold*-?"),
                        ("tag:colour", "g?ld"), ("tag-key", "colour"), ("image-id", image)):
        asked = [{"Name": name, "Values": ["nothing", value]}]
        images = account.ec2.describe_images(Filters=asked)["Images"]
        assert [each["ImageId"] for each in images] == [image], name


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


@probe("delete_associated")
def test_associated_snapshots_are_deleted(account: ProbeAccount) -> None:
    shared, own = account.snapshot(), account.snapshot()
    account.image("other", shared)
    devices = [{"DeviceName": name, "Ebs": {"SnapshotId": snapshot}}
               for name, snapshot in ((ROOT_DEVICE, own), ("/dev/sdb", shared))]
    image = account.image(BlockDeviceMappings=devices)
    answer = account.ec2.deregister_image(ImageId=image, DeleteAssociatedSnapshots=True)
    results = {each["SnapshotId"]: each["ReturnCode"] for each in answer["DeleteSnapshotResults"]}
    assert results == {own: "success", shared: "skipped"}
    left = account.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]
    assert [each["SnapshotId"] for each in left] == [shared]


def test_what_is_pending_ends_by_itself(account_at: Callable[[str], ProbeAccount]) -> None:
    account = account_at("emulator")
    account.set(pending_s=0.05)
    snapshot = account.snapshot()
    until("a completed snapshot", lambda: described(account, snapshot)["State"] != "pending")
    image = account.image(snapshot=snapshot)
    until("an available AMI", lambda: account.describe(image)["State"] != "pending")


def test_what_was_over_stays_so_and_may_seem_older(
    account_at: Callable[[str], ProbeAccount],
) -> None:
    account = account_at("emulator")
    account.set(backdate_days=400)
    image = account.image()
    account.set(pending_s=3600)
    found = account.describe(image)
    created = datetime.datetime.fromisoformat(found["CreationDate"])
    age = datetime.datetime.now(datetime.UTC) - created
    assert (found["State"], age.days) == ("available", 400)
    assert account.describe(account.image("new", snapshot_of(account)))["State"] == "pending"


def snapshot_of(account: ProbeAccount) -> str:
    """A completed snapshot, whatever the settings say of new ones."""
    account.set(pending_s=0)
    snapshot = account.snapshot()
    account.set(pending_s=3600)
    return snapshot
