"""The emulator's rules of root volumes: each shown to be kept, and not by moto alone."""

from __future__ import annotations

from typing import Any

from ec2_emulator.block_store import BLOCK
from support.aws.emulator_probe import REGION, ProbeAccount, block, probe, refused

TYPE = "m7i.large"


def instance_of(account: ProbeAccount, image: str) -> str:
    return str(account.ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, InstanceType=TYPE)["Instances"][0][
        "InstanceId"])


def described(account: ProbeAccount, instance: str) -> dict[str, Any]:
    found: dict[str, Any] = account.ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]
    return found


def root(account: ProbeAccount, instance: str) -> str:
    return str(described(account, instance)["BlockDeviceMappings"][0]["Ebs"]["VolumeId"])


def blocks(account: ProbeAccount, snapshot: str) -> dict[int, bytes]:
    """The blocks that a snapshot lists."""
    listed = account.ebs.list_snapshot_blocks(SnapshotId=snapshot)["Blocks"]
    return {each["BlockIndex"]: account.ebs.get_snapshot_block(
        SnapshotId=snapshot, BlockIndex=each["BlockIndex"], BlockToken=each["BlockToken"])["BlockData"].read()
        for each in listed}


def snapshot_of(account: ProbeAccount, instance: str) -> str:
    return str(account.ec2.create_snapshot(VolumeId=root(account, instance))["SnapshotId"])


def test_a_snapshot_has_what_was_written_before_it(account_at: Any) -> None:
    """And only the changed blocks differ from the AMI's snapshot, whose content an instance inherits."""
    account = account_at("emulator")
    origin = account.snapshot(blocks={0: block("a"), 1: block("b")})
    instance = instance_of(account, account.image(snapshot=origin))
    before = snapshot_of(account, instance)
    account._control.write(instance, REGION, BLOCK - 2, b"1234")
    after = snapshot_of(account, instance)
    assert blocks(account, before) == {0: block("a"), 1: block("b")}
    assert blocks(account, after) == {0: block("a")[:-2] + b"12", 1: b"34" + block("b")[2:]}
    changed = account.ebs.list_changed_blocks(FirstSnapshotId=origin, SecondSnapshotId=after)["ChangedBlocks"]
    assert [each["BlockIndex"] for each in changed] == [0, 1]
    assert account.ebs.list_changed_blocks(FirstSnapshotId=origin, SecondSnapshotId=before)["ChangedBlocks"] == []


@probe("replace", "describe_replace_root_volume_tasks")
def test_a_root_volume_is_replaced_by_that_of_another_ami(account: ProbeAccount) -> None:
    old, new = account.image("old"), account.image("new", account.snapshot(blocks={3: block("new")}))
    instance = instance_of(account, old)
    volume = root(account, instance)
    task = account.ec2.create_replace_root_volume_task(
        InstanceId=instance, ImageId=new, DeleteReplacedRootVolume=True, ClientToken="t")["ReplaceRootVolumeTask"]
    assert account.ec2.create_replace_root_volume_task(
        InstanceId=instance, ImageId=new, DeleteReplacedRootVolume=True, ClientToken="t")["ReplaceRootVolumeTask"][
            "ReplaceRootVolumeTaskId"] == task["ReplaceRootVolumeTaskId"]
    (done,) = account.ec2.describe_replace_root_volume_tasks(
        Filters=[{"Name": "instance-id", "Values": [instance]}])["ReplaceRootVolumeTasks"]
    assert done["TaskState"] == "succeeded"
    assert described(account, instance)["ImageId"] == new and root(account, instance) != volume
    assert blocks(account, snapshot_of(account, instance)) == {3: block("new")}
    refused("InvalidVolume.NotFound", account.ec2.describe_volumes, VolumeIds=[volume])


@probe("instance_runs", "source_is_one", "image_is_alike", "snapshot_is_of_this_volume")
def test_what_cannot_replace_a_root_volume(account: ProbeAccount) -> None:
    image = account.image()
    instance, task = instance_of(account, image), account.ec2.create_replace_root_volume_task
    own = snapshot_of(account, instance)
    refused("InvalidParameterCombination", task, InstanceId=instance, ImageId=image, SnapshotId=own)
    refused("InvalidParameterValue", task, InstanceId=instance, ImageId=account.image("arm", Architecture="arm64"))
    refused("InvalidParameterValue", task, InstanceId=instance, SnapshotId=account.snapshot())
    assert task(InstanceId=instance, SnapshotId=own)["ReplaceRootVolumeTask"]["TaskState"] == "pending"
    account.ec2.stop_instances(InstanceIds=[instance])
    refused("IncorrectInstanceState", task, InstanceId=instance, ImageId=image)


@probe("roots_can_be_replaced")
def test_a_refresh_that_replaces_root_volumes(account: ProbeAccount) -> None:
    old, new = account.image("old"), account.image("new")
    template = account.ec2.create_launch_template(LaunchTemplateName="t", LaunchTemplateData={
        "ImageId": old, "InstanceType": TYPE})["LaunchTemplate"]["LaunchTemplateId"]

    def policy(**override: str) -> dict[str, Any]:
        return {"LaunchTemplate": {
            "LaunchTemplateSpecification": {"LaunchTemplateId": template, "Version": "1"},
            "Overrides": [{"InstanceType": TYPE, **override}]}}
    account.groups.create_auto_scaling_group(AutoScalingGroupName="g", MinSize=1, MaxSize=1, AvailabilityZones=[
        "us-east-1a"], MixedInstancesPolicy=policy(ImageId=old))
    begun = {"AutoScalingGroupName": "g", "Strategy": "ReplaceRootVolume"}
    refused("ValidationError", account.groups.start_instance_refresh, **begun)
    refused("ValidationError", account.groups.start_instance_refresh, **begun,
            DesiredConfiguration={"MixedInstancesPolicy": policy()})
    (before,) = account.groups.describe_auto_scaling_instances()["AutoScalingInstances"]
    account.groups.start_instance_refresh(**begun, DesiredConfiguration={"MixedInstancesPolicy": policy(ImageId=new)})
    assert account.groups.describe_instance_refreshes(AutoScalingGroupName="g")["InstanceRefreshes"][0][
        "Status"] == "Successful"
    (after,) = account.groups.describe_auto_scaling_instances()["AutoScalingInstances"]
    assert after["InstanceId"] == before["InstanceId"], "the instance stays"
    assert described(account, after["InstanceId"])["ImageId"] == new


@probe("key_opens_blocks")
def test_blocks_of_an_encrypted_snapshot_want_the_key(account: ProbeAccount) -> None:
    """A snapshot of an instance's volume is encrypted as the AMI's is."""
    encrypted = account.snapshot(blocks={0: block("a")}, Encrypted=True)
    made = snapshot_of(account, instance_of(account, account.image(snapshot=encrypted)))
    assert account.ec2.describe_snapshots(SnapshotIds=[made])["Snapshots"][0]["Encrypted"]
    token = account.ebs.list_snapshot_blocks(SnapshotId=made)["Blocks"][0]["BlockToken"]
    account.set(denied={"*": ["kms:Decrypt"]})
    assert "kms:Decrypt" in refused("AccessDeniedException", account.ebs.get_snapshot_block, SnapshotId=made,
                                    BlockIndex=0, BlockToken=token)
