"""What probes stand on: a few cheap things in a region, made once when a probe needs them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any

from goldenami.aws import images, tags
from goldenami.aws.calls import tolerate
from goldenami.aws.instances import instances
from goldenami.core import clock
from goldenami.model.builds.sparse_disk import BLOCK

from goldenami_fleet.selftest.probes.asking import LIFETIME, Asked, Asking

ROOT_DEVICE, TYPE, SHUTDOWN = "/dev/xvda", "t3.micro", "#!/bin/sh\nshutdown -P +20\n"


class Ground(Asking):
    """Snapshots, AMIs, templates, parameters, an instance and a group, all called `name...`."""

    # --- snapshots ---

    def asked_start(self, **more: Any) -> Asked:
        return {"VolumeSize": 1, "Tags": tags.to_list(self.tags), **more}

    def start(self, **more: Any) -> str:
        return self.make("ebs.start_snapshot", **self.asked_start(**more))

    def asked_block(self, snapshot: str, text: str = "golden", **more: Any) -> Asked:
        """A PutSnapshotBlock that is right but for `more`."""
        data = text.encode().ljust(BLOCK, b"\0")
        return {
            "SnapshotId": snapshot,
            "BlockIndex": 0,
            "BlockData": data,
            "DataLength": BLOCK,
            "Checksum": base64.b64encode(hashlib.sha256(data).digest()).decode(),
            "ChecksumAlgorithm": "SHA256",
            **more,
        }

    def filled(self, *blocks: int, text: str = "golden", **more: Any) -> Asked:
        """A CompleteSnapshot of a snapshot to which these blocks were written."""
        name = self.start(**more)
        for index in blocks:
            put = self.asked_block(name, f"{text} {index}", BlockIndex=index)
            self.ebs.put_snapshot_block(**put)
        return {"SnapshotId": name, "ChangedBlocksCount": len(blocks)}

    def snapshot(self, *blocks: int, text: str = "golden", **more: Any) -> str:
        asked = self.filled(*blocks, text=text, **more)
        self.ebs.complete_snapshot(**asked)
        name = str(asked["SnapshotId"])
        self.wait(f"{name} is pending", lambda: self.state(name) == "completed")
        return name

    def state(self, snapshot: str) -> str:
        [row] = self.ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"]
        return str(row["State"])

    @cached_property
    def disk(self) -> str:
        """A snapshot of 1 GiB with blocks 0 and 1."""
        return self.snapshot(0, 1)

    @cached_property
    def larger(self) -> str:
        """One of 2 GiB."""
        return self.snapshot(0, VolumeSize=2)

    @cached_property
    def opened(self) -> str:
        """One that waits for blocks."""
        return self.start()

    @cached_property
    def key(self) -> str:
        """The ARN of the key that AWS manages for EBS, which is there after its first use."""
        self.start(Encrypted=True)
        return str(self.client("kms").describe_key(KeyId="alias/aws/ebs")["KeyMetadata"]["Arn"])

    @property
    def no_key(self) -> str:
        """The ARN of a key that nobody has."""
        return f"{self.key.rpartition('/')[0]}/00000000-0000-0000-0000-000000000000"

    # --- AMIs ---

    def asked_image(self, name: str, snapshot: str = "", **more: Any) -> Asked:
        """A RegisterImage; `Ebs` in `more` is of the root device."""
        ebs = {"SnapshotId": snapshot or self.disk, **more.pop("Ebs", {})}
        return {
            "Name": f"{self.name}-{name}",
            "Architecture": "x86_64",
            "RootDeviceName": ROOT_DEVICE,
            "VirtualizationType": "hvm",
            "EnaSupport": True,
            "BootMode": "uefi-preferred",
            "ImdsSupport": "v2.0",
            "BlockDeviceMappings": [{"DeviceName": ROOT_DEVICE, "Ebs": ebs}],
            "TagSpecifications": self.of("image"),
            **more,
        }

    def register(self, name: str, snapshot: str = "") -> str:
        """Make an AMI that can be launched. It boots nothing: its disk is empty."""
        ami = self.make("ec2.register_image", **self.asked_image(name, snapshot))
        images.wait_available(self.ec2, ami)
        return ami

    def described(self, ami: str) -> dict[str, Any]:
        """An own AMI as DescribeImages shows it, or nothing."""
        found = images.get(self.ec2, [ami])
        return found[ami].raw if ami in found else {}

    def listed(self, ami: str, **more: Any) -> str:
        """Whether DescribeImages lists an AMI."""
        filters = [{"Name": "image-id", "Values": [ami]}]
        answer = self.ec2.describe_images(Owners=["self"], Filters=filters, **more)
        return "listed" if answer["Images"] else "hidden"

    @cached_property
    def image(self) -> str:
        return self.register("image")

    @cached_property
    def disabled(self) -> str:
        ami = self.register("disabled")
        self.ec2.disable_image(ImageId=ami)
        self.wait(f"{ami} is enabled", lambda: self.described(ami)["State"] == "disabled")
        return ami

    @cached_property
    def gone(self) -> str:
        """An AMI that was deregistered."""
        ami = self.register("gone")
        self.ec2.deregister_image(ImageId=ami)
        self.wait(f"{ami} is there", lambda: not images.get(self.ec2, [ami]))
        return ami

    @cached_property
    def secret(self) -> str:
        """An AMI under the key that AWS manages."""
        return self.register("secret", self.snapshot(0, Encrypted=True, KmsKeyArn=self.key))

    @cached_property
    def deprecated(self) -> str:
        """An AMI that is deprecated in a minute."""
        ami = self.register("deprecated")
        moment = clock.now() + timedelta(seconds=60)
        self.ec2.enable_image_deprecation(ImageId=ami, DeprecateAt=moment)
        self.wait(f"{ami} has no date", lambda: self.described(ami).get("DeprecationTime"))
        return ami

    def allowing(self, **lists: list[str]) -> Asked:
        """A ReplaceImageInstanceTypeSpecification."""
        return {"ImageId": self.image, "InstanceTypeSpecification": lists}

    def restricted(self, name: str, **lists: list[str]) -> str:
        """An AMI with these lists of types."""
        asked = {**self.allowing(**lists), "ImageId": self.register(name)}
        self.ec2.replace_image_instance_type_specification(**asked)
        self.wait(
            f"{asked['ImageId']} has no types",
            lambda: self.described(asked["ImageId"]).get("InstanceTypeSpecification"),
        )
        return str(asked["ImageId"])

    # --- parameters, templates, machines ---

    def asked_parameter(self, name: str, value: str, **more: Any) -> Asked:
        return {"Name": f"{self.path}/{name}", "Value": value, "Type": "String", **more}

    def parameter(self, name: str) -> str:
        """The value of a parameter, or "" if there is none."""
        with tolerate("ParameterNotFound"):
            answer = self.ssm.get_parameter(Name=f"{self.path}/{name}")
            return str(answer["Parameter"]["Value"])
        return ""

    @cached_property
    def pointer(self) -> str:
        """The name of a parameter that leads to the AMI. AWS takes one that leads nowhere, too."""
        for name, ami in (("nowhere", "ami-00000000000000000"), ("latest", self.image)):
            asked = self.asked_parameter(name, ami, DataType="aws:ec2:image")
            self.ask("ssm.put_parameter", **asked)
        self.wait(f"{self.path}/latest is not there", lambda: self.parameter("latest"))
        return f"{self.path}/latest"

    def template(self, name: str, **data: Any) -> str:
        return self.make(
            "ec2.create_launch_template",
            LaunchTemplateName=f"{self.name}-{name}",
            LaunchTemplateData={"ImageId": self.image, **data},
            TagSpecifications=self.of("launch-template"),
        )

    @cached_property
    def launching(self) -> str:
        """A template for a machine with a root volume of type gp3."""
        device = {"DeviceName": ROOT_DEVICE, "Ebs": {"VolumeType": "gp3"}}
        return self.template("launching", InstanceType=TYPE, BlockDeviceMappings=[device])

    @cached_property
    def bare(self) -> str:
        """A template without a type."""
        return self.template("bare")

    def asked_version(self, **data: Any) -> Asked:
        """A CreateLaunchTemplateVersion from version 1."""
        template = {"LaunchTemplateId": self.launching, "SourceVersion": "1"}
        return {**template, "LaunchTemplateData": data}

    def asked_launch(self, ami: str, **more: Any) -> Asked:
        return {
            "ImageId": ami,
            "InstanceType": TYPE,
            "MinCount": 1,
            "MaxCount": 1,
            "InstanceInitiatedShutdownBehavior": "terminate",
            "UserData": SHUTDOWN,
            "TagSpecifications": self.of("instance", "volume"),
            **more,
        }

    @cached_property
    def launched(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """An instance, launched by parameter and template, and its root volume, as they were before
        it was ended."""
        template = {"LaunchTemplateId": self.launching, "Version": "1"}
        ebs = {"VolumeSize": 2, "DeleteOnTermination": True}
        volume = [{"DeviceName": ROOT_DEVICE, "Ebs": ebs}]
        asked = self.asked_launch(
            f"resolve:ssm:{self.pointer}", LaunchTemplate=template, BlockDeviceMappings=volume
        )
        name = self.make("ec2.run_instances", **asked)

        def runs() -> dict[str, Any] | None:
            found = instances.describe(self.ec2, name)
            return None if found["State"]["Name"] == "pending" else found

        found = self.wait(f"{name} is pending", runs)
        [device] = found["BlockDeviceMappings"]
        [row] = self.ec2.describe_volumes(VolumeIds=[device["Ebs"]["VolumeId"]])["Volumes"]
        self.ec2.terminate_instances(InstanceIds=[name])
        return found, row

    def asked_group(self, name: str, template: str) -> Asked:
        zone = self.launched[0]["Placement"]["AvailabilityZone"]
        own = {"ResourceType": "auto-scaling-group", "PropagateAtLaunch": True}
        return {
            "AutoScalingGroupName": f"{self.name}-{name}",
            "MinSize": 0,
            "MaxSize": 1,
            "DesiredCapacity": 1,
            "AvailabilityZones": [zone],
            "HealthCheckGracePeriod": 7200,  # an empty disk fails EC2's checks of its machine
            "LaunchTemplate": {"LaunchTemplateId": template, "Version": "1"},
            "Tags": [{**tag, **own} for tag in tags.to_list(self.tags)],
        }

    @cached_property
    def group(self) -> str:
        """A group of one instance."""
        asked = self.asked_group("group", self.launching)
        name = self.make("autoscaling.create_auto_scaling_group", **asked)
        # Nobody pays for it for long, if this process is killed.
        self.autoscaling.put_scheduled_update_group_action(
            AutoScalingGroupName=name,
            ScheduledActionName="end",
            StartTime=clock.now() + LIFETIME / 2,
            MinSize=0,
            MaxSize=0,
            DesiredCapacity=0,
        )
        self.wait(f"{name} has no instance", lambda: self.members(name))
        return name

    def members(self, group: str) -> list[str]:
        """The instances of a group that are in service."""
        return [
            member["InstanceId"]
            for described in self.described_group(group)
            for member in described["Instances"]
            if member["LifecycleState"] == "InService"
        ]

    def refreshes(self) -> list[str]:
        """The states of the group's refreshes."""
        answer = self.autoscaling.describe_instance_refreshes(AutoScalingGroupName=self.group)
        return [str(refresh["Status"]) for refresh in answer["InstanceRefreshes"]]

    def asked_refresh(self, version: str) -> Asked:
        template = {"LaunchTemplateId": self.launching, "Version": version}
        desired = {"DesiredConfiguration": {"LaunchTemplate": template}}
        return {"AutoScalingGroupName": self.group, **desired}

    def refresh(self, version: str) -> str:
        """Start a refresh of the group, and return the group's name."""
        self.autoscaling.start_instance_refresh(**self.asked_refresh(version))
        return self.group

    @cached_property
    def refreshing(self) -> str:
        """The group while a refresh to the newest version goes on."""
        return self.refresh("$Latest")


@dataclass(frozen=True)
class Probe:
    """A question to AWS about a rule of the contract, and what we take AWS to do."""

    rule: str
    expects: str
    run: Callable[[Ground], str]
    """What AWS did, in the form of `expects`."""


def refused(rule: str, code: str, call: str, build: Callable[[Ground], Asked]) -> Probe:
    """A call that AWS is to refuse with `code`. What it needs is made before."""
    return Probe(rule, code, lambda ground: ground.answer(call, build(ground), code))
