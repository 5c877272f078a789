"""A candidate of a GPU image in the emulated account, and what a test of it left there."""

from __future__ import annotations

from typing import Any

from goldenami.core import records
from goldenami.model.builds.build_records import LOCK_FILE
from goldenami.model.locked import lockfile
from goldenami.model.locked.lockfile import Lock

from support.builds import builds
from support.builds.builds import GPU_IMAGE, REGIONS, Checkout, RegionState
from support.gpu import gpu_records
from support.security import signing_key


def build(checkout: Checkout, number: int, sm: tuple[str, ...] = ("75", "86", "89")) -> str:
    """A build whose lock is the committed one; returns its id."""
    checkout.define(f"publish: {{regions: [{', '.join(REGIONS)}]}}\n", GPU_IMAGE)
    folder = builds.build(checkout.root, number, image=GPU_IMAGE, sm=sm)
    lockfile.write(
        lockfile.path_of(checkout.root, GPU_IMAGE), records.read(folder / LOCK_FILE, Lock)
    )
    return folder.name


def publish(checkout: Checkout) -> str:
    """A candidate in every region; returns its build's id."""
    build_id = build(checkout, 1)
    ran = checkout.golden("publish", GPU_IMAGE)
    assert "next: scripts/golden gpu-test" in ran.text, ran.text
    return build_id


def under_policy(stage: Any, command: str, *args: str) -> None:
    """Run a command that holds a signed record to a key of KMS, with its rights.

    `stage` is test_policies.py's; `BUILD` in `args` is the candidate's id.
    """
    with signing_key.used(signing_key.in_kms("us-east-1")):
        build_id = publish(stage.checkout)
        gpu_records.keep_signed(gpu_records.facts(build_id))
        stage.under_policy(
            command, GPU_IMAGE, *(build_id if arg == "BUILD" else arg for arg in args)
        )


def instances(region: str) -> list[dict[str, Any]]:
    """All instances of a region, ended ones too."""
    found = RegionState(region, GPU_IMAGE).ec2.describe_instances()["Reservations"]
    return [raw for reservation in found for raw in reservation["Instances"]]


def left() -> list[str]:
    """What is there that a test on a GPU makes, in every region, but for instances that are
    terminated."""
    found = [
        f"{raw['InstanceId']} {raw['State']['Name']}"
        for region in REGIONS
        for raw in instances(region)
        if raw["State"]["Name"] != "terminated"
    ]
    for region in REGIONS:
        ec2 = RegionState(region, GPU_IMAGE).ec2
        found += [raw["VolumeId"] for raw in ec2.describe_volumes()["Volumes"]]
        found += [raw["KeyName"] for raw in ec2.describe_key_pairs()["KeyPairs"]]
        found += [
            raw["GroupName"]
            for raw in ec2.describe_security_groups()["SecurityGroups"]
            if raw["GroupName"] != "default"
        ]
    return found
