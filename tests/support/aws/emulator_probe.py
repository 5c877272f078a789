"""Calls that ask the emulator for a rule."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from ec2_emulator.storage.block_store import BLOCK

from support.aws.emulator import Emulator

STRANGER = "210987654321"
KEY = "AKIAEMULATOR00000000"
REGION = "us-east-1"
TYPE = "g5.xlarge"


class ProbeAccount:
    """An empty account at a server, with the clients that probes need; the first error is the
    answer."""

    def __init__(self, emulator: Emulator) -> None:
        self.url, self.set = emulator.url, emulator.set
        self._clients: dict[tuple[str, str, str], Any] = {}
        emulator.reset()
        self.set(pending_s=0, refresh_s=0)

    def client(self, service: str, region: str = REGION, key: str = KEY) -> Any:
        """A client, made once."""
        if (service, region, key) not in self._clients:
            self._clients[service, region, key] = SESSION.client(
                service, region_name=region, endpoint_url=self.url, aws_access_key_id=key,
                aws_secret_access_key="none", config=Config(retries={"total_max_attempts": 1}))
        return self._clients[service, region, key]

    @property
    def ec2(self) -> Any:
        return self.client("ec2")

    @property
    def ebs(self) -> Any:
        return self.client("ebs")

    @property
    def ssm(self) -> Any:
        return self.client("ssm")

    @property
    def groups(self) -> Any:
        return self.client("autoscaling")

    def call(self, name: str) -> Callable[..., Any]:
        """What `ec2.run_instances` names, or a function of this class."""
        service, _, method = name.rpartition(".")
        called: Callable[..., Any] = getattr(self.client(service) if service else self, method)
        return called

    # --- what most probes begin with ---

    def start(self, gib: int = 1, **more: Any) -> str:
        """A snapshot that waits for blocks."""
        name: str = self.ebs.start_snapshot(VolumeSize=gib, **more)["SnapshotId"]
        return name

    def put(self, snapshot: str, index: int, data: bytes) -> bytes:
        """Write a block; returns its digest."""
        digest = hashlib.sha256(data).digest()
        self.ebs.put_snapshot_block(
            SnapshotId=snapshot, BlockIndex=index, BlockData=data, DataLength=len(data),
            ChecksumAlgorithm="SHA256",
            Checksum=base64.b64encode(digest).decode())
        return digest

    def snapshot(self, gib: int = 1, blocks: dict[int, bytes] | None = None, **more: Any) -> str:
        """A completed snapshot with these blocks."""
        name = self.start(gib, **more)
        for index, data in (blocks or {}).items():
            self.put(name, index, data)
        self.ebs.complete_snapshot(SnapshotId=name, ChangedBlocksCount=len(blocks or {}))
        return name

    def image(self, name: str = "golden-1", snapshot: str = "", **more: Any) -> str:
        """A registered AMI as this project registers one."""
        asked = {"Architecture": "x86_64", "RootDeviceName": "/dev/xvda",
                 "VirtualizationType": "hvm",
                 "EnaSupport": True, **more}
        if "BlockDeviceMappings" not in more:
            ebs = {"SnapshotId": snapshot or self.snapshot()}
            asked["BlockDeviceMappings"] = [{"DeviceName": "/dev/xvda", "Ebs": ebs}]
        made: str = self.ec2.register_image(Name=name, **asked)["ImageId"]
        return made

    def template(self, **data: Any) -> str:
        """A launch template whose only version has `data`."""
        made = self.ec2.create_launch_template(LaunchTemplateName="golden-x",
                                               LaunchTemplateData=data)
        name: str = made["LaunchTemplate"]["LaunchTemplateId"]
        return name

    def launch(self, **more: Any) -> dict[str, Any]:
        """An instance, as it is described."""
        asked = {"MinCount": 1, "MaxCount": 1, "InstanceType": TYPE, **more}
        ran = self.ec2.run_instances(**asked)["Instances"][0]["InstanceId"]
        found: dict[str, Any] = self.ec2.describe_instances(InstanceIds=[ran])["Reservations"][0][
            "Instances"
        ][0]
        return found

    def group(self, template: str, size: int = 1) -> None:
        """A group of so many instances of version 1 of a template."""
        self.groups.create_auto_scaling_group(
            AutoScalingGroupName="g", MinSize=0, MaxSize=4, DesiredCapacity=size,
            AvailabilityZones=[f"{REGION}a"],
            LaunchTemplate={"LaunchTemplateId": template, "Version": "1"})


SESSION = boto3.Session(aws_access_key_id=KEY, aws_secret_access_key="none")


def block(text: str) -> bytes:
    """A block of data that differs from that of other texts."""
    return text.encode().ljust(BLOCK, b"\0")


def refused(code: str, call: Callable[..., Any], **asked: Any) -> str:
    """The call is refused with `code`; returns the message."""
    with pytest.raises(ClientError) as caught:
        call(**asked)
    assert caught.value.response["Error"]["Code"] == code, caught.value
    message: str = caught.value.response["Error"]["Message"]
    return message
