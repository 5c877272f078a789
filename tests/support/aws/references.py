"""The ways in which people refer to an AMI or to its snapshot; each is made by real calls."""

from __future__ import annotations

import json

from support.aws.retirement import LATER
from support.aws.seeded_account import IMAGE, PARTNER, SeededAccount, iso


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
    account.group(
        "mixed",
        MixedInstancesPolicy={
            "LaunchTemplate": {
                "LaunchTemplateSpecification": {
                    "LaunchTemplateId": template,
                    "Version": "$Default",
                },
                "Overrides": [
                    {
                        "InstanceType": "c7i.large",
                        "LaunchTemplateSpecification": {
                            "LaunchTemplateName": f"golden-{IMAGE}",
                            "Version": "2",
                        },
                    }
                ],
            }
        },
    )


def by_fleet(account: SeededAccount, ami: str) -> None:
    other = account.ami(90)
    account.fleet(account.template(f"golden-{IMAGE}", [other, ami, other], tagged=True), "2")


def by_override_of_a_fleet(account: SeededAccount, ami: str) -> None:
    account.fleet(account.template("theirs", ["ami-00000000000000000"]), "$Default", ImageId=ami)


def by_pinned_parameter_in_an_override_of_a_fleet(account: SeededAccount, ami: str) -> None:
    account.point("/team/pinned", ami)
    account.point("/team/pinned", "ami-00000000000000000")
    account.fleet(
        account.template("theirs", ["ami-00000000000000000"]),
        "1",
        ImageId="resolve:ssm:/team/pinned:1",
    )


def by_spot_fleet(account: SeededAccount, ami: str) -> None:
    account.spot_fleet(LaunchSpecifications=[{"ImageId": ami, "InstanceType": "c7i.large"}])


def by_template_of_a_spot_fleet(account: SeededAccount, ami: str) -> None:
    other = account.ami(90)
    account.template(f"golden-{IMAGE}", [other, ami, other], tagged=True)
    account.spot_fleet(
        LaunchTemplateConfigs=[
            {
                "LaunchTemplateSpecification": {
                    "LaunchTemplateName": f"golden-{IMAGE}",
                    "Version": "2",
                }
            }
        ]
    )


def by_spot_request(account: SeededAccount, ami: str) -> None:
    account.spot_request(ami)


def by_stopped_spot_instance(account: SeededAccount, ami: str) -> None:
    account.spot_request(ami, "disabled")


def by_launch_configuration(account: SeededAccount, ami: str) -> None:
    account.groups.create_launch_configuration(
        LaunchConfigurationName="old", ImageId=ami, InstanceType="c7i.large"
    )


def by_instance(account: SeededAccount, ami: str) -> None:
    account.launch(ami)


def by_stopped_instance(account: SeededAccount, ami: str) -> None:
    account.ec2.stop_instances(InstanceIds=[account.launch(ami)])


def by_volume(account: SeededAccount, ami: str) -> None:
    account.ec2.create_volume(
        SnapshotId=account.backing(ami), AvailabilityZone=f"{account.region}a"
    )


def by_template_of_a_volume(account: SeededAccount, ami: str) -> None:
    account.ec2.create_launch_template(
        LaunchTemplateName="theirs",
        LaunchTemplateData={
            "ImageId": "ami-00000000000000000",
            "BlockDeviceMappings": [
                {"DeviceName": "/dev/sdb", "Ebs": {"SnapshotId": account.backing(ami)}}
            ],
        },
    )


def _data_volume(account: SeededAccount, ami: str) -> dict[str, object]:
    """A launch of another image, with a volume of the AMI's snapshot."""
    return {
        "ImageId": "ami-00000000000000000",
        "InstanceType": "c7i.large",
        "BlockDeviceMappings": [
            {"DeviceName": "/dev/sdb", "Ebs": {"SnapshotId": account.backing(ami)}}
        ],
    }


def by_launch_configuration_of_a_volume(account: SeededAccount, ami: str) -> None:
    account.groups.create_launch_configuration(
        LaunchConfigurationName="data", **_data_volume(account, ami)
    )


def by_spot_fleet_of_a_volume(account: SeededAccount, ami: str) -> None:
    account.spot_fleet(LaunchSpecifications=[_data_volume(account, ami)])


def by_real_spot_fleet_of_a_volume(account: SeededAccount, ami: str) -> None:
    account.ec2.request_spot_fleet(
        SpotFleetRequestConfig={
            "IamFleetRole": "arn:aws:iam::123456789012:role/x",
            "TargetCapacity": 0,
            "AllocationStrategy": "lowestPrice",
            "LaunchSpecifications": [_data_volume(account, ami)],
        }
    )


def by_override_of_a_fleet_of_a_volume(account: SeededAccount, ami: str) -> None:
    override = _data_volume(account, ami)
    account.fleet(
        account.template("theirs", ["ami-00000000000000000"]),
        "1",
        BlockDeviceMappings=override["BlockDeviceMappings"],
    )


def by_spot_request_of_a_volume(account: SeededAccount, ami: str) -> None:
    devices = _data_volume(account, ami)["BlockDeviceMappings"]
    account.spot_request(account.ami(90), BlockDeviceMappings=devices)


def by_share_of_a_snapshot(account: SeededAccount, ami: str) -> None:
    account.ec2.modify_snapshot_attribute(
        SnapshotId=account.backing(ami),
        Attribute="createVolumePermission",
        OperationType="add",
        UserIds=[PARTNER],
    )


def by_upload(account: SeededAccount, ami: str) -> None:
    account.snapshot(
        91, complete=False, expires=iso(LATER + 1), parent_snapshot=account.backing(ami)
    )


def by_protection(account: SeededAccount, ami: str) -> None:
    account.ec2.enable_image_deregistration_protection(ImageId=ami)


def by_share(account: SeededAccount, ami: str) -> None:
    account.share(ami, PARTNER)
