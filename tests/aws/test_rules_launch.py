"""What the emulator makes of launches, templates and refreshes, where a table cannot say it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ec2_emulator.storage.block_store import BLOCK
from support.aws.emulator_probe import (
    NEED,
    REGION,
    STRANGER,
    STRANGERS_KEY,
    TYPE,
    ProbeAccount,
    block,
    probe,
    refused,
)

LATEST = "/golden-ami/x/latest"


def put(account: ProbeAccount, value: str, **more: Any) -> int:
    version: int = account.ssm.put_parameter(
        Name=LATEST, Value=value, Type="String", DataType="aws:ec2:image", **more)["Version"]
    return version


def latest(account: ProbeAccount) -> tuple[str, int]:
    parameter = account.ssm.get_parameter(Name=LATEST)["Parameter"]
    return parameter["Value"], parameter["Version"]


def launched(account: ProbeAccount) -> list[dict[str, Any]]:
    """The instances that run."""
    running = [{"Name": "instance-state-name", "Values": ["running"]}]
    reservations = account.ec2.describe_instances(Filters=running)["Reservations"]
    return [each for one in reservations for each in one["Instances"]]


def volume(account: ProbeAccount, instance: dict[str, Any]) -> dict[str, Any]:
    """The only volume of an instance."""
    (device,) = instance["BlockDeviceMappings"]
    found: dict[str, Any] = account.ec2.describe_volumes(
        VolumeIds=[device["Ebs"]["VolumeId"]])["Volumes"][0]
    return found


def test_a_shared_image_is_launched_by_another_account(
    account_at: Callable[[str], ProbeAccount],
) -> None:
    account = account_at("emulator")
    account.set(accounts={STRANGERS_KEY: STRANGER})
    image = account.image(snapshot=account.snapshot(2))
    theirs = account.client("ec2", key=STRANGERS_KEY)
    launch = {"ImageId": image, "MinCount": 1, "MaxCount": 1, "InstanceType": TYPE}
    refused("InvalidAMIID.NotFound", theirs.run_instances, **launch)
    account.ec2.modify_image_attribute(ImageId=image,
                                       LaunchPermission={"Add": [{"UserId": STRANGER}]})
    (instance,) = theirs.run_instances(**launch)["Instances"]
    assert instance["RootDeviceName"] == "/dev/xvda"
    assert theirs.describe_volumes()["Volumes"][0]["Size"] == 2
    made = theirs.create_image(InstanceId=instance["InstanceId"], Name="of-theirs")["ImageId"]
    found = theirs.describe_images(ImageIds=[made])["Images"][0]
    assert found["Architecture"] == "x86_64"


@probe("devices_of", "metadata_of")
def test_an_instance_has_the_devices_and_the_options_of_the_image(account: ProbeAccount) -> None:
    image = account.image(snapshot=account.snapshot(3), ImdsSupport="v2.0")
    instance = account.launch(ImageId=image)
    assert volume(account, instance)["Size"] == 3
    options = instance["MetadataOptions"]
    assert (options["HttpTokens"], options["HttpPutResponseHopLimit"]) == ("required", 2)
    device = {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 9}}
    instance = account.launch(ImageId=image, BlockDeviceMappings=[device],
                              MetadataOptions={"HttpTokens": "optional"})
    assert volume(account, instance)["Size"] == 9
    assert instance["MetadataOptions"]["HttpTokens"] == "optional"


@probe("last_launched")
def test_a_launch_is_reported_a_day_later(account: ProbeAccount) -> None:
    image = account.image()
    account.launch(ImageId=image)
    ask = {"ImageId": image, "Attribute": "lastLaunchedTime"}
    reported = account.ec2.describe_image_attribute(**ask).get("LastLaunchedTime", {})
    assert not reported.get("Value")
    account.set(launch_report_s=0)
    reported = account.ec2.describe_image_attribute(**ask)["LastLaunchedTime"]
    assert reported["Value"].endswith("Z")


@probe("resolve")
def test_a_parameter_names_the_image(account: ProbeAccount) -> None:
    old, new = account.image("old"), account.image("new")
    put(account, old)
    put(account, new, Overwrite=True)
    for suffix, image in (("", new), (":1", old)):
        assert account.launch(ImageId=f"resolve:ssm:{LATEST}{suffix}")["ImageId"] == image
    ask = {"LaunchTemplateId": account.template(ImageId=f"resolve:ssm:{LATEST}"), "Versions": ["1"]}
    for more, wanted in (({}, f"resolve:ssm:{LATEST}"), ({"ResolveAlias": True}, new)):
        answer = account.ec2.describe_launch_template_versions(**ask, **more)
        assert answer["LaunchTemplateVersions"][0]["LaunchTemplateData"]["ImageId"] == wanted


@probe("settle")
def test_an_image_parameter_appears_late_or_never(account: ProbeAccount) -> None:
    image, elsewhere = account.image(), account.image("elsewhere")
    account.set(pending_s=3600)
    assert put(account, image) == 1
    refused("ParameterNotFound", latest, account=account)
    refused("ParameterAlreadyExists", put, account=account, value=image)
    account.set(pending_s=0)
    assert latest(account) == (image, 1)
    account.ec2.deregister_image(ImageId=elsewhere)
    for wrong in ("ami-00000000000000000", elsewhere, "not-an-image"):
        assert put(account, wrong, Overwrite=True) == 2
        assert latest(account) == (image, 1)


@probe("delete_key_pair")
def test_a_key_pair_is_deleted_by_its_id_or_its_name(account: ProbeAccount) -> None:
    first, _second = (account.ec2.create_key_pair(KeyName=name) for name in ("a", "b"))
    for named, left in (({"KeyPairId": first["KeyPairId"]}, ["b"]), ({"KeyName": "none"}, ["b"]),
                        ({"KeyName": "b"}, [])):
        account.ec2.delete_key_pair(**named)
        assert [pair["KeyName"] for pair in account.ec2.describe_key_pairs()["KeyPairs"]] == left


# --- launch templates ---------------------------------------------------------------------------


def version(account: ProbeAccount, template: str, **more: Any) -> dict[str, Any]:
    asked = {"LaunchTemplateData": {"InstanceType": TYPE}, **more}
    made: dict[str, Any] = account.ec2.create_launch_template_version(
        LaunchTemplateId=template, **asked)["LaunchTemplateVersion"]
    return made


@probe("why_it_stays", "next_number")
def test_versions_are_deleted_but_not_the_default(account: ProbeAccount) -> None:
    template = account.template(ImageId="ami-1")
    assert [version(account, template)["VersionNumber"] for _ in range(2)] == [2, 3]
    answer = account.ec2.delete_launch_template_versions(LaunchTemplateId=template,
                                                         Versions=["1", "3", "9"])
    gone = answer["SuccessfullyDeletedLaunchTemplateVersions"]
    kept = {each["VersionNumber"]: each["ResponseError"]["Code"]
            for each in answer["UnsuccessfullyDeletedLaunchTemplateVersions"]}
    assert [each["VersionNumber"] for each in gone] == [3]
    assert kept == {1: "unexpectedError", 9: "launchTemplateVersionDoesNotExist"}
    assert version(account, template)["VersionNumber"] == 4
    account.ec2.modify_launch_template(LaunchTemplateId=template, DefaultVersion="4")
    account.ec2.delete_launch_template_versions(LaunchTemplateId=template, Versions=["1"])
    left = account.ec2.describe_launch_template_versions(LaunchTemplateId=template)
    assert [(each["VersionNumber"], each["DefaultVersion"])
            for each in left["LaunchTemplateVersions"]] == [(2, False), (4, True)]


@probe("inherited")
def test_a_version_inherits_but_for_snapshots(account: ProbeAccount) -> None:
    ebs = {"SnapshotId": "snap-1", "VolumeType": "gp3"}
    template = account.template(ImageId="ami-1", InstanceType=TYPE, BlockDeviceMappings=[
        {"DeviceName": "/dev/xvda", "Ebs": ebs}])
    data = version(account, template, SourceVersion="1",
                   LaunchTemplateData={"ImageId": "ami-2"})["LaunchTemplateData"]
    assert (data["ImageId"], data["InstanceType"]) == ("ami-2", TYPE)
    assert data["BlockDeviceMappings"] == [
        {"DeviceName": "/dev/xvda", "Ebs": {"VolumeType": "gp3"}}]


# --- instance refreshes -------------------------------------------------------------------------


class Group:
    """Two instances from version 1 of a template whose version 2 has another AMI."""

    def __init__(self, account: ProbeAccount, first: str = "") -> None:
        self.account = account
        self.old, self.new = account.image("old"), account.image("new")
        self.template = account.template(ImageId=first or self.old, InstanceType=TYPE)
        data = {"ImageId": self.new, "InstanceType": TYPE}
        version(account, self.template, LaunchTemplateData=data)
        account.group(self.template, size=2)

    def start(self, **preferences: Any) -> str:
        named = {"LaunchTemplateId": self.template, "Version": "2"}
        started: str = self.account.groups.start_instance_refresh(
            AutoScalingGroupName="g", Preferences=preferences,
            DesiredConfiguration={"LaunchTemplate": named})["InstanceRefreshId"]
        return started

    def state(self) -> tuple[str, set[tuple[str, str]]]:
        """Of the last refresh; and (AMI, version of the template) of what runs."""
        (group,) = self.account.groups.describe_auto_scaling_groups()["AutoScalingGroups"]
        versions = {each["InstanceId"]: each["LaunchTemplate"]["Version"]
                    for each in group["Instances"]}
        refreshes = self.account.groups.describe_instance_refreshes(AutoScalingGroupName="g")
        running = {(each["ImageId"], versions[each["InstanceId"]])
                   for each in launched(self.account)}
        return refreshes["InstanceRefreshes"][0]["Status"], running


@probe("describe_instance_refreshes", "launched_with", "tagged_by_template")
def test_a_refresh_replaces_the_instances(account: ProbeAccount) -> None:
    group = Group(account)
    account.set(refresh_s=3600)
    first = group.start(SkipMatching=True)
    assert group.state() == ("Pending", {(group.old, "1")})
    account.set(refresh_s=0)
    assert group.state() == ("Successful", {(group.new, "2")})
    second = group.start()
    refreshes = account.groups.describe_instance_refreshes(AutoScalingGroupName="g")
    ids = [each["InstanceRefreshId"] for each in refreshes["InstanceRefreshes"]]
    assert ids == [second, first]
    tags = [{tag["Key"]: tag["Value"] for tag in each["Tags"]} for each in launched(account)]
    assert {each["aws:ec2launchtemplate:version"] for each in tags} == {"2"}


@probe("in_progress", "why_irreversible")
def test_a_refresh_rolls_back_to_a_literal_version(account: ProbeAccount) -> None:
    group = Group(account)
    account.set(refresh_s=3600)
    group.start()
    account.groups.rollback_instance_refresh(AutoScalingGroupName="g")
    assert group.state()[0] == "RollbackInProgress"
    account.set(refresh_s=0)
    assert group.state() == ("RollbackSuccessful", {(group.old, "1")})


@probe("why_irreversible")
def test_a_parameter_in_the_template_forbids_rollback(account: ProbeAccount) -> None:
    put(account, account.image())
    group = Group(account, first=f"resolve:ssm:{LATEST}")
    account.set(refresh_s=3600)
    group.start()
    refused("IrreversibleInstanceRefresh", account.groups.rollback_instance_refresh,
            AutoScalingGroupName="g")


def test_a_refresh_that_fails_rolls_back_where_asked(
    account_at: Callable[[str], ProbeAccount],
) -> None:
    group = Group(account_at("emulator"))
    group.account.ec2.disable_image(ImageId=group.new)
    for rollback, status in ((False, "Failed"), (True, "RollbackSuccessful")):
        group.start(AutoRollback=rollback)
        assert group.state() == (status, {(group.old, "1")})


# --- types --------------------------------------------------------------------------------------


@probe("override_type", "group_type", "type_or_requirements")
def test_a_groups_policy_or_its_template_says_its_types(account: ProbeAccount) -> None:
    account.group(account.template(ImageId=account.image(), InstanceType=TYPE),
                  {"InstanceRequirements": NEED})
    (instance,) = launched(account)
    assert instance["InstanceType"].startswith("m7i.")
    (described,) = account.ec2.describe_instance_types(
        InstanceTypes=[instance["InstanceType"]])["InstanceTypes"]
    assert described["VCpuInfo"]["DefaultVCpus"] >= 4


@probe("fleet_type")
def test_a_fleets_overrides_say_its_types(account: ProbeAccount) -> None:
    named = {"LaunchTemplateId": account.template(ImageId=account.image()), "Version": "$Default"}
    config = {"LaunchTemplateSpecification": named, "Overrides": [{"InstanceRequirements": NEED}]}
    account.ec2.create_fleet(
        Type="instant", LaunchTemplateConfigs=[config],
        TargetCapacitySpecification={"TotalTargetCapacity": 1,
                                     "DefaultTargetCapacityType": "on-demand"})
    assert [each["InstanceType"].partition(".")[0] for each in launched(account)] == ["m7i"]


# --- root volumes -------------------------------------------------------------------------------


def test_a_snapshot_has_what_was_written_before_it(
    account_at: Callable[[str], ProbeAccount], emulator: Any,
) -> None:
    """And only the changed blocks differ from the AMI's snapshot, whose content it inherits."""
    account = account_at("emulator")
    origin = account.snapshot(blocks={0: block("a"), 1: block("b")})
    instance = account.launch(ImageId=account.image(snapshot=origin))
    before = account.shot(instance)
    emulator.write(instance["InstanceId"], REGION, BLOCK - 2, b"1234")
    after = account.shot(instance)
    assert account.blocks(before) == {0: block("a"), 1: block("b")}
    assert account.blocks(after) == {0: block("a")[:-2] + b"12", 1: b"34" + block("b")[2:]}
    for snapshot, indexes in ((before, []), (after, [0, 1])):
        changed = account.ebs.list_changed_blocks(FirstSnapshotId=origin, SecondSnapshotId=snapshot)
        assert [each["BlockIndex"] for each in changed["ChangedBlocks"]] == indexes


@probe("replace", "describe_replace_root_volume_tasks", "key_opens_blocks")
def test_a_root_volume_is_replaced_by_that_of_another_ami(account: ProbeAccount) -> None:
    """The snapshot of a volume is encrypted as the AMI's is."""
    new = account.image("new", account.snapshot(1, {3: block("new")}, Encrypted=True))
    instance = account.launch(ImageId=account.image("old"))
    before = volume(account, instance)["VolumeId"]
    account.ec2.create_replace_root_volume_task(
        InstanceId=instance["InstanceId"], ImageId=new, DeleteReplacedRootVolume=True)
    (done,) = account.ec2.describe_replace_root_volume_tasks(Filters=[
        {"Name": "instance-id", "Values": [instance["InstanceId"]]}])["ReplaceRootVolumeTasks"]
    assert done["TaskState"] == "succeeded"
    (after,) = launched(account)
    assert (after["InstanceId"], after["ImageId"]) == (instance["InstanceId"], new)
    snapshot = account.shot(after)
    assert account.blocks(snapshot) == {3: block("new")}
    found = account.ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]
    assert found["Encrypted"]
    refused("InvalidVolume.NotFound", account.ec2.describe_volumes, VolumeIds=[before])


@probe("roots_can_be_replaced")
def test_a_refresh_that_replaces_root_volumes(account: ProbeAccount) -> None:
    old, new = account.image("old"), account.image("new")
    template = account.template(ImageId=old, InstanceType=TYPE)
    account.group(template, {"InstanceType": TYPE, "ImageId": old})
    (before,) = launched(account)
    named = {"LaunchTemplateId": template, "Version": "1"}
    policy = {"LaunchTemplate": {"LaunchTemplateSpecification": named,
                                 "Overrides": [{"InstanceType": TYPE, "ImageId": new}]}}
    account.groups.start_instance_refresh(
        AutoScalingGroupName="g", Strategy="ReplaceRootVolume",
        DesiredConfiguration={"MixedInstancesPolicy": policy})
    refreshes = account.groups.describe_instance_refreshes(AutoScalingGroupName="g")
    assert refreshes["InstanceRefreshes"][0]["Status"] == "Successful"
    (after,) = launched(account)
    assert (after["InstanceId"], after["ImageId"]) == (before["InstanceId"], new)
