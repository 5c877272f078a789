from __future__ import annotations

from collections.abc import Callable
from typing import Any

from support.aws.emulator_probe import OTHER_REGION, STRANGER, STRANGERS_KEY, ProbeAccount, probe, refused
from support.waiting import until

TYPE = "g5.xlarge"


def _run(account: ProbeAccount, **more: Any) -> dict[str, Any]:
    ran = account.ec2.run_instances(**{"MinCount": 1, "MaxCount": 1, "InstanceType": TYPE, **more})["Instances"][0]
    described = account.ec2.describe_instances(InstanceIds=[ran["InstanceId"]])["Reservations"][0]["Instances"]
    instance: dict[str, Any] = described[0]
    return instance


def _put(account: ProbeAccount, value: str, **more: Any) -> int:
    version: int = account.ssm.put_parameter(Name="/golden-ami/x/latest", Value=value, Type="String",
                                             DataType="aws:ec2:image", **more)["Version"]
    return version


def _latest(account: ProbeAccount) -> tuple[str, int]:
    parameter = account.ssm.get_parameter(Name="/golden-ami/x/latest")["Parameter"]
    return parameter["Value"], parameter["Version"]


# --- launches ---------------------------------------------------------------------------------------------------------

@probe("launchable")
def test_only_an_available_image_is_launched(account: ProbeAccount) -> None:
    image = account.image()
    _run(account, ImageId=image)
    account.ec2.create_launch_template(LaunchTemplateName="golden-t", LaunchTemplateData={"ImageId": image})
    account.ec2.disable_image(ImageId=image)
    refused("InvalidAMIID.Unavailable", _run, account=account, ImageId=image)
    refused("InvalidAMIID.Unavailable", _run, account=account, LaunchTemplate={"LaunchTemplateName": "golden-t"})
    account.ec2.enable_image(ImageId=image)
    account.ec2.deregister_image(ImageId=image)
    refused("InvalidAMIID.Unavailable", _run, account=account, ImageId=image)


def test_a_shared_image_of_another_account_is_launched(account_at: Callable[[str], ProbeAccount]) -> None:
    account = account_at("emulator")
    account.set(accounts={STRANGERS_KEY: STRANGER})
    image = account.image(snapshot=account.snapshot(2))
    theirs = account.client("ec2", key=STRANGERS_KEY)
    launch = {"ImageId": image, "MinCount": 1, "MaxCount": 1, "InstanceType": TYPE}
    refused("InvalidAMIID.NotFound", theirs.run_instances, **launch)
    account.ec2.modify_image_attribute(ImageId=image, LaunchPermission={"Add": [{"UserId": STRANGER}]})
    (instance,) = theirs.run_instances(**launch)["Instances"]
    (volume,) = theirs.describe_volumes()["Volumes"]
    assert (instance["RootDeviceName"], volume["Size"]) == ("/dev/xvda", 2)
    image_id = theirs.create_image(InstanceId=instance["InstanceId"], Name="of-theirs")["ImageId"]
    assert theirs.describe_images(ImageIds=[image_id])["Images"][0]["Architecture"] == "x86_64"


@probe("architecture_fits")
def test_an_image_runs_on_its_architecture(account: ProbeAccount) -> None:
    image = account.image(Architecture="arm64")
    refused("InvalidParameterValue", _run, account=account, ImageId=image)
    _run(account, ImageId=image, InstanceType="g5g.xlarge")


@probe("initialization_rate_is_in_range")
def test_a_volume_is_loaded_at_100_to_300_mib_a_second(account: ProbeAccount) -> None:
    image = account.image()
    for number, rate in enumerate((99, 301)):
        devices = [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeInitializationRate": rate, "VolumeSize": 64}}]
        refused("InvalidParameterValue", account.ec2.create_launch_template, LaunchTemplateName=f"golden-{number}",
                LaunchTemplateData={"ImageId": image, "BlockDeviceMappings": devices})
    devices = [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeInitializationRate": 100}}]
    account.ec2.create_launch_template(LaunchTemplateName="golden-r", LaunchTemplateData={
        "ImageId": image, "BlockDeviceMappings": devices})
    assert _run(account, LaunchTemplate={"LaunchTemplateName": "golden-r"})["ImageId"] == image


@probe("requirements_need_a_group", "type_or_requirements")
def test_requirements_are_for_groups(account: ProbeAccount) -> None:
    need = {"VCpuCount": {"Min": 1}, "MemoryMiB": {"Min": 1}, "AllowedInstanceTypes": ["m7i.*"]}
    image = account.image()
    refused("InvalidParameterCombination", _template, account=account, InstanceType=TYPE, InstanceRequirements=need)
    template = _template(account, ImageId=image, InstanceRequirements=need)
    refused("InvalidParameterCombination", _run, account=account, LaunchTemplate={"LaunchTemplateId": template})
    account.groups.create_auto_scaling_group(
        AutoScalingGroupName="g", MinSize=1, MaxSize=1, AvailabilityZones=["us-east-1a"],
        LaunchTemplate={"LaunchTemplateId": template, "Version": "1"})
    (launched,) = account.ec2.describe_instances()["Reservations"][0]["Instances"]
    assert (launched["ImageId"], launched["InstanceType"].partition(".")[0]) == (image, "m7i")


@probe("volume_holds_snapshot")
def test_a_launch_has_no_volume_smaller_than_the_images_snapshot(account: ProbeAccount) -> None:
    image = account.image(snapshot=account.snapshot(8))
    small, same = ([{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": size}}] for size in (4, 8))
    refused("InvalidBlockDeviceMapping", _run, account=account, ImageId=image, BlockDeviceMappings=small)
    _run(account, ImageId=image, BlockDeviceMappings=same)


@probe("devices_of")
def test_an_instance_has_the_devices_of_the_image(account: ProbeAccount) -> None:
    image = account.image(snapshot=account.snapshot(3))
    for given, size in ((None, 3), ([{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 9}}], 9)):
        instance = _run(account, ImageId=image, **({"BlockDeviceMappings": given} if given else {}))
        volume = instance["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
        assert account.ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["Size"] == size
        assert len(instance["BlockDeviceMappings"]) == 1


@probe("metadata_of")
def test_imds_support_requires_tokens(account: ProbeAccount) -> None:
    image = account.image(ImdsSupport="v2.0")
    options = _run(account, ImageId=image)["MetadataOptions"]
    assert (options["HttpTokens"], options["HttpPutResponseHopLimit"]) == ("required", 2)
    assert _run(account, ImageId=image, MetadataOptions={"HttpTokens": "optional"})["MetadataOptions"][
        "HttpTokens"] == "optional"


@probe("last_launched")
def test_a_launch_is_reported_a_day_later(account: ProbeAccount) -> None:
    image = account.image()
    _run(account, ImageId=image)
    ask = {"ImageId": image, "Attribute": "lastLaunchedTime"}
    assert not account.ec2.describe_image_attribute(**ask).get("LastLaunchedTime", {}).get("Value")
    account.set(launch_report_s=0)
    assert account.ec2.describe_image_attribute(**ask)["LastLaunchedTime"]["Value"].endswith("Z")


@probe("run_instances")
def test_a_token_launches_once(account: ProbeAccount) -> None:
    image = account.image()
    first, again = (_run(account, ImageId=image, ClientToken="one")["InstanceId"] for _ in range(2))
    assert first == again
    refused("IdempotentParameterMismatch", _run, account=account, ImageId=image, ClientToken="one", EbsOptimized=True)


@probe("resolve")
def test_a_parameter_names_the_image(account: ProbeAccount) -> None:
    old, new = account.image("old"), account.image("new")
    _put(account, old)
    _put(account, new, Overwrite=True)
    assert _run(account, ImageId="resolve:ssm:/golden-ami/x/latest")["ImageId"] == new
    assert _run(account, ImageId="resolve:ssm:/golden-ami/x/latest:1")["ImageId"] == old
    refused("InvalidParameterValue", _run, account=account, ImageId="resolve:ssm:/golden-ami/y/latest")
    account.ec2.create_launch_template(
        LaunchTemplateName="golden-t", LaunchTemplateData={"ImageId": "resolve:ssm:/golden-ami/x/latest"})
    ask = {"LaunchTemplateName": "golden-t", "Versions": ["1"]}
    for more, wanted in (({}, "resolve:ssm:/golden-ami/x/latest"), ({"ResolveAlias": True}, new)):
        versions = account.ec2.describe_launch_template_versions(**ask, **more)["LaunchTemplateVersions"]
        assert versions[0]["LaunchTemplateData"]["ImageId"] == wanted


@probe("describe_instance_type_offerings")
def test_offerings_are_filtered_and_paged(account: ProbeAccount) -> None:
    ask = {"LocationType": "region", "Filters": [{"Name": "instance-type", "Values": ["g5.*"]}], "MaxResults": 5}
    first = account.ec2.describe_instance_type_offerings(**ask)
    rest = account.ec2.describe_instance_type_offerings(**ask, NextToken=first["NextToken"])
    types = {each["InstanceType"] for each in first["InstanceTypeOfferings"] + rest["InstanceTypeOfferings"]}
    assert len(types) == 8 and all(each.startswith("g5.") for each in types)


# --- parameters -------------------------------------------------------------------------------------------------------

@probe("settle")
def test_an_image_parameter_appears_late_or_never(account: ProbeAccount) -> None:
    image, elsewhere = account.image(), account.image("elsewhere")
    account.set(pending_s=3600)
    assert _put(account, image) == 1
    refused("ParameterNotFound", _latest, account=account)
    refused("ParameterAlreadyExists", _put, account=account, value=image)
    account.set(pending_s=0)
    assert _latest(account) == (image, 1)
    account.ec2.deregister_image(ImageId=elsewhere)
    for wrong in ("ami-00000000000000000", elsewhere, "not-an-image"):
        assert _put(account, wrong, Overwrite=True) == 2
        assert _latest(account) == (image, 1)
    other = account.client("ssm", OTHER_REGION)
    other.put_parameter(Name="/golden-ami/x/latest", Value=image, Type="String", DataType="aws:ec2:image")
    refused("ParameterNotFound", other.get_parameter, Name="/golden-ami/x/latest")


# --- launch templates -------------------------------------------------------------------------------------------------

def _template(account: ProbeAccount, **data: Any) -> str:
    made: str = account.ec2.create_launch_template(
        LaunchTemplateName="golden-x", VersionDescription="first", LaunchTemplateData=data)["LaunchTemplate"][
            "LaunchTemplateId"]
    return made


def _version(account: ProbeAccount, template: str, **more: Any) -> dict[str, Any]:
    data = more.pop("LaunchTemplateData", {"InstanceType": TYPE})
    made: dict[str, Any] = account.ec2.create_launch_template_version(
        LaunchTemplateId=template, LaunchTemplateData=data, **more)["LaunchTemplateVersion"]
    return made


@probe("why_it_stays", "next_number")
def test_versions_are_deleted_but_not_the_default(account: ProbeAccount) -> None:
    template = _template(account, ImageId="ami-1")
    for number in (2, 3):
        assert _version(account, template)["VersionNumber"] == number
    answer = account.ec2.delete_launch_template_versions(LaunchTemplateId=template, Versions=["1", "3", "9"])
    gone = [each["VersionNumber"] for each in answer["SuccessfullyDeletedLaunchTemplateVersions"]]
    refusals = {each["VersionNumber"]: each["ResponseError"]["Code"]
                for each in answer["UnsuccessfullyDeletedLaunchTemplateVersions"]}
    assert (gone, refusals) == ([3], {1: "unexpectedError", 9: "launchTemplateVersionDoesNotExist"})
    assert _version(account, template)["VersionNumber"] == 4
    account.ec2.modify_launch_template(LaunchTemplateId=template, DefaultVersion="4")
    account.ec2.delete_launch_template_versions(LaunchTemplateId=template, Versions=["1"])
    versions = account.ec2.describe_launch_template_versions(LaunchTemplateId=template)["LaunchTemplateVersions"]
    assert [(each["VersionNumber"], each["DefaultVersion"]) for each in versions] == [(2, False), (4, True)]


@probe("inherited")
def test_a_version_inherits_but_for_snapshots(account: ProbeAccount) -> None:
    template = _template(account, ImageId="ami-1", InstanceType=TYPE, BlockDeviceMappings=[
        {"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": "snap-1", "VolumeType": "gp3"}}])
    data = _version(account, template, SourceVersion="1", LaunchTemplateData={"ImageId": "ami-2"})["LaunchTemplateData"]
    assert (data["ImageId"], data["InstanceType"]) == ("ami-2", TYPE)
    assert data["BlockDeviceMappings"] == [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeType": "gp3"}}]


@probe("create_launch_template_version")
def test_a_token_makes_one_version(account: ProbeAccount) -> None:
    template = _template(account, ImageId="ami-1")
    assert [_version(account, template, ClientToken="one")["VersionNumber"] for _ in range(2)] == [2, 2]
    refused("IdempotentParameterMismatch", _version, account=account, template=template, ClientToken="one",
            VersionDescription="other")


@probe("version_filter")
def test_versions_are_filtered_by_image(account: ProbeAccount) -> None:
    template = _template(account, ImageId="ami-1")
    _version(account, template, LaunchTemplateData={"ImageId": "ami-2"})

    def found(**filters: str) -> list[int]:
        as_filters = [{"Name": name.replace("_", "-"), "Values": [value]} for name, value in filters.items()]
        versions = account.ec2.describe_launch_template_versions(Versions=["$Latest", "$Default"], Filters=as_filters)
        return [each["VersionNumber"] for each in versions["LaunchTemplateVersions"]]
    assert (found(image_id="ami-2"), found(image_id="ami-1"), found(is_default_version="true")) == ([2], [1], [1])
    refused("InvalidParameterValue", found, colour="gold")


@probe("describe_launch_templates", "paginate")
def test_templates_and_versions_are_listed_in_pages(account: ProbeAccount) -> None:
    template = _template(account, ImageId="ami-1")
    for _ in range(20):
        _version(account, template)
    assert len(account.ec2.describe_launch_template_versions(LaunchTemplateId=template)["LaunchTemplateVersions"]) == 21
    pages = account.ec2.get_paginator("describe_launch_template_versions").paginate(
        LaunchTemplateId=template, PaginationConfig={"PageSize": 9})
    assert [len(each["LaunchTemplateVersions"]) for each in pages] == [9, 9, 3]
    for number in range(19):
        account.ec2.create_launch_template(LaunchTemplateName=f"golden-{number}", LaunchTemplateData={"KeyName": "x"})
    assert len(account.ec2.describe_launch_templates()["LaunchTemplates"]) == 20
    assert "NextToken" in account.ec2.describe_launch_templates(MaxResults=5)


# --- instance refreshes -----------------------------------------------------------------------------------------------

class _Group:
    """A group of two instances from version 1 of a template whose version 2 holds another AMI."""

    def __init__(self, account: ProbeAccount, *, version: str = "1", first: str = "") -> None:
        self.account = account
        self.old, self.new = account.image("old"), account.image("new")
        self.template = _template(account, ImageId=first or self.old, InstanceType=TYPE)
        _version(account, self.template, LaunchTemplateData={"ImageId": self.new, "InstanceType": TYPE})
        account.groups.create_auto_scaling_group(
            AutoScalingGroupName="g", MinSize=2, MaxSize=4, DesiredCapacity=2, AvailabilityZones=["us-east-1a"],
            LaunchTemplate={"LaunchTemplateId": self.template, "Version": version})

    def start(self, version: str | None = "2", **preferences: Any) -> str:
        desired = {"DesiredConfiguration": {"LaunchTemplate": {
            "LaunchTemplateId": self.template, "Version": version}}} if version else {}
        started: str = self.account.groups.start_instance_refresh(
            AutoScalingGroupName="g", Preferences=preferences, **desired)["InstanceRefreshId"]
        return started

    def status(self) -> str:
        found: str = self.account.groups.describe_instance_refreshes(AutoScalingGroupName="g")["InstanceRefreshes"][0][
            "Status"]
        return found

    def running(self) -> list[tuple[str, str]]:
        """(AMI, template version) of each instance that runs in the group."""
        group = self.account.groups.describe_auto_scaling_groups(AutoScalingGroupNames=["g"])["AutoScalingGroups"][0]
        versions = {each["InstanceId"]: each["LaunchTemplate"]["Version"] for each in group["Instances"]}
        reservations = self.account.ec2.describe_instances(Filters=[
            {"Name": "instance-state-name", "Values": ["running"]}])["Reservations"]
        return [(each["ImageId"], versions[each["InstanceId"]]) for one in reservations for each in one["Instances"]]


@probe("describe_instance_refreshes", "launched_with")
def test_a_refresh_replaces_the_instances(account: ProbeAccount) -> None:
    group = _Group(account)
    account.set(refresh_s=3600)
    first = group.start(SkipMatching=True)
    assert (group.status(), group.running()) == ("Pending", [(group.old, "1")] * 2)
    account.set(refresh_s=0)
    assert (group.status(), group.running()) == ("Successful", [(group.new, "2")] * 2)
    second = group.start()
    refreshes = account.groups.describe_instance_refreshes(AutoScalingGroupName="g")["InstanceRefreshes"]
    assert [each["InstanceRefreshId"] for each in refreshes] == [second, first]


@probe("tagged_by_template")
def test_an_instance_of_a_group_is_tagged_with_its_version(account: ProbeAccount) -> None:
    """moto launches the default version, and says so."""
    group = _Group(account)
    account.groups.create_auto_scaling_group(
        AutoScalingGroupName="h", MinSize=1, MaxSize=1, AvailabilityZones=["us-east-1a"],
        LaunchTemplate={"LaunchTemplateId": group.template, "Version": "2"})
    tags = [{tag["Key"]: tag["Value"] for tag in each["Tags"]} for one in account.ec2.describe_instances()[
        "Reservations"] for each in one["Instances"]]
    assert sorted(each["aws:ec2launchtemplate:version"] for each in tags) == ["1", "1", "2"]


@probe("one_refresh_at_a_time")
def test_one_refresh_at_a_time(account: ProbeAccount) -> None:
    group = _Group(account)
    account.set(refresh_s=3600)
    group.start()
    refused("InstanceRefreshInProgress", group.start)


@probe("in_progress")
def test_only_a_running_refresh_is_cancelled(account: ProbeAccount) -> None:
    group = _Group(account)
    for call in (account.groups.cancel_instance_refresh, account.groups.rollback_instance_refresh):
        refused("ActiveInstanceRefreshNotFound", call, AutoScalingGroupName="g")
    account.set(refresh_s=3600)
    group.start()
    account.groups.cancel_instance_refresh(AutoScalingGroupName="g")
    assert group.status() == "Cancelling"
    account.set(refresh_s=0)
    assert (group.status(), group.running()) == ("Cancelled", [(group.old, "1")] * 2)


@probe("why_irreversible")
def test_a_refresh_rolls_back_to_a_literal_version(account: ProbeAccount) -> None:
    group = _Group(account)
    account.set(refresh_s=3600)
    group.start()
    account.groups.rollback_instance_refresh(AutoScalingGroupName="g")
    assert group.status() == "RollbackInProgress"
    account.set(refresh_s=0)
    assert (group.status(), group.running()) == ("RollbackSuccessful", [(group.old, "1")] * 2)
    account.set(refresh_s=3600)
    for version in ("$Latest", "$Default", None):
        refused("ValidationError", group.start, version=version, AutoRollback=True)
        group.start(version)
        refused("IrreversibleInstanceRefresh", account.groups.rollback_instance_refresh, AutoScalingGroupName="g")
        account.set(refresh_s=0)
        group.status()
        account.set(refresh_s=3600)


def test_a_parameter_in_the_template_forbids_rollback(account_at: Callable[[str], ProbeAccount]) -> None:
    account = account_at("emulator")
    _put(account, account.image())
    group = _Group(account, first="resolve:ssm:/golden-ami/x/latest")
    account.set(refresh_s=3600)
    group.start()
    refused("IrreversibleInstanceRefresh", account.groups.rollback_instance_refresh, AutoScalingGroupName="g")


def test_a_refresh_that_fails_rolls_back_where_asked(account_at: Callable[[str], ProbeAccount]) -> None:
    account = account_at("emulator")
    group = _Group(account)
    account.ec2.disable_image(ImageId=group.new)
    for rollback, status in ((False, "Failed"), (True, "RollbackSuccessful")):
        group.start(AutoRollback=rollback)
        assert (group.status(), group.running()) == (status, [(group.old, "1")] * 2)


def test_what_is_pending_ends_by_itself(account_at: Callable[[str], ProbeAccount]) -> None:
    account = account_at("emulator")
    account.set(pending_s=0.05)
    snapshot = account.snapshot()
    until("a completed snapshot", lambda: account.ec2.describe_snapshots(
        SnapshotIds=[snapshot])["Snapshots"][0]["State"] != "pending")
    image = account.image(snapshot=snapshot)
    until("an available AMI", lambda: account.describe(image)["State"] != "pending")


@probe("delete_key_pair")
def test_a_key_pair_is_deleted_by_its_id(account: ProbeAccount) -> None:
    first, second = (account.ec2.create_key_pair(KeyName=name) for name in ("a", "b"))
    account.ec2.delete_key_pair(KeyPairId=first["KeyPairId"])
    account.ec2.delete_key_pair(KeyPairId=first["KeyPairId"])
    account.ec2.delete_key_pair(KeyName="none")
    assert [pair["KeyPairId"] for pair in account.ec2.describe_key_pairs()["KeyPairs"]] == [second["KeyPairId"]]
    account.ec2.delete_key_pair(KeyName="b")
    assert account.ec2.describe_key_pairs()["KeyPairs"] == []
