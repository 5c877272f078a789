"""Who refers to an AMI: whatever does keeps it, and is named as the reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from goldenami.lifecycle.retention import RetireStep
from support.aws.emulator import Emulator
from support.aws.retirement import LATER, plan, reasons, steps
from support.aws.seeded_account import IMAGE, PARTNER, SeededAccount, iso

pytestmark = pytest.mark.usefixtures("later")


def by_parameter(account: SeededAccount, ami: str) -> None:
    account.point("/team/base", ami)


def by_parameter_of_json(account: SeededAccount, ami: str) -> None:
    account.point("flat-name", json.dumps({"image": ami}))


def by_latest(account: SeededAccount, ami: str) -> None:
    account.point(f"/golden-ami/{IMAGE}/latest", ami)


def by_old_version_of_a_template(account: SeededAccount, ami: str) -> None:
    account.template("theirs", [ami, "ami-00000000000000000"])


def by_pinned_parameter(account: SeededAccount, ami: str) -> None:
    account.point("/team/pinned", ami)
    account.point("/team/pinned", "ami-00000000000000000")
    account.template("theirs", ["resolve:ssm:/team/pinned:1"])


def by_own_template(account: SeededAccount, ami: str) -> None:
    account.template(f"golden-{IMAGE}", [ami], tagged=True)


def by_group_of_own_template(account: SeededAccount, ami: str) -> None:
    other = account.ami(90)
    template = account.template(f"golden-{IMAGE}", [other, ami, other], tagged=True)
    account.group("workers", LaunchTemplate={"LaunchTemplateId": template, "Version": "2"})


def by_mixed_overrides(account: SeededAccount, ami: str) -> None:
    other = account.ami(90)
    template = account.template(f"golden-{IMAGE}", [other, ami, other], tagged=True)
    account.group("mixed", MixedInstancesPolicy={"LaunchTemplate": {
        "LaunchTemplateSpecification": {"LaunchTemplateId": template, "Version": "$Default"},
        "Overrides": [{"InstanceType": "c7i.large",
                       "LaunchTemplateSpecification": {"LaunchTemplateName": f"golden-{IMAGE}", "Version": "2"}}]}})


def by_fleet(account: SeededAccount, ami: str) -> None:
    other = account.ami(90)
    account.fleet(account.template(f"golden-{IMAGE}", [other, ami, other], tagged=True), "2")


def by_override_of_a_fleet(account: SeededAccount, ami: str) -> None:
    account.fleet(account.template("theirs", ["ami-00000000000000000"]), "$Default", ImageId=ami)


def by_pinned_parameter_in_an_override_of_a_fleet(account: SeededAccount, ami: str) -> None:
    account.point("/team/pinned", ami)
    account.point("/team/pinned", "ami-00000000000000000")
    account.fleet(account.template("theirs", ["ami-00000000000000000"]), "1", ImageId="resolve:ssm:/team/pinned:1")


def by_spot_fleet(account: SeededAccount, ami: str) -> None:
    account.spot_fleet(LaunchSpecifications=[{"ImageId": ami, "InstanceType": "c7i.large"}])


def by_template_of_a_spot_fleet(account: SeededAccount, ami: str) -> None:
    other = account.ami(90)
    account.template(f"golden-{IMAGE}", [other, ami, other], tagged=True)
    account.spot_fleet(LaunchTemplateConfigs=[
        {"LaunchTemplateSpecification": {"LaunchTemplateName": f"golden-{IMAGE}", "Version": "2"}}])


def by_spot_request(account: SeededAccount, ami: str) -> None:
    account.spot_request(ami)


def by_stopped_spot_instance(account: SeededAccount, ami: str) -> None:
    request = account.ec2.request_spot_instances(
        LaunchSpecification={"ImageId": ami, "InstanceType": "c7i.large"}, Type="persistent")["SpotInstanceRequests"][0]
    account.ec2.stop_instances(InstanceIds=[request["InstanceId"]])


def by_launch_configuration(account: SeededAccount, ami: str) -> None:
    account.groups.create_launch_configuration(LaunchConfigurationName="old", ImageId=ami, InstanceType="c7i.large")


def by_instance(account: SeededAccount, ami: str) -> None:
    account.launch(ami)


def by_stopped_instance(account: SeededAccount, ami: str) -> None:
    account.ec2.stop_instances(InstanceIds=[account.launch(ami)])


def by_volume(account: SeededAccount, ami: str) -> None:
    account.ec2.create_volume(SnapshotId=account.backing(ami), AvailabilityZone=f"{account.region}a")


def by_template_of_a_volume(account: SeededAccount, ami: str) -> None:
    account.ec2.create_launch_template(LaunchTemplateName="theirs", LaunchTemplateData={
        "ImageId": "ami-00000000000000000",
        "BlockDeviceMappings": [{"DeviceName": "/dev/sdb", "Ebs": {"SnapshotId": account.backing(ami)}}]})


def _data_volume(account: SeededAccount, ami: str) -> dict[str, object]:
    """A launch of another image, with a volume of the AMI's snapshot."""
    return {"ImageId": "ami-00000000000000000", "InstanceType": "c7i.large",
            "BlockDeviceMappings": [{"DeviceName": "/dev/sdb", "Ebs": {"SnapshotId": account.backing(ami)}}]}


def by_launch_configuration_of_a_volume(account: SeededAccount, ami: str) -> None:
    account.groups.create_launch_configuration(LaunchConfigurationName="data", **_data_volume(account, ami))


def by_spot_fleet_of_a_volume(account: SeededAccount, ami: str) -> None:
    account.spot_fleet(LaunchSpecifications=[_data_volume(account, ami)])


def by_override_of_a_fleet_of_a_volume(account: SeededAccount, ami: str) -> None:
    override = _data_volume(account, ami)
    account.fleet(account.template("theirs", ["ami-00000000000000000"]), "1",
                  BlockDeviceMappings=override["BlockDeviceMappings"])


def by_spot_request_of_a_volume(account: SeededAccount, ami: str) -> None:
    account.ec2.request_spot_instances(LaunchSpecification={**_data_volume(account, ami), "ImageId": account.ami(90)},
                                       ValidFrom=datetime.now(UTC) + timedelta(days=1))


def by_share_of_a_snapshot(account: SeededAccount, ami: str) -> None:
    account.ec2.modify_snapshot_attribute(SnapshotId=account.backing(ami),
                                          CreateVolumePermission={"Add": [{"UserId": PARTNER}]})


def by_upload(account: SeededAccount, ami: str) -> None:
    account.snapshot(91, complete=False, expires=iso(LATER + 1), parent_snapshot=account.backing(ami))


def by_protection(account: SeededAccount, ami: str) -> None:
    account.ec2.enable_image_deregistration_protection(ImageId=ami)


def by_share(account: SeededAccount, ami: str) -> None:
    account.share(ami, PARTNER)


USES: dict[Callable[[SeededAccount, str], None], str] = {
    by_parameter: "used by SSM parameter /team/base", by_parameter_of_json: "used by SSM parameter flat-name",
    by_latest: f"used by SSM parameter /golden-ami/{IMAGE}/latest",
    by_old_version_of_a_template: "used by launch template theirs version 1",
    by_pinned_parameter: "used by launch template theirs version 1",
    by_own_template: f"used by launch template golden-{IMAGE} version 1",
    by_group_of_own_template: "used by Auto Scaling group workers",
    by_mixed_overrides: "used by Auto Scaling group mixed",
    by_fleet: "used by EC2 Fleet fleet-", by_override_of_a_fleet: "used by EC2 Fleet fleet-",
    by_pinned_parameter_in_an_override_of_a_fleet: "used by EC2 Fleet fleet-",
    by_spot_fleet: "used by Spot fleet request sfr-", by_template_of_a_spot_fleet: "used by Spot fleet request sfr-",
    by_spot_request: "used by Spot instance request sir-",
    by_stopped_spot_instance: "used by Spot instance request sir-",
    by_launch_configuration: "used by launch configuration old", by_instance: "(running)",
    by_stopped_instance: "(stopped)", by_volume: "used by volume vol-",
    by_template_of_a_volume: "used by launch template theirs version 1",
    by_launch_configuration_of_a_volume: "used by launch configuration data",
    by_spot_fleet_of_a_volume: "used by Spot fleet request sfr-",
    by_override_of_a_fleet_of_a_volume: "used by EC2 Fleet fleet-",
    by_spot_request_of_a_volume: "used by Spot instance request sir-",
    by_share_of_a_snapshot: f"used by createVolumePermission of {PARTNER}",
    by_upload: "used by unfinished upload snap-",
    by_protection: "deregistration protection is on", by_share: f"shared with {PARTNER}",
}


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
def test_what_is_used_stays(account: SeededAccount, use: Callable[[SeededAccount, str], None]) -> None:
    """The same AMI is due without the use, and stays with it, which names the user."""
    used = account.ami(1)
    account.ami(2)
    assert (RetireStep.DEPRECATE, used) in steps(plan(account))
    use(account, used)
    planned = plan(account)
    assert used not in {target for _, target in steps(planned)}
    assert any(USES[use] in reason for reason in reasons(planned)[used]), reasons(planned)[used]


def test_what_launches_no_more_is_no_use(account: SeededAccount) -> None:
    """Fleets and requests that were ended stay listed for hours or days."""
    old = account.ami(1)
    account.ami(2)
    fleet = account.fleet(account.template("theirs", ["ami-00000000000000000"]), "1", ImageId=old)
    spot = {"LaunchSpecifications": [{"ImageId": old, "InstanceType": "c7i.large"}]}
    running, terminating = account.spot_fleet(**spot), account.spot_fleet(**spot)
    request = account.spot_request(old)
    closed = account.ec2.request_spot_instances(LaunchSpecification=spot["LaunchSpecifications"][0])[
        "SpotInstanceRequests"][0]["InstanceId"]
    launchers = [reason for reason in reasons(plan(account))[old] if "leet" in reason or "Spot" in reason]
    assert len(launchers) == 5
    account.ec2.delete_fleets(FleetIds=[fleet], TerminateInstances=False)
    account.ec2.cancel_spot_fleet_requests(SpotFleetRequestIds=[running], TerminateInstances=False)
    account.ec2.cancel_spot_fleet_requests(SpotFleetRequestIds=[terminating], TerminateInstances=True)
    account.ec2.cancel_spot_instance_requests(SpotInstanceRequestIds=[request])
    account.ec2.terminate_instances(InstanceIds=[closed])
    assert (RetireStep.DEPRECATE, old) in steps(plan(account))


def test_every_page_is_read(account: SeededAccount, aws: Emulator) -> None:
    old, newest = account.ami(1), account.ami(2)
    theirs = account.template("theirs", [newest])
    for ami in (newest, old):
        account.fleet(theirs, "1", ImageId=ami)
        account.spot_fleet(LaunchSpecifications=[{"ImageId": ami, "InstanceType": "c7i.large"}])
        account.spot_request(ami)
    aws.set(page_most=1)
    kinds = sorted(reason.rpartition(" ")[0] for reason in reasons(plan(account))[old])
    assert kinds == ["used by EC2 Fleet", "used by Spot fleet request", "used by Spot instance request"]
