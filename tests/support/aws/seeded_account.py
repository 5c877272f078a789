"""An account with a history, made by real calls to the emulator, for the tests of what happens to
AMIs afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from goldenami.aws import images, tags
from goldenami.aws.inventory import inventory, removal
from goldenami.aws.inventory.topology import AccountAmi
from goldenami.aws.session import Account
from goldenami.core import clock

from support.aws import unbound
from support.aws.emulator import Emulator

IMAGE = "debian-13-ml-cpu"
REGION = "us-east-1"
PARTNER = "210987654321"


def build_id(number: int) -> str:
    return f"{number:012x}"


@cache
def account_at(url: str) -> Account:
    """One account for all tests of a server: clients cost half a second each."""
    assert os.environ["AWS_ENDPOINT_URL"] == url
    return unbound.account()


class SeededAccount:
    """One region of an account in which `image` was published many times."""

    def __init__(
        self,
        emulator: Emulator,
        region: str = REGION,
        image: str = IMAGE,
        session: Account | None = None,
    ) -> None:
        self.emulator, self.region, self.image = emulator, region, image
        self.session = session or account_at(emulator.url)
        self.ec2, self.ebs = self.session.ec2(region), self.session.ebs(region)
        self.ssm, self.groups = self.session.ssm(region), self.session.autoscaling(region)

    # --- making ---

    def snapshot(self, number: int, *, complete: bool = True, **marks: str) -> str:
        """A snapshot of a build; `marks` are tags by their short names (`expires="..."`)."""
        given = {tags.IMAGE: self.image, tags.BUILD_ID: build_id(number)}
        given |= {f"goldenami:{name.replace('_', '-')}": value for name, value in marks.items()}
        made: str = self.ebs.start_snapshot(VolumeSize=1, Tags=tags.to_list(given))["SnapshotId"]
        if complete:
            self.ebs.complete_snapshot(SnapshotId=made, ChangedBlocksCount=0)
        return made

    def ami(
        self, number: int, *, tagged: bool = True, recorded: bool = True, snapshot: str = ""
    ) -> str:
        """A published AMI: registered, tagged, recorded; a higher number is newer."""
        self.emulator.set(clock_ahead_s=number)
        marks = {tags.IMAGE: self.image, tags.BUILD_ID: build_id(number)} if tagged else {}
        given = {"TagSpecifications": tags.specifications(marks, "image")} if tagged else {}
        made: str = self.ec2.register_image(
            Name=f"{self.image}-{build_id(number)}",
            Architecture="x86_64",
            RootDeviceName="/dev/xvda",
            VirtualizationType="hvm",
            EnaSupport=True,
            **given,
            BlockDeviceMappings=[
                {
                    "DeviceName": "/dev/xvda",
                    "Ebs": {"SnapshotId": snapshot or self.snapshot(number)},
                }
            ],
        )["ImageId"]
        if recorded:
            self.ssm.put_parameter(Name=self.record(number), Value=made, Type="String")
        self.emulator.set(clock_ahead_s=0)
        return made

    def record(self, number: int) -> str:
        return f"/golden-ami/{self.image}/{build_id(number)}"

    def point(self, name: str, ami: str) -> None:
        self.ssm.put_parameter(Name=name, Value=ami, Type="String", Overwrite=True)

    def template(self, name: str, refs: Iterable[str], *, tagged: bool = False) -> str:
        """A launch template with a version for each image reference; the first is the default."""
        template_id = ""
        marks = tags.specifications({tags.IMAGE: self.image}, "launch-template")
        given: dict[str, Any] = {"TagSpecifications": marks} if tagged else {}
        for ref in refs:
            data = {"ImageId": ref, "InstanceType": "c7i.large"}
            if template_id:
                self.ec2.create_launch_template_version(
                    LaunchTemplateId=template_id, LaunchTemplateData=data
                )
            else:
                template_id = self.ec2.create_launch_template(
                    LaunchTemplateName=name, LaunchTemplateData=data, **given
                )["LaunchTemplate"]["LaunchTemplateId"]
        return template_id

    def launch(self, ami: str, **given: Any) -> str:
        return str(
            self.ec2.run_instances(
                ImageId=ami, MinCount=1, MaxCount=1, InstanceType="c7i.large", **given
            )["Instances"][0]["InstanceId"]
        )

    def group(self, name: str, **given: Any) -> None:
        """An Auto Scaling group without instances."""
        self.groups.create_auto_scaling_group(
            AutoScalingGroupName=name,
            MinSize=0,
            MaxSize=1,
            AvailabilityZones=[f"{self.region}a"],
            **given,
        )

    def _state(self, call: str, listed: str, **row: Any) -> None:
        answer: dict[str, Any] = {listed: [row]}
        self.emulator.answer(f"ec2:{call}", self.region, **answer)

    def fleet(self, template: str, version: str, state: str = "active", **override: Any) -> None:
        named = {"LaunchTemplateSpecification": {"LaunchTemplateId": template, "Version": version}}
        overrides = {"Overrides": [override]} if override else {}
        self._state(
            "DescribeFleets",
            "Fleets",
            FleetId="fleet-1",
            FleetState=state,
            LaunchTemplateConfigs=[{**named, **overrides}],
        )

    def spot_fleet(self, state: str = "active", **config: Any) -> None:
        self._state(
            "DescribeSpotFleetRequests",
            "SpotFleetRequestConfigs",
            SpotFleetRequestId="sfr-1",
            SpotFleetRequestState=state,
            SpotFleetRequestConfig={"IamFleetRole": "a role", "TargetCapacity": 1, **config},
        )

    def spot_request(self, ami: str, state: str = "open", **launch: Any) -> None:
        self._state(
            "DescribeSpotInstanceRequests",
            "SpotInstanceRequests",
            SpotInstanceRequestId="sir-1",
            State=state,
            LaunchSpecification={"ImageId": ami, **launch},
        )

    def share(self, ami: str, *accounts: str) -> None:
        self.ec2.modify_image_attribute(
            ImageId=ami, LaunchPermission={"Add": [{"UserId": each} for each in accounts]}
        )

    # --- looking ---

    def amis(self) -> dict[str, AccountAmi]:
        return {ami.id: ami for ami in inventory.amis(self.ec2)}

    def snapshots(self) -> set[str]:
        return {
            each["SnapshotId"]
            for each in self.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]
        }

    def backing(self, ami: str) -> str:
        return self.amis()[ami].snapshots[0]

    def parameters(self) -> dict[str, str]:
        return inventory.parameters(self.ssm)

    def shares(self, ami: str) -> list[str]:
        return sorted(images.accounts_shared_with(self.ec2, ami))

    def marks(self, ami: str) -> dict[str, str]:
        return tags.from_list(self.described(ami).get("Tags"))

    def described(self, ami: str) -> removal.Image:
        found = removal.FreshImages(self.ec2, [ami]).get(ami)
        assert found is not None
        return found


REAL_NOW = clock.now


class Calendar:
    """The project's clock, some days ahead: the emulator makes nothing that is already old."""

    def __init__(self, days: float = 0) -> None:
        self.days = days

    def __call__(self) -> datetime:
        return REAL_NOW() + timedelta(days=self.days)


def iso(days: float) -> str:
    """The moment so many days from now, as tags state it."""
    return clock.stamp(datetime.now(UTC) + timedelta(days=days))
