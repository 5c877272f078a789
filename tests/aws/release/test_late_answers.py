"""What EC2 does not show yet: an AMI, a group or an instance that was just made, a snapshot whose
AMI just went."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from goldenami.aws import images
from goldenami.aws.instances import instances
from support.aws import unbound
from support.aws.emulator import Emulator
from support.aws.seeded_account import SeededAccount

NOT_FOUND: dict[str, Any] = {"mode": "not-found", "calls": ["ec2:*"], "seconds": 3.0}
IN_USE: dict[str, Any] = {"mode": "in-use", "seconds": 2.0}


def a_launch(account: SeededAccount, folder: Path) -> instances.Launch:
    ami = account.ami(1)
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key")], check=True
    )
    return instances.Launch(
        name="golden-x",
        image=images.get(account.ec2, [ami])[ami],
        instance_type="c7i.large",
        tags={"a": "b"},
        public_key=folder / "key.pub",
        volume_gib=8,
    )


def test_an_instance_that_does_not_end_in_time_is_said_to_run(
    account: SeededAccount,
    aws: Emulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It costs money: the error has its region and the command that ends it."""
    launch, ec2 = a_launch(account, tmp_path), unbound.account().ec2("us-east-1")
    monkeypatch.setattr(instances, "LIMIT_S", 1.0)
    said = r"may still run in us-east-1: i-\w+ is running 1 s after it was to terminate"
    with pytest.raises(instances.StillRuns, match=said), instances.running(ec2, launch):
        aws.late({"mode": "stale", "seconds": 60.0})
    aws.late()


def test_an_instance_and_its_group_are_not_found_at_first(
    account: SeededAccount,
    aws: Emulator,
    tmp_path: Path,
) -> None:
    """Both are used, and both are gone in the end."""
    launch, ec2 = a_launch(account, tmp_path), unbound.account().ec2("us-east-1")
    aws.late({**NOT_FOUND, "seconds": 1.0}, IN_USE)
    with pytest.raises(ZeroDivisionError), instances.running(ec2, launch):
        raise ZeroDivisionError
    aws.late()
    states = [
        each["State"]["Name"]
        for reservation in ec2.describe_instances()["Reservations"]
        for each in reservation["Instances"]
    ]
    assert states == ["terminated"]
    assert [group["GroupName"] for group in ec2.describe_security_groups()["SecurityGroups"]] == [
        "default"
    ]
