"""Who refers to an AMI: whatever does keeps it, and is named as the reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from goldenami.lifecycle.retention import Step
from support.aws.estate import IMAGE, PARTNER, Calendar, Estate, iso
from support.aws.retiring import LATER, plan, reasons, steps

if TYPE_CHECKING:
    from conftest import Emulator


@pytest.fixture(autouse=True)
def later(calendar: Calendar) -> None:
    calendar.days = LATER


def by_parameter(estate: Estate, ami: str) -> None:
    estate.point("/team/base", ami)


def by_parameter_of_json(estate: Estate, ami: str) -> None:
    estate.point("flat-name", json.dumps({"image": ami}))


def by_latest(estate: Estate, ami: str) -> None:
    estate.point(f"/golden-ami/{IMAGE}/latest", ami)


def by_old_version_of_a_template(estate: Estate, ami: str) -> None:
    estate.template("theirs", [ami, "ami-00000000000000000"])


def by_pinned_parameter(estate: Estate, ami: str) -> None:
    estate.point("/team/pinned", ami)
    estate.point("/team/pinned", "ami-00000000000000000")
    estate.template("theirs", ["resolve:ssm:/team/pinned:1"])


def by_own_template(estate: Estate, ami: str) -> None:
    estate.template(f"golden-{IMAGE}", [ami], tagged=True)


def by_group_of_own_template(estate: Estate, ami: str) -> None:
    other = estate.ami(90)
    made = estate.template(f"golden-{IMAGE}", [other, ami, other], tagged=True)
    estate.group("workers", LaunchTemplate={"LaunchTemplateId": made, "Version": "2"})


def by_mixed_overrides(estate: Estate, ami: str) -> None:
    other = estate.ami(90)
    made = estate.template(f"golden-{IMAGE}", [other, ami, other], tagged=True)
    estate.group("mixed", MixedInstancesPolicy={"LaunchTemplate": {
        "LaunchTemplateSpecification": {"LaunchTemplateId": made, "Version": "$Default"},
        "Overrides": [{"InstanceType": "c7i.large",
                       "LaunchTemplateSpecification": {"LaunchTemplateName": f"golden-{IMAGE}", "Version": "2"}}]}})


def by_fleet(estate: Estate, ami: str) -> None:
    other = estate.ami(90)
    estate.fleet(estate.template(f"golden-{IMAGE}", [other, ami, other], tagged=True), "2")


def by_override_of_a_fleet(estate: Estate, ami: str) -> None:
    estate.fleet(estate.template("theirs", ["ami-00000000000000000"]), "$Default", ImageId=ami)


def by_pinned_parameter_in_an_override_of_a_fleet(estate: Estate, ami: str) -> None:
    estate.point("/team/pinned", ami)
    estate.point("/team/pinned", "ami-00000000000000000")
    estate.fleet(estate.template("theirs", ["ami-00000000000000000"]), "1", ImageId="resolve:ssm:/team/pinned:1")


def by_spot_fleet(estate: Estate, ami: str) -> None:
    estate.spot_fleet(LaunchSpecifications=[{"ImageId": ami, "InstanceType": "c7i.large"}])


def by_template_of_a_spot_fleet(estate: Estate, ami: str) -> None:
    other = estate.ami(90)
    estate.template(f"golden-{IMAGE}", [other, ami, other], tagged=True)
    estate.spot_fleet(LaunchTemplateConfigs=[
        {"LaunchTemplateSpecification": {"LaunchTemplateName": f"golden-{IMAGE}", "Version": "2"}}])


def by_spot_request(estate: Estate, ami: str) -> None:
    estate.spot_request(ami)


def by_stopped_spot_instance(estate: Estate, ami: str) -> None:
    request = estate.ec2.request_spot_instances(
        LaunchSpecification={"ImageId": ami, "InstanceType": "c7i.large"}, Type="persistent")["SpotInstanceRequests"][0]
    estate.ec2.stop_instances(InstanceIds=[request["InstanceId"]])


def by_launch_configuration(estate: Estate, ami: str) -> None:
    estate.groups.create_launch_configuration(LaunchConfigurationName="old", ImageId=ami, InstanceType="c7i.large")


def by_instance(estate: Estate, ami: str) -> None:
    estate.launch(ami)


def by_stopped_instance(estate: Estate, ami: str) -> None:
    estate.ec2.stop_instances(InstanceIds=[estate.launch(ami)])


def by_volume(estate: Estate, ami: str) -> None:
    estate.ec2.create_volume(SnapshotId=estate.backing(ami), AvailabilityZone=f"{estate.region}a")


def by_template_of_a_volume(estate: Estate, ami: str) -> None:
    estate.ec2.create_launch_template(LaunchTemplateName="theirs", LaunchTemplateData={
        "ImageId": "ami-00000000000000000",
        "BlockDeviceMappings": [{"DeviceName": "/dev/sdb", "Ebs": {"SnapshotId": estate.backing(ami)}}]})


def by_upload(estate: Estate, ami: str) -> None:
    estate.snapshot(91, complete=False, expires=iso(LATER + 1), parent_snapshot=estate.backing(ami))


def by_protection(estate: Estate, ami: str) -> None:
    estate.ec2.enable_image_deregistration_protection(ImageId=ami)


def by_share(estate: Estate, ami: str) -> None:
    estate.share(ami, PARTNER)


USES: dict[Callable[[Estate, str], None], str] = {
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
    by_upload: "used by unfinished upload snap-",
    by_protection: "deregistration protection is on", by_share: f"shared with {PARTNER}",
}


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
def test_what_is_used_stays(estate: Estate, use: Callable[[Estate, str], None]) -> None:
    """The same AMI is due without the use, and stays with it, which names the user."""
    used = estate.ami(1)
    estate.ami(2)
    assert (Step.DEPRECATE, used) in steps(plan(estate))
    use(estate, used)
    planned = plan(estate)
    assert used not in {target for _, target in steps(planned)}
    assert any(USES[use] in reason for reason in reasons(planned)[used]), reasons(planned)[used]


def test_what_launches_no_more_is_no_use(estate: Estate) -> None:
    """Fleets and requests that were ended stay listed for hours or days."""
    old = estate.ami(1)
    estate.ami(2)
    fleet = estate.fleet(estate.template("theirs", ["ami-00000000000000000"]), "1", ImageId=old)
    spot = {"LaunchSpecifications": [{"ImageId": old, "InstanceType": "c7i.large"}]}
    running, terminating = estate.spot_fleet(**spot), estate.spot_fleet(**spot)
    request = estate.spot_request(old)
    closed = estate.ec2.request_spot_instances(LaunchSpecification=spot["LaunchSpecifications"][0])[
        "SpotInstanceRequests"][0]["InstanceId"]
    launchers = [reason for reason in reasons(plan(estate))[old] if "leet" in reason or "Spot" in reason]
    assert len(launchers) == 5
    estate.ec2.delete_fleets(FleetIds=[fleet], TerminateInstances=False)
    estate.ec2.cancel_spot_fleet_requests(SpotFleetRequestIds=[running], TerminateInstances=False)
    estate.ec2.cancel_spot_fleet_requests(SpotFleetRequestIds=[terminating], TerminateInstances=True)
    estate.ec2.cancel_spot_instance_requests(SpotInstanceRequestIds=[request])
    estate.ec2.terminate_instances(InstanceIds=[closed])
    assert (Step.DEPRECATE, old) in steps(plan(estate))


def test_every_page_is_read(estate: Estate, aws: Emulator) -> None:
    old, newest = estate.ami(1), estate.ami(2)
    theirs = estate.template("theirs", [newest])
    for ami in (newest, old):
        estate.fleet(theirs, "1", ImageId=ami)
        estate.spot_fleet(LaunchSpecifications=[{"ImageId": ami, "InstanceType": "c7i.large"}])
        estate.spot_request(ami)
    aws.set(page_most=1)
    kinds = sorted(reason.rpartition(" ")[0] for reason in reasons(plan(estate))[old])
    assert kinds == ["used by EC2 Fleet", "used by Spot fleet request", "used by Spot instance request"]
