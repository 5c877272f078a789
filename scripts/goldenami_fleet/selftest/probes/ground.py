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

from goldenami_fleet.selftest.plan import SMALL
from goldenami_fleet.selftest.probes.asking import LIFETIME, Asked, Asking

ROOT_DEVICE, TYPE = images.ROOT_DEVICE, SMALL


class Ground(Asking):
    """Snapshots, AMIs, templates, parameters, an instance and a group, all called `name...`."""

    # --- snapshots ---

    def asked_start(self, **more: Any) -> Asked:
        return {"VolumeSize": 1, "Tags": tags.to_list(self.tags), **more}

    def start(self, **more: Any) -> str:
        return self.make("ebs.start_snapshot", **self.asked_start(**more))

    def asked_block(
        self, snapshot: str, text: str = "golden", size: int = BLOCK, **more: Any
    ) -> Asked:
        """A PutSnapshotBlock that is right but for `size` and `more`."""
        data = text.encode().ljust(size, b"\0")
        return {
            "SnapshotId": snapshot,
            "BlockIndex": 0,
            "BlockData": data,
            "DataLength": size,
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

    def key(self, name: str) -> str:
        """The ARN of a key. AWS's own are there as soon as somebody describes them."""
        return str(self.client("kms").describe_key(KeyId=name)["KeyMetadata"]["Arn"])

    @cached_property
    def default_key(self) -> str:
        return self.key(self.ec2.get_ebs_default_kms_key_id()["KmsKeyId"])

    @property
    def no_key(self) -> str:
        """The ARN of a key that nobody has."""
        return f"{self.default_key.rpartition('/')[0]}/00000000-0000-0000-0000-000000000000"

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
        self.wait(f"{ami} is enabled", lambda: self.described(ami).get("State") == "disabled")
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
        key = self.key("alias/aws/ebs")
        return self.register("secret", self.snapshot(0, Encrypted=True, KmsKeyArn=key))

    @cached_property
    def deprecated(self) -> str:
        """An AMI that is deprecated in a minute."""
        ami = self.register("deprecated")
        moment = clock.now() + timedelta(seconds=60)
        self.ec2.enable_image_deprecation(ImageId=ami, DeprecateAt=moment)
        self.wait(f"{ami} has no date", lambda: self.described(ami).get("DeprecationTime"))
        return ami

    @cached_property
    def typed(self) -> str:
        """An AMI for lists of types."""
        return self.register("typed")

    def allowing(self, **lists: list[str]) -> Asked:
        """A ReplaceImageInstanceTypeSpecification."""
        return {"ImageId": self.typed, "InstanceTypeSpecification": lists}

    def restricted(self, **lists: list[str]) -> str:
        """The same AMI with these lists."""
        self.ec2.replace_image_instance_type_specification(**self.allowing(**lists))

        def shown() -> bool:
            return all(
                map(self.described(self.typed).get("InstanceTypeSpecification", {}).get, lists)
            )

        self.wait(f"{self.typed} has other types", shown)
        return self.typed

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

    @cached_property
    def source(self) -> str:
        """A template for versions that nobody launches."""
        device = {"DeviceName": ROOT_DEVICE, "Ebs": {"VolumeSize": 2, "SnapshotId": self.disk}}
        return self.template("source", InstanceType=TYPE, BlockDeviceMappings=[device])

    def asked_launch(self, ami: str, **more: Any) -> Asked:
        return {
            "ImageId": ami,
            "InstanceType": TYPE,
            "MinCount": 1,
            "MaxCount": 1,
            "InstanceInitiatedShutdownBehavior": "terminate",
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
            return found if found["State"]["Name"] == "running" else None

        found = self.wait(f"{name} does not run", runs)
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
        return {
            "AutoScalingGroupName": self.group,
            "DesiredConfiguration": {"LaunchTemplate": template},
            # It goes on until the probes are done with it, however soon the instance is replaced.
            "Preferences": {"BakeTime": 3600},
        }

    @property
    def refreshing(self) -> str:
        """The group while a refresh to the newest version goes on."""
        with tolerate("InstanceRefreshInProgress"):
            self.autoscaling.start_instance_refresh(**self.asked_refresh("$Latest"))
        return self.group


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


def shows(rule: str, expects: str, look: Callable[[Ground], str]) -> Probe:
    """What a call that only reads shows, be it a little late."""
    return Probe(rule, expects, lambda ground: ground.seen(lambda: look(ground), expects))
