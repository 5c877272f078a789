"""Builds as `golden bake --builder ec2` and verify leave them: records, and an AMI in the emulated
account."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
from goldenami.aws import images, tags
from goldenami.aws.images import ImageSpec
from goldenami.core import records
from goldenami.image.builders import ec2 as ec2_builder
from goldenami.model.builds.build_records import (
    BAKE_FILE,
    LOCK_FILE,
    Accel,
    Ami,
    BakeRecord,
    Boot,
    BuilderKind,
    Host,
)
from goldenami.model.locked import lockfile

from support.builds import builds
from support.builds.builds import FIRST, IMAGE


def build(root: Path, number: int, region: str, image: str = IMAGE, *, snapshot: str = "") -> Path:
    """The `number`th build of `image`, whose AMI is in `region`, of `snapshot`, else an empty one;
    returns its folder.
    """
    made = builds.lock(image, number)
    digest = hashlib.sha256(records.canonical(made.model_dump(mode="json")).encode()).hexdigest()
    folder = root / "build" / image / digest[: lockfile.ID_LENGTH]
    folder.mkdir(parents=True)
    records.write(folder / LOCK_FILE, made)
    bake = BakeRecord(
        builder=BuilderKind.EC2,
        image=image,
        build_id=folder.name,
        lock_sha256=digest,
        git_commit="0" * 40,
        phases=[],
        roles=[],
        components=[],
        started_at=f"{FIRST + timedelta(hours=number):%Y-%m-%dT%H:%M:%SZ}",
        seconds=1.0,
        layers=[],
        host=Host(cpus=2, python="3.11", packer="1.6.6"),
        packages_count=0,
        ami=Ami(id="ami-", region=region, snapshot="snap-", base="ami-0", volume_gib=1),
    )
    bake = bake.model_copy(update={"ami": _register(bake, region, snapshot)})
    records.write(folder / BAKE_FILE, bake)
    write_verify(folder)
    return folder


def write_verify(folder: Path, **changes: Any) -> None:
    """A passing verify record; `changes` replace keys."""
    bake = records.read(folder / BAKE_FILE, BakeRecord)
    facts: dict[str, Any] = {
        "accel": Accel.EC2,
        "boots": [Boot(firmware="uefi", seconds_to_ssh=30.0)],
        "disk_sha256": None,
        "ami": bake.ami_id,
    }
    builds.write_verify(folder, **(facts | changes))


def _register(bake: BakeRecord, region: str, snapshot: str) -> Ami:
    """The AMI as the bake leaves it: with the build's tags, and a date at which it may be swept."""
    ec2, ebs = boto3.client("ec2", region), boto3.client("ebs", region)
    spec = ImageSpec.of(bake, "Debian 13 for tests", "amd64")
    marks = {**spec.tags, **tags.temporary(ec2_builder.UNPUBLISHED_LIFE)}
    if snapshot:
        ec2.create_tags(Resources=[snapshot], Tags=tags.to_list({**spec.tags, **marks}))
    else:
        snapshot = ebs.start_snapshot(VolumeSize=1, Tags=tags.to_list({**spec.tags, **marks}))[
            "SnapshotId"
        ]
        ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=0)
    boto3.client("ec2", region).get_waiter("snapshot_completed").wait(
        SnapshotIds=[snapshot], WaiterConfig={"Delay": 1}
    )
    ami = images.wait_available(
        ec2, images.register(ec2, spec.model_copy(update={"tags": marks}), snapshot)
    ).ami
    return Ami(id=ami, region=region, snapshot=snapshot, base="ami-0", volume_gib=1)
