"""The EC2 builder from end to end: `golden bake --builder ec2`, verify; the account's instances run
here.

support/ec2/ec2_instances.py says what they are; docs/publishing.md says what that proves and what
it does not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ec2_emulator import iam
from goldenami.core import records
from goldenami.model.builds.build_records import (
    Accel,
    BakeRecord,
    BuilderKind,
    Outcome,
    Verdict,
    VerifyRecord,
)
from goldenami.model.locked import lockfile
from support.builds import checkout
from support.builds.builds import define
from support.builds.tools import granted
from support.ec2.cloud import LIMIT_S, REGIONS, running_account

IMAGE = "debian-13-ml-cpu"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout whose image is the base, limits and tuning, with a lock of today's mirror."""
    copy = checkout.copy(tmp_path / "checkout")
    path = copy / f"packer/images/{IMAGE}.yml"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(line for line in lines if "frameworks" not in line), encoding="utf-8")
    define(copy, f"publish: {{regions: [{', '.join(REGIONS)}]}}\n")
    process = checkout.golden(copy, "lock", IMAGE)
    output, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, output
    return copy


@pytest.mark.long
def test_an_image_baked_on_ec2(root: Path, tmp_path: Path) -> None:
    lock_file = lockfile.path_of(root, IMAGE)
    with running_account(root, tmp_path / "account", lock_file, ["bake-ec2"]) as cloud:
        try:
            said = cloud.golden("bake", IMAGE, "--builder", "ec2")
        finally:
            print((tmp_path / "account/instances.log").read_text(encoding="utf-8"))
        baked = cloud.account()
        again = cloud.golden("bake", IMAGE, "--builder", "ec2")
    folder = next(root.glob(f"build/{IMAGE}/[0-9a-f]*/bake.json")).parent
    _records(folder, baked, said)
    _nothing_left(baked)
    assert "verified already" in again
    actions_asked = {action for call in baked["calls"] for action in call["actions"]}
    # Subnets are read where the definition names some, and groups after a lost answer.
    rare = {"ec2:DescribeSubnets", "ec2:DescribeSecurityGroups"}
    assert actions_asked - rare == set(granted("bake-ec2")) - set(iam.KEY_ACTIONS) - rare, (
        "the image names no key"
    )


def _records(folder: Path, account: dict[str, Any], said: str) -> None:
    bake, verify = (
        records.read(folder / "bake.json", BakeRecord),
        records.read(folder / "verify.json", VerifyRecord),
    )
    assert bake.builder is BuilderKind.EC2 and bake.disk is None and bake.ami is not None
    assert not (folder / "disk.raw").exists()
    assert bake.manifest_sha256 == records.sha256_file(folder / "manifest.json")
    assert bake.ami.blocks_sha256 == records.sha256_file(folder / "disk.blocks")
    assert {"base system", "in no package"} <= {part.name for part in bake.components}, (
        "its disk was read"
    )
    assert [role.name for role in bake.roles] == [
        "os_updates",
        "instance_store",
        "tools",
        "kernel",
        "hardening",
        "limits",
        "network_tuning",
        "first_touch",
        "fast_boot",
        "provenance",
        "seal",
    ]
    images = {image["ImageId"]: image for image in account[REGIONS[0]]["images"]}
    assert list(images) == [bake.ami.id], "the builder's own AMI is gone"
    image = images[bake.ami.id]
    assert (image["Name"], image["BootMode"], image["ImdsSupport"], image["EnaSupport"]) == (
        f"{IMAGE}-{bake.build_id}",
        "uefi-preferred",
        "v2.0",
        True,
    )
    assert (verify.verdict, verify.ami, verify.accel) == (Verdict.VERIFIED, bake.ami.id, Accel.EC2)
    assert [boot.firmware for boot in verify.boots] == ["uefi"]
    assert {check.outcome for check in verify.checks} == {Outcome.CORRECT}
    checks = {check.id for check in verify.checks}
    assert {"boot/packages", "boot/imdsv2", "seal/keys_are_the_launch_s_alone"} <= checks and len(
        checks
    ) > 50
    assert f"AMI:    {bake.ami.id} in {REGIONS[0]}" in said
    assert (folder / "report.html").exists() and (folder.parent / "latest").readlink() == Path(
        folder.name
    )


def _nothing_left(account: dict[str, Any]) -> None:
    """Of the two instances and what was made for them, and of what the killed bake had left."""
    for region in REGIONS:
        held = account[region]
        assert {raw["State"]["Name"] for raw in held["instances"]} <= {"terminated"}
        assert (held["volumes"], held["keys"]) == ([], [])
        assert [group["GroupName"] for group in held["groups"]] == ["default"]
        used = {
            device["Ebs"]["SnapshotId"]
            for image in held["images"]
            for device in image["BlockDeviceMappings"]
        }
        assert {snapshot["SnapshotId"] for snapshot in held["snapshots"]} == used


@pytest.mark.long
def test_an_image_baked_by_packer_alone(root: Path, tmp_path: Path) -> None:
    """By the lines of docs/one-tool.md, with Packer's own key and group."""
    with running_account(root, tmp_path / "account", lockfile.path_of(root, IMAGE), []) as cloud:
        cloud.golden("bake", IMAGE, "--fetch-only")
        said = cloud.packer(root / f"build/{IMAGE}/packer")
        account = cloud.account()
    assert "Creating temporary keypair: packer_" in said and "golden-role seal " in said, said
    (image,) = account[REGIONS[0]]["images"]
    tags = {tag["Key"]: tag["Value"] for tag in image["Tags"]}
    assert (tags["goldenami:image"], image["State"]) == (IMAGE, "available")
    assert image["Name"] == f"{IMAGE}-{tags['goldenami:build-id']}-builder"
    _nothing_left(account)
