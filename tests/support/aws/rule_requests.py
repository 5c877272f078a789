"""What the table of rules asks: a builder makes what a call needs, and returns its parameters."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from ec2_emulator.storage.block_store import BLOCK

from support.aws.emulator import REGION, Emulator

Asked = dict[str, Any]
TYPE = "g5.xlarge"


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
        self.ec2, self.ebs = (client(emulator.url, service) for service in ("ec2", "ebs"))

    def call(self, name: str) -> Any:
        """What `ec2.run_instances` names, or a function of this class."""
        called: Any = self
        for part in name.split("."):
            called = getattr(called, part)
        return called

    def start(self, gib: int = 1, **more: Any) -> str:
        name: str = self.ebs.start_snapshot(**{"VolumeSize": gib, **more})["SnapshotId"]
        return name

    def put(self, snapshot: str, index: int, data: bytes) -> None:
        digest = hashlib.sha256(data).digest()
        self.ebs.put_snapshot_block(
            SnapshotId=snapshot,
            BlockIndex=index,
            BlockData=data,
            DataLength=len(data),
            ChecksumAlgorithm="SHA256",
            Checksum=base64.b64encode(digest).decode(),
        )

    def snapshot(self, gib: int = 1, blocks: dict[int, bytes] | None = None, **more: Any) -> str:
        name = self.start(gib, **more)
        for index, data in (blocks or {}).items():
            self.put(name, index, data)
        self.ebs.complete_snapshot(SnapshotId=name, ChangedBlocksCount=len(blocks or {}))
        return name

    def image(self, name: str = "golden-1", snapshot: str = "") -> str:
        ebs = {"SnapshotId": snapshot or self.snapshot()}
        made: str = self.ec2.register_image(
            Name=name,
            Architecture="x86_64",
            RootDeviceName="/dev/xvda",
            VirtualizationType="hvm",
            EnaSupport=True,
            BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": ebs}],
        )["ImageId"]
        return made

    def launch(self, **asked: Any) -> None:
        self.ec2.run_instances(**{"MinCount": 1, "MaxCount": 1, "InstanceType": TYPE, **asked})


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


def locked(account: ProbeAccount) -> Asked:
    """A GetSnapshotBlock of an encrypted snapshot, by a caller without the key."""
    snapshot = account.snapshot(1, {0: block("a")}, Encrypted=True)
    [first] = account.ebs.list_snapshot_blocks(SnapshotId=snapshot)["Blocks"]
    account.set(denied={"*": ["kms:Decrypt"]})
    return {"SnapshotId": snapshot, "BlockIndex": 0, "BlockToken": first["BlockToken"]}


def without_network(account: ProbeAccount) -> Asked:
    """A launch in an account without a default network."""
    account.set(has_default_vpc=False)
    return {"ImageId": account.image()}


def dead_key(account: ProbeAccount) -> str:
    """The ARN of a key that is to be deleted."""
    kms = client(account.ec2.meta.endpoint_url, "kms")
    key = kms.create_key()["KeyMetadata"]
    kms.schedule_key_deletion(KeyId=key["KeyId"])
    return str(key["Arn"])


def images(account: ProbeAccount) -> Asked:
    """Seven AMIs."""
    snapshot = account.snapshot()
    for number in range(7):
        account.image(f"golden-{number}", snapshot)
    return {"Owners": ["self"]}
