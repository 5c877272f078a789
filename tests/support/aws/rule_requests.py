"""What the tables of rules ask: a builder makes what a call needs, and returns its parameters."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

from support.aws.emulator_probe import STRANGER, TYPE, ProbeAccount, block

Asked = dict[str, Any]
NO_IMAGE, NO_SNAPSHOT = "ami-00000000000000000", "snap-00000000000000000"
SHARE = {"LaunchPermission": {"Add": [{"UserId": STRANGER}]}}


def put(account: ProbeAccount, data: bytes = block("a"), snapshot: str = "", **more: Any) -> Asked:
    """A PutSnapshotBlock that is right but for `more`."""
    checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
    return {"SnapshotId": snapshot or account.start(), "BlockIndex": 0, "BlockData": data,
            "DataLength": len(data), "Checksum": checksum, "ChecksumAlgorithm": "SHA256", **more}


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
    asked = {"Name": "/golden-ami/x/latest", "Value": account.image(), "Type": "String",
             "DataType": "aws:ec2:image"}
    account.set(pending_s=3600)
    account.ssm.put_parameter(**asked)
    return asked


def refresh(account: ProbeAccount, *started: str, **more: Any) -> Asked:
    """A group, with refreshes that were started to these versions and go on."""
    made = account.template(ImageId=account.image(), InstanceType=TYPE)
    account.group(made)
    account.set(refresh_s=3600)
    for version in started:
        account.groups.start_instance_refresh(AutoScalingGroupName="g", **desired(made, version))
    return {"AutoScalingGroupName": "g", **more}


def desired(template: str, version: str) -> Asked:
    """The version of a template that a refresh leads to."""
    named = {"LaunchTemplateId": template, "Version": version}
    return {"DesiredConfiguration": {"LaunchTemplate": named}} if version else {}


def grouped(account: ProbeAccount, **override: Any) -> Asked:
    """Arguments of `ProbeAccount.group`, whose template has no type."""
    return {"template": account.template(ImageId=account.image(), **override)}


def images(account: ProbeAccount) -> Asked:
    """Seven AMIs."""
    snapshot = account.snapshot()
    for number in range(7):
        account.image(f"golden-{number}", snapshot)
    return {"Owners": ["self"]}


def snapshots(account: ProbeAccount) -> Asked:
    """Seven snapshots."""
    for _ in range(7):
        account.snapshot()
    return {"OwnerIds": ["self"]}


def templates(account: ProbeAccount) -> Asked:
    """Seven templates."""
    for number in range(7):
        account.ec2.create_launch_template(LaunchTemplateName=f"golden-{number}",
                                           LaunchTemplateData={"KeyName": "x"})
    return {}
