"""What the table of rules asks: a builder makes what a call needs, and returns its parameters."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from ec2_emulator.storage.block_store import BLOCK

from support.aws.emulator import REGION, Emulator

Asked = dict[str, Any]
STRANGER, TYPE = "210987654321", "g5.xlarge"
NO_IMAGE, NO_SNAPSHOT = "ami-00000000000000000", "snap-00000000000000000"
SHARE = {"LaunchPermission": {"Add": [{"UserId": STRANGER}]}}


@functools.cache
def client(url: str, service: str) -> Any:
    """A client whose first error is the answer."""
    return boto3.client(
        service,
        region_name=REGION,
        endpoint_url=url,
        aws_access_key_id="x",
        aws_secret_access_key="none",
        config=Config(retries={"total_max_attempts": 1}),
    )


class ProbeAccount:
    """An empty account, with what most calls begin with."""

    def __init__(self, emulator: Emulator) -> None:
        self.set = emulator.set
        emulator.reset()
        self.set(pending_s=0, refresh_s=0)
        self.ec2, self.ebs, self.ssm, self.autoscaling = (
            client(emulator.url, service) for service in ("ec2", "ebs", "ssm", "autoscaling")
        )

    def call(self, name: str) -> Any:
        """What `ec2.run_instances` names, or a function of this class."""
        called: Any = self
        for part in name.split("."):
            called = getattr(called, part)
        return called

    def start(self, gib: int = 1, **more: Any) -> str:
        name: str = self.ebs.start_snapshot(**{"VolumeSize": gib, **more})["SnapshotId"]
        return name

    def put(self, snapshot: str, index: int, data: bytes) -> bytes:
        """Write a block; returns its digest."""
        digest = hashlib.sha256(data).digest()
        self.ebs.put_snapshot_block(
            SnapshotId=snapshot,
            BlockIndex=index,
            BlockData=data,
            DataLength=len(data),
            ChecksumAlgorithm="SHA256",
            Checksum=base64.b64encode(digest).decode(),
        )
        return digest

    def snapshot(self, gib: int = 1, blocks: dict[int, bytes] | None = None, **more: Any) -> str:
        name = self.start(gib, **more)
        for index, data in (blocks or {}).items():
            self.put(name, index, data)
        self.ebs.complete_snapshot(SnapshotId=name, ChangedBlocksCount=len(blocks or {}))
        return name

    def image(self, name: str = "golden-1", snapshot: str = "", **more: Any) -> str:
        asked = {
            "Architecture": "x86_64",
            "RootDeviceName": "/dev/xvda",
            "VirtualizationType": "hvm",
            "EnaSupport": True,
            **more,
        }
        if "BlockDeviceMappings" not in more:
            ebs = {"SnapshotId": snapshot or self.snapshot()}
            asked["BlockDeviceMappings"] = [{"DeviceName": "/dev/xvda", "Ebs": ebs}]
        made: str = self.ec2.register_image(Name=name, **asked)["ImageId"]
        return made

    def template(self, **data: Any) -> str:
        made = self.ec2.create_launch_template(
            LaunchTemplateName="golden-x", LaunchTemplateData=data
        )
        name: str = made["LaunchTemplate"]["LaunchTemplateId"]
        return name

    def launch(self, **asked: Any) -> None:
        self.ec2.run_instances(**{"MinCount": 1, "MaxCount": 1, "InstanceType": TYPE, **asked})

    def group(self, template: str, size: int = 1) -> None:
        """A group of so many instances of version 1 of a template."""
        self.autoscaling.create_auto_scaling_group(
            AutoScalingGroupName="g",
            MinSize=0,
            MaxSize=4,
            DesiredCapacity=size,
            AvailabilityZones=[f"{REGION}a"],
            LaunchTemplate={"LaunchTemplateId": template, "Version": "1"},
        )


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


def put(account: ProbeAccount, data: bytes = block("a"), snapshot: str = "", **more: Any) -> Asked:
    """A PutSnapshotBlock that is right but for `more`."""
    checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
    return {
        "SnapshotId": snapshot or account.start(),
        "BlockIndex": 0,
        "BlockData": data,
        "DataLength": len(data),
        "Checksum": checksum,
        "ChecksumAlgorithm": "SHA256",
        **more,
    }


def complete(account: ProbeAccount, count: int = 1, **more: Any) -> Asked:
    """A CompleteSnapshot of one block."""
    snapshot = account.start()
    account.put(snapshot, 0, block("a"))
    return {"SnapshotId": snapshot, "ChangedBlocksCount": count, **more}


def child(account: ProbeAccount, parent: str, gib: int = 2, **more: Any) -> Asked:
    """A StartSnapshot from a parent."""
    return {"VolumeSize": gib, "ParentSnapshotId": parent, **more}


def token(account: ProbeAccount, index: int = 0, **more: Any) -> Asked:
    """A GetSnapshotBlock with the token of block 0."""
    snapshot = account.snapshot(1, {0: block("a"), 1: block("b")}, **more)
    listed = account.ebs.list_snapshot_blocks(SnapshotId=snapshot)["Blocks"]
    return {"SnapshotId": snapshot, "BlockIndex": index, "BlockToken": listed[0]["BlockToken"]}


def locked(account: ProbeAccount) -> Asked:
    """A GetSnapshotBlock of an encrypted snapshot, by a caller without the key."""
    asked = token(account, Encrypted=True)
    account.set(denied={"*": ["kms:Decrypt"]})
    return asked


def named(account: ProbeAccount) -> Asked:
    """A name that an AMI has."""
    account.image("golden-2")
    return {"name": "golden-2"}


def mapped(snapshot: str, **ebs: Any) -> Asked:
    """The root device."""
    device = {"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot, **ebs}}
    return {"BlockDeviceMappings": [device]}


def image(account: ProbeAccount, *calls: str, **more: Any) -> Asked:
    """The id of an AMI to which these calls were made."""
    made = account.image()
    for each in calls:
        getattr(account.ec2, each)(ImageId=made)
    return {"ImageId": made, **more}


def deprecated(account: ProbeAccount, days: int) -> Asked:
    """An EnableImageDeprecation in so many days."""
    return image(account, DeprecateAt=datetime.now(UTC) + timedelta(days=days))


def used(account: ProbeAccount) -> Asked:
    """A snapshot that a disabled AMI uses."""
    snapshot = account.snapshot()
    account.ec2.disable_image(ImageId=account.image(snapshot=snapshot))
    return {"SnapshotId": snapshot}


def secret(account: ProbeAccount) -> str:
    """A snapshot under the account's default key."""
    return account.snapshot(1, Encrypted=True)


def parameter(account: ProbeAccount) -> Asked:
    """A PutParameter of a name whose first value has not appeared yet."""
    asked = {
        "Name": "/golden-ami/x/latest",
        "Value": account.image(),
        "Type": "String",
        "DataType": "aws:ec2:image",
    }
    account.set(pending_s=3600)
    account.ssm.put_parameter(**asked)
    return asked


def without_network(account: ProbeAccount) -> Asked:
    """A launch in an account without a default network."""
    account.set(has_default_vpc=False)
    return image(account)


def retyped(account: ProbeAccount) -> Asked:
    """A PutParameter that makes a String of a secret."""
    asked = {"Name": "/golden-ami/x/latest", "Value": "x", "Type": "String", "Overwrite": True}
    account.ssm.put_parameter(**{**asked, "Type": "SecureString"})
    return asked


def dead_key(account: ProbeAccount) -> str:
    """The ARN of a key that is to be deleted."""
    kms = client(account.ec2.meta.endpoint_url, "kms")
    key = kms.create_key()["KeyMetadata"]
    kms.schedule_key_deletion(KeyId=key["KeyId"])
    return str(key["Arn"])


def refresh(account: ProbeAccount, *started: str, **more: Any) -> Asked:
    """A group, with refreshes that were started to these versions and go on."""
    made = account.template(ImageId=account.image(), InstanceType=TYPE)
    account.group(made)
    account.set(refresh_s=3600)
    for version in started:
        account.autoscaling.start_instance_refresh(
            AutoScalingGroupName="g", **desired(made, version)
        )
    return {"AutoScalingGroupName": "g", **more}


def desired(template: str, version: str) -> Asked:
    """The version of a template that a refresh leads to."""
    named = {"LaunchTemplateId": template, "Version": version}
    return {"DesiredConfiguration": {"LaunchTemplate": named}} if version else {}


def grouped(account: ProbeAccount, **override: Any) -> Asked:
    """Arguments of `ProbeAccount.group`, whose template has no type."""
    return {"template": account.template(ImageId=account.image(), **override)}


def allowed(account: ProbeAccount, image_id: str = "", **lists: list[str]) -> Asked:
    """A ReplaceImageInstanceTypeSpecification, as it is asked."""
    return {"ImageId": image_id or account.image(), "InstanceTypeSpecification": lists}


def restricted(account: ProbeAccount, **lists: list[str]) -> Asked:
    """An AMI with these lists of types."""
    asked = allowed(account, "", **lists)
    account.ec2.replace_image_instance_type_specification(**asked)
    return {"ImageId": asked["ImageId"]}


def images(account: ProbeAccount) -> Asked:
    """Seven AMIs."""
    snapshot = account.snapshot()
    for number in range(7):
        account.image(f"golden-{number}", snapshot)
    return {"Owners": ["self"]}
