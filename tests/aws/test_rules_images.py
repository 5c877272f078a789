from __future__ import annotations

import datetime
from typing import Any

import pytest
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

ROOT_DEVICE = "/dev/xvda"


def _devices(snapshot: str, **ebs: Any) -> list[dict[str, Any]]:
    return [{"DeviceName": ROOT_DEVICE, "Ebs": {"SnapshotId": snapshot, **ebs}}]


def _tags(kind: str, **tags: str) -> dict[str, Any]:
    return {"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}


def _tagged(shown: dict[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in shown.get("Tags", [])}


@probe("register_image")
def test_an_image_keeps_every_field(account: ProbeAccount) -> None:
    snapshot = account.snapshot(2)
    image = account.image(
        "golden-1", Description="first", BootMode="uefi", TpmSupport="v2.0", ImdsSupport="v2.0",
        BlockDeviceMappings=_devices(snapshot, VolumeSize=8, VolumeType="gp3", DeleteOnTermination=True),
        TagSpecifications=[_tags("image", colour="gold")])
    shown = account.describe(image)
    attributes = {"Architecture": "x86_64", "BootMode": "uefi", "TpmSupport": "v2.0", "ImdsSupport": "v2.0",
              "EnaSupport": True, "VirtualizationType": "hvm", "RootDeviceName": ROOT_DEVICE, "RootDeviceType": "ebs",
              "OwnerId": ACCOUNT, "Name": "golden-1", "Description": "first", "Public": False, "State": "available"}
    assert {key: shown.get(key) for key in attributes} == attributes
    assert _tagged(shown) == {"colour": "gold"}
    assert shown["BlockDeviceMappings"] == [{"DeviceName": ROOT_DEVICE, "Ebs": {
        "SnapshotId": snapshot, "VolumeSize": 8, "VolumeType": "gp3", "DeleteOnTermination": True, "Encrypted": False}}]
    bare = account.ec2.register_image(Name="bare", RootDeviceName=ROOT_DEVICE, BlockDeviceMappings=_devices(snapshot))
    shown = account.describe(bare["ImageId"])
    assert (shown["Architecture"], shown["VirtualizationType"]) == ("i386", "paravirtual")


@probe("name_is_free")
def test_a_name_is_free(account: ProbeAccount) -> None:
    first = account.image("golden-1")
    assert first in refused("InvalidAMIName.Duplicate", account.image, name="golden-1")
    account.ec2.deregister_image(ImageId=first)
    account.image("golden-1")


@probe("name_is_well_formed")
def test_a_name_is_well_formed(account: ProbeAccount) -> None:
    for name in ("gold*", "gold:1"):
        refused("InvalidAMIName.Malformed", account.image, name=name)
    account.image("golden (1) [a]/b-c'd@e_f.g")


@probe("snapshot_is_ready")
def test_a_snapshot_is_there_and_complete(account: ProbeAccount) -> None:
    refused("InvalidSnapshot.NotFound", account.image, snapshot="snap-00000000000000000")
    refused("IncorrectState", account.image, snapshot=account.start())
    account.image(snapshot=account.snapshot())


@probe("volume_holds_snapshot")
def test_a_volume_holds_its_snapshot(account: ProbeAccount) -> None:
    snapshot = account.snapshot(2)
    refused("InvalidBlockDeviceMapping", account.image, BlockDeviceMappings=_devices(snapshot, VolumeSize=1))
    account.image(BlockDeviceMappings=_devices(snapshot, VolumeSize=2))


@probe("encryption_is_the_snapshots")
def test_encryption_is_the_snapshots(account: ProbeAccount) -> None:
    snapshot = account.snapshot(1, Encrypted=True)
    refused("InvalidBlockDeviceMapping", account.image, BlockDeviceMappings=_devices(snapshot, Encrypted=True))
    assert account.describe(account.image(snapshot=snapshot))["BlockDeviceMappings"][0]["Ebs"]["Encrypted"] is True


@probe("tpm_needs_uefi")
def test_a_tpm_needs_uefi(account: ProbeAccount) -> None:
    refused("InvalidParameterCombination", account.image, TpmSupport="v2.0", BootMode="legacy-bios")
    account.image(TpmSupport="v2.0", BootMode="uefi")


# --- copies -----------------------------------------------------------------------------------------------------------

def _copy(account: ProbeAccount, image: str, **more: Any) -> dict[str, Any]:
    other_region = account.client("ec2", OTHER_REGION)
    copy = other_region.copy_image(Name="copy", SourceImageId=image, SourceRegion=REGION, **more)["ImageId"]
    shown: dict[str, Any] = other_region.describe_images(ImageIds=[copy])["Images"][0]
    return shown


@probe("copy_names_its_source")
def test_a_copy_keeps_and_names_its_source(account: ProbeAccount) -> None:
    image = account.image(BootMode="uefi-preferred", ImdsSupport="v2.0", TagSpecifications=[_tags("image", a="1")])
    account.ec2.modify_image_attribute(ImageId=image, LaunchPermission={"Add": [{"UserId": STRANGER}]})
    copy = _copy(account, image, TagSpecifications=[_tags("image", b="2"), _tags("snapshot", c="3")])
    assert (copy["SourceImageId"], copy["SourceImageRegion"]) == (image, REGION)
    assert (copy["BootMode"], copy["ImdsSupport"], copy["EnaSupport"]) == ("uefi-preferred", "v2.0", True)
    assert _tagged(copy) == {"b": "2"}
    assert _tagged(_copy(account, image, CopyImageTags=True)) == {"a": "1"}
    other_region = account.client("ec2", OTHER_REGION)
    (snapshot,) = other_region.describe_snapshots(
        SnapshotIds=[copy["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]])["Snapshots"]
    assert _tagged(snapshot) == {"c": "3"}
    assert other_region.describe_image_attribute(ImageId=copy["ImageId"], Attribute="launchPermission")[
        "LaunchPermissions"] == []


@probe("copy_is_encrypted_like_this")
def test_a_copy_may_be_encrypted_and_stays_so(account: ProbeAccount) -> None:
    image = account.image()
    refused("InvalidParameterDependency", _copy, account=account, image=image, KmsKeyId="alias/mine")
    for given, wanted in ((None, False), (True, True)):
        copy = _copy(account, image, **({} if given is None else {"Encrypted": given}))
        assert copy["BlockDeviceMappings"][0]["Ebs"]["Encrypted"] is wanted
    secret = account.image("secret", account.snapshot(1, Encrypted=True))
    assert _copy(account, secret)["BlockDeviceMappings"][0]["Ebs"]["Encrypted"] is True


@probe("copy_image")
def test_a_token_makes_one_copy(account: ProbeAccount) -> None:
    image = account.image()
    copies = [_copy(account, image, ClientToken="one")["ImageId"] for _ in range(2)]
    assert copies[0] == copies[1] != _copy(account, image, ClientToken="two")["ImageId"]
    refused("IdempotentParameterMismatch", _copy, account=account, image=image, ClientToken="one", Description="other")


@probe("source_is_available")
def test_only_an_available_image_is_copied(account: ProbeAccount) -> None:
    image = account.image()
    account.ec2.disable_image(ImageId=image)
    refused("InvalidAMIID.Unavailable", _copy, account=account, image=image)
    account.ec2.enable_image(ImageId=image)
    _copy(account, image)


@probe("create_image")
def test_create_image_tags_snapshots_and_keeps_the_size(account: ProbeAccount) -> None:
    image = account.image(snapshot=account.snapshot(3, {0: block("a")}))
    launched = account.ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, InstanceType="g5.xlarge")
    created = account.ec2.create_image(
        InstanceId=launched["Instances"][0]["InstanceId"], Name="made",
        TagSpecifications=[_tags("image", a="1"), _tags("snapshot", b="2")])["ImageId"]
    shown = account.describe(created)
    ebs = shown["BlockDeviceMappings"][0]["Ebs"]
    shot = account.ec2.describe_snapshots(SnapshotIds=[ebs["SnapshotId"]])["Snapshots"][0]
    assert (_tagged(shown), _tagged(shot)) == ({"a": "1"}, {"b": "2"})
    assert (ebs["VolumeSize"], shown["Architecture"]) == (3, "x86_64")
    listed = account.ebs.list_snapshot_blocks(SnapshotId=shot["SnapshotId"])["Blocks"]
    assert [each["BlockIndex"] for each in listed] == [0]


# --- finding ----------------------------------------------------------------------------------------------------------

@probe("image_filter")
def test_images_are_filtered_by_every_documented_name(account: ProbeAccount) -> None:
    snapshot = account.snapshot()
    image = account.image("golden-1", snapshot, ImdsSupport="v2.0", TagSpecifications=[_tags("image", colour="gold")])
    account.image("other", EnaSupport=False)
    for name, value in (("block-device-mapping.snapshot-id", snapshot), ("imds-support", "v2.0"), ("name", "gold*-?"),
                        ("ena-support", "true"), ("tag:colour", "g?ld"), ("tag-key", "colour"), ("image-id", image)):
        images = account.ec2.describe_images(Filters=[{"Name": name, "Values": ["nothing", value]}])["Images"]
        assert [each["ImageId"] for each in images] == [image], name
    for name in ("source-image-id", "block-device-mapping.encrypted"):
        assert account.ec2.describe_images(Filters=[{"Name": name, "Values": ["ami-1"]}])["Images"] == []
    refused("InvalidParameterValue", account.ec2.describe_images, Filters=[{"Name": "colour", "Values": ["gold"]}])


@probe("paginate")
def test_images_are_listed_in_pages(account: ProbeAccount) -> None:
    snapshot = account.snapshot()
    image_ids = [account.image(f"golden-{number}", snapshot) for number in range(7)]
    first = account.ec2.describe_images(Owners=["self"], MaxResults=5)
    rest = account.ec2.describe_images(Owners=["self"], MaxResults=5, NextToken=first["NextToken"])
    assert [each["ImageId"] for each in first["Images"] + rest["Images"]] == image_ids
    assert not rest.get("NextToken")
    refused("InvalidParameterValue", account.ec2.describe_images, NextToken="nonsense")


@probe("every_image_is_known")
def test_one_unknown_image_fails_the_request(account: ProbeAccount) -> None:
    image = account.image()
    refused("InvalidAMIID.NotFound", account.ec2.describe_images, ImageIds=[image, "ami-00000000000000000"])


@probe("find")
def test_a_deregistered_image_is_unavailable(account: ProbeAccount) -> None:
    image = account.image()
    account.ec2.deregister_image(ImageId=image)
    for call in (account.ec2.deregister_image, account.ec2.disable_image, account.ec2.disable_image_deprecation):
        refused("InvalidAMIID.Unavailable", call, ImageId=image)
    refused("InvalidAMIID.NotFound", account.ec2.disable_image_deprecation, ImageId="ami-00000000000000000")


@probe("describe_snapshots")
def test_snapshots_are_listed_in_pages(account: ProbeAccount) -> None:
    snapshot_ids = [account.snapshot() for _ in range(7)]
    first = account.ec2.describe_snapshots(OwnerIds=["self"], MaxResults=5)
    rest = account.ec2.describe_snapshots(OwnerIds=["self"], NextToken=first["NextToken"])
    assert [each["SnapshotId"] for each in first["Snapshots"] + rest["Snapshots"]] == snapshot_ids
    refused("InvalidParameterCombination", account.ec2.describe_snapshots, SnapshotIds=snapshot_ids[:1], MaxResults=5)
    refused("InvalidParameterValue", account.ec2.describe_snapshots, MaxResults=4)


# --- the end of an image ----------------------------------------------------------------------------------------------

@probe("disabled_is_hidden")
def test_a_disabled_image_is_hidden(account: ProbeAccount) -> None:
    image = account.image()
    account.ec2.disable_image(ImageId=image)
    assert account.ec2.describe_images(Owners=["self"])["Images"] == []
    assert account.describe(image, IncludeDisabled=True)["State"] == "disabled"
    account.ec2.enable_image(ImageId=image)
    assert account.describe(image)["State"] == "available"


@probe("disabled_is_not_shared")
def test_a_disabled_image_is_shared_with_nobody(account: ProbeAccount) -> None:
    image = account.image()
    share = {"ImageId": image, "LaunchPermission": {"Add": [{"UserId": STRANGER}]}}

    def shared() -> list[Any]:
        found: list[Any] = account.ec2.describe_image_attribute(ImageId=image, Attribute="launchPermission")[
            "LaunchPermissions"]
        return found
    account.ec2.modify_image_attribute(**share)
    assert shared() == [{"UserId": STRANGER}]
    account.ec2.disable_image(ImageId=image)
    refused("InvalidAMIID.Unavailable", account.ec2.modify_image_attribute, **share)
    account.ec2.enable_image(ImageId=image)
    assert shared() == []


@probe("deprecation_date")
def test_a_deprecation_is_in_the_future(account: ProbeAccount) -> None:
    image, now = account.image(), datetime.datetime.now(datetime.UTC)
    deprecate = account.ec2.enable_image_deprecation
    for wrong in (now - datetime.timedelta(days=1), now + datetime.timedelta(days=11 * 365)):
        refused("InvalidParameterValue", deprecate, ImageId=image, DeprecateAt=wrong)
    deprecate(ImageId=image, DeprecateAt=datetime.datetime(now.year + 2, 1, 31, 12, 0, 31, tzinfo=datetime.UTC))
    assert account.describe(image)["DeprecationTime"] == f"{now.year + 2}-01-31T12:01:00.000Z"
    account.ec2.disable_image_deprecation(ImageId=image)
    assert "DeprecationTime" not in account.describe(image)


@probe("deprecated_is_hidden")
def test_a_deprecated_image_is_hidden_from_others(account: ProbeAccount) -> None:
    image, soon = account.image(), datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)
    account.set(accounts={STRANGERS_KEY: STRANGER})
    account.ec2.modify_image_attribute(ImageId=image, LaunchPermission={"Add": [{"UserId": STRANGER}]})
    account.ec2.enable_image_deprecation(ImageId=image, DeprecateAt=soon)

    def seen(key: str, **more: Any) -> list[str]:
        images = account.client("ec2", key=key).describe_images(**more)["Images"]
        return [each["ImageId"] for each in images]
    assert seen(STRANGERS_KEY) == [image]
    account.set(clock_ahead_s=0)
    account.ec2.enable_image_deprecation(ImageId=image, DeprecateAt=datetime.datetime.now(datetime.UTC))
    assert seen(KEY) == [image]
    assert seen(STRANGERS_KEY, IncludeDeprecated=True) == [image]


@probe("protected_is_not_deregistered")
def test_a_protected_image_stays(account: ProbeAccount) -> None:
    image = account.image()
    account.ec2.enable_image_deregistration_protection(ImageId=image)
    assert account.describe(image)["DeregistrationProtection"] == "enabled-without-cooldown"
    refused("OperationNotPermitted", account.ec2.deregister_image, ImageId=image)
    account.ec2.disable_image_deregistration_protection(ImageId=image)
    account.ec2.deregister_image(ImageId=image)
    cooling = account.image("cooling")
    account.ec2.enable_image_deregistration_protection(ImageId=cooling, WithCooldown=True)
    account.ec2.disable_image_deregistration_protection(ImageId=cooling)
    refused("OperationNotPermitted", account.ec2.deregister_image, ImageId=cooling)


@probe("delete_associated")
def test_associated_snapshots_are_deleted(account: ProbeAccount) -> None:
    shared, own = account.snapshot(), account.snapshot()
    account.image("other", shared)
    second = {"DeviceName": "/dev/sdb", "Ebs": {"SnapshotId": shared}}
    image = account.image(BlockDeviceMappings=[*_devices(own), second])
    results = account.ec2.deregister_image(ImageId=image, DeleteAssociatedSnapshots=True)["DeleteSnapshotResults"]
    assert {each["SnapshotId"]: each["ReturnCode"] for each in results} == {own: "success", shared: "skipped"}
    left = account.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]
    assert [each["SnapshotId"] for each in left] == [shared]


@probe("snapshot_of_an_ami_stays")
def test_a_snapshot_in_use_stays(account: ProbeAccount) -> None:
    snapshot = account.snapshot()
    image = account.image(snapshot=snapshot)
    account.ec2.disable_image(ImageId=image)
    assert image in refused("InvalidSnapshot.InUse", account.ec2.delete_snapshot, SnapshotId=snapshot)
    account.ec2.deregister_image(ImageId=image)
    account.ec2.delete_snapshot(SnapshotId=snapshot)


@probe("modify_snapshot_attribute")
def test_a_snapshot_is_shared_unless_the_default_key_hides_it(account: ProbeAccount) -> None:
    snapshot, secret = account.snapshot(), account.snapshot(1, Encrypted=True)
    share = account.ec2.modify_snapshot_attribute

    def users() -> list[Any]:
        described = account.ec2.describe_snapshot_attribute(SnapshotId=snapshot, Attribute="createVolumePermission")
        permissions: list[Any] = described["CreateVolumePermissions"]
        return permissions
    share(SnapshotId=snapshot, CreateVolumePermission={"Add": [{"UserId": STRANGER}]})
    assert users() == [{"UserId": STRANGER}]
    share(SnapshotId=snapshot, Attribute="createVolumePermission", OperationType="remove", UserIds=[STRANGER])
    assert users() == []
    refused("OperationNotPermitted", share, SnapshotId=secret, CreateVolumePermission={"Add": [{"UserId": STRANGER}]})


@probe("imds_support_stays")
def test_imds_support_cannot_be_undone(account: ProbeAccount) -> None:
    image = account.image()
    assert "ImdsSupport" not in account.describe(image)
    account.ec2.modify_image_attribute(ImageId=image, ImdsSupport={"Value": "v2.0"})
    assert account.describe(image)["ImdsSupport"] == "v2.0"
    refused("InvalidParameterValue", account.ec2.modify_image_attribute, ImageId=image, ImdsSupport={"Value": "v1.0"})


@probe("one_attribute_at_a_time")
def test_one_attribute_at_a_time(account: ProbeAccount) -> None:
    image = account.image()
    modify = account.ec2.modify_image_attribute
    refused("InvalidParameterCombination", modify, ImageId=image, ImdsSupport={"Value": "v2.0"},
            Description={"Value": "both"})
    modify(ImageId=image, Description={"Value": "one"})
    assert account.describe(image)["Description"] == "one"


@probe("default_key_is_not_shared")
def test_the_default_key_is_not_shared(account: ProbeAccount) -> None:
    image = account.image(snapshot=account.snapshot(1, Encrypted=True))
    share = {"LaunchPermission": {"Add": [{"UserId": STRANGER}]}}
    refused("OperationNotPermitted", account.ec2.modify_image_attribute, ImageId=image, **share)
    key = account.client("kms").create_key()["KeyMetadata"]["Arn"]
    other = account.image("other", account.snapshot(1, Encrypted=True, KmsKeyArn=key))
    account.ec2.modify_image_attribute(ImageId=other, **share)


def test_an_image_and_its_copy_are_pending_first(account_at: Any) -> None:
    account = account_at("emulator")
    account.set(pending_s=3600)
    snapshot = account.snapshot()
    refused("IncorrectState", account.image, snapshot=snapshot)
    account.set(pending_s=0)
    assert account.image("other", snapshot)
    account.set(pending_s=3600)
    image = account.image(snapshot=snapshot)
    assert account.describe(image)["State"] == "pending"
    with pytest.raises(Exception, match="is pending"):
        _copy(account, image)
    account.set(pending_s=0)
    assert account.describe(image)["State"] == "available"


def test_what_was_over_stays_so_and_may_seem_older(account_at: Any) -> None:
    account = account_at("emulator")
    account.set(backdate_days=400)
    image = account.image()
    account.set(pending_s=3600)
    shown = account.describe(image)
    created = datetime.datetime.fromisoformat(shown["CreationDate"])
    age = datetime.datetime.now(datetime.UTC) - created
    assert (shown["State"], age.days) == ("available", 400)
