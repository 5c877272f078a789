"""What EC2 does not show yet: an AMI, a group or an instance that was just made, a snapshot whose
AMI just went."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import boto3
import pytest
from goldenami.aws import images
from goldenami.aws.instances import instances
from goldenami.aws.inventory import leftovers, removal
from goldenami.aws.inventory.leftovers import LeftoverKind
from goldenami.core import clock
from support.aws.emulator import Emulator
from support.aws.seeded_account import SeededAccount

NOT_FOUND: dict[str, Any] = {"mode": "not-found", "calls": ["ec2:*"], "seconds": 3.0}
IN_USE: dict[str, Any] = {"mode": "in-use", "seconds": 2.0}


def test_a_snapshot_goes_after_its_ami(account: SeededAccount, aws: Emulator) -> None:
    ami = account.ami(1)
    snapshot = account.backing(ami)
    removal.disable(account.ec2, account.described(ami), clock.now())
    aws.late(IN_USE)
    removal.deregister(account.ec2, account.described(ami), clock.now())
    removal.delete_snapshot(account.ec2, snapshot)
    assert snapshot not in account.snapshots()
    for number, remove in ((2, images.remove), (3, _sweep)):
        ami = account.ami(number)
        snapshot = account.backing(ami)
        remove(account.ec2, images.get(account.ec2, [ami])[ami])
        assert snapshot not in account.snapshots()


def _sweep(ec2: Any, image: images.Image) -> None:
    for kind, name in ((LeftoverKind.IMAGE, image.ami), (LeftoverKind.SNAPSHOT, image.snapshot)):
        leftovers.remove(ec2, kind, name)


def test_an_instance_and_its_group_are_not_found_at_first(
    account: SeededAccount, aws: Emulator, tmp_path: Path,
) -> None:
    """Both are used, and both are gone in the end."""
    ami = account.ami(1)
    image, ec2 = images.get(account.ec2, [ami])[ami], boto3.client("ec2")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")],
                   check=True)
    launch = instances.Launch(name="golden-x", image=image, instance_type="c7i.large",
                              tags={"a": "b"},
                              public_key=tmp_path / "key.pub", volume_gib=8)
    aws.late({**NOT_FOUND, "seconds": 1.0}, IN_USE)
    with pytest.raises(ZeroDivisionError), instances.running(ec2, launch):
        raise ZeroDivisionError
    aws.late()
    states = [each["State"]["Name"] for reservation in ec2.describe_instances()["Reservations"]
              for each in reservation["Instances"]]
    assert states == ["terminated"]
    assert [group["GroupName"] for group in ec2.describe_security_groups()["SecurityGroups"]] == [
        "default"
    ]
