"""What the emulator makes of launches, templates and refreshes, where a table cannot say it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from support.aws.emulator_probe import (
    STRANGER,
    STRANGERS_KEY,
    TYPE,
    ProbeAccount,
    probe,
    refused,
)
from support.waiting import until

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


@probe("resolve")
def test_a_parameter_names_the_image(account: ProbeAccount) -> None:
    old, new = account.image("old"), account.image("new")
    put(account, old)
    put(account, new, Overwrite=True)
    for suffix, image in (("", new), (":1", old)):
        assert account.launch(ImageId=f"resolve:ssm:{LATEST}{suffix}")["ImageId"] == image


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


# --- launch templates ---------------------------------------------------------------------------


def version(account: ProbeAccount, template: str, **more: Any) -> dict[str, Any]:
    asked = {"LaunchTemplateData": {"InstanceType": TYPE}, **more}
    made: dict[str, Any] = account.ec2.create_launch_template_version(
        LaunchTemplateId=template, **asked)["LaunchTemplateVersion"]
    return made


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


@probe("describe_instance_refreshes", "launched_with")
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


@probe("kept")
def test_what_a_command_printed_is_kept_in_part(account: ProbeAccount) -> None:
    instance = "i-0123456789abcdef0"
    account.set(agents={instance: ["sh", "-c"]})
    text = "head -c 30000 /dev/zero | tr '\\0' x; head -c 9000 /dev/zero >&2; exit 3"
    command = account.ssm.send_command(
        InstanceIds=[instance], DocumentName="AWS-RunShellScript",
        Parameters={"commands": [text]})["Command"]["CommandId"]

    def ended() -> Any:
        answer = account.ssm.get_command_invocation(CommandId=command, InstanceId=instance)
        return answer if answer["Status"] != "InProgress" else None

    answer = until("the end of the command", ended)
    assert (answer["Status"], answer["ResponseCode"]) == ("Failed", 3)
    assert answer["StandardOutputContent"] == "x" * 24_000
    assert len(answer["StandardErrorContent"]) == 8_000


@probe("dynamic_reference")
def test_a_template_names_an_image_by_its_parameter(account: ProbeAccount) -> None:
    """As docs/launching.md shows it: what the parameter holds when the stack is made."""
    account.ssm.put_parameter(Name="/p", Value="ami-00000000000000001", Type="String")
    body = {"Resources": {"Template": {"Type": "AWS::EC2::LaunchTemplate", "Properties": {
        "LaunchTemplateName": "by-parameter",
        "LaunchTemplateData": {"ImageId": "{{resolve:ssm:/p:1}}"}}}}}
    cloudformation = account.client("cloudformation")
    made = cloudformation.create_change_set(
        StackName="s", ChangeSetName="c", ChangeSetType="CREATE", TemplateBody=json.dumps(body))
    cloudformation.execute_change_set(ChangeSetName=made["Id"])
    (found,) = account.ec2.describe_launch_template_versions(
        LaunchTemplateName="by-parameter")["LaunchTemplateVersions"]
    assert found["LaunchTemplateData"]["ImageId"] == "ami-00000000000000001"
