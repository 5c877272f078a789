"""A run of `golden selftest` in the emulated account, on two builds that are there already."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import boto3
from goldenami.core import records
from goldenami_fleet.commands import selftest
from goldenami_fleet.selftest.run import IMAGE
from goldenami_fleet.selftest.selftest_records import SELFTEST_FILE, SelftestRecord

from support.builds import builds, sample_lock

REGIONS = ("us-east-1", "us-west-2")


def prepare(root: Path, sm: tuple[str, ...] = ()) -> Path:
    """Put two builds where a run keeps its own, for GPUs of `sm`. Returns the run's folder."""
    folder = root / selftest.FOLDER
    (root / "packer/images").mkdir(parents=True, exist_ok=True)
    hardware = sample_lock.HARDWARE.model_copy(
        update={"sm": list(sm), "families": ["t3", "c6id", *["g4dn" for _ in sm]]}
    )
    for number in (1, 2):
        builds.build(folder, number, image=IMAGE, sm=sm, hardware=hardware)
    return folder


def record(root: Path) -> SelftestRecord:
    return records.read(root / selftest.FOLDER / SELFTEST_FILE, SelftestRecord)


def states(found: SelftestRecord) -> dict[str, str]:
    return {step.step: step.state.value for step in found.steps}


def left() -> list[str]:
    """All that an account holds, but what each new one has."""
    found = list[str]()
    for region in REGIONS:
        ec2, ssm, autoscaling, stacks, dynamodb = (
            boto3.client(service, region_name=region, endpoint_url=os.environ["AWS_ENDPOINT_URL"])
            for service in ("ec2", "ssm", "autoscaling", "cloudformation", "dynamodb")
        )
        rows: list[tuple[str, list[Any]]] = [
            ("image", ec2.describe_images(Owners=["self"], IncludeDisabled=True)["Images"]),
            ("snapshot", ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]),
            ("volume", ec2.describe_volumes()["Volumes"]),
            ("template", ec2.describe_launch_templates()["LaunchTemplates"]),
            ("key", ec2.describe_key_pairs()["KeyPairs"]),
            ("parameter", ssm.describe_parameters()["Parameters"]),
            ("group", autoscaling.describe_auto_scaling_groups()["AutoScalingGroups"]),
            ("stack", stacks.describe_stacks()["Stacks"]),
        ]
        for reservation in ec2.describe_instances()["Reservations"]:
            rows.append(
                (
                    "instance",
                    [i for i in reservation["Instances"] if i["State"]["Name"] != "terminated"],
                )
            )
        groups = ec2.describe_security_groups()["SecurityGroups"]
        rows.append(("security group", [row for row in groups if row["GroupName"] != "default"]))
        for table in dynamodb.list_tables()["TableNames"]:
            rows.append(("item", dynamodb.scan(TableName=table)["Items"]))
        found += [
            f"{region} {kind}: {json.dumps(row, default=str)}" for kind, of in rows for row in of
        ]
    return found
