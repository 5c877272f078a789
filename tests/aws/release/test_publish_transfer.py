"""How a disk gets to many regions: sent to each, or sent once and copied by EC2; what the plan says
of it."""

from __future__ import annotations

import re
from pathlib import Path

import boto3
import pytest
from goldenami.aws import images, tags
from goldenami.aws.snapshots.snapshot_disk import SnapshotDisk
from goldenami.core.terminal import progress
from goldenami.model.builds.build_records import BLOCKS_FILE
from goldenami.model.builds.disk_blocks import BlockMap
from support.aws import unbound
from support.aws.emulator import Emulator, Faults
from support.builds import builds
from support.builds.builds import IMAGE, Checkout, RegionState

NEAR, FAR = "us-east-2", "us-west-2"
HOME = "us-east-1"
REGIONS = (HOME, NEAR, FAR)


@pytest.fixture
def build(checkout: Checkout) -> Path:
    return builds.build(checkout.root, 1)


def publish(
    checkout: Checkout,
    more: str = "",
    *,
    regions: tuple[str, ...] = REGIONS,
    code: int = 0,
) -> str:
    checkout.define(f"publish: {{regions: [{', '.join(regions)}]{more}}}\n")
    return checkout.run("publish", IMAGE, code=code)


@pytest.mark.parametrize("told", [True, False], ids=["its own record", "the published one's"])
def test_another_bake_of_the_build_before_tells_nothing_of_its_snapshot(
    checkout: Checkout,
    build: Path,
    tmp_path: Path,
    *,
    told: bool,
) -> None:
    """One lock, two bakes, two disks: a difference to the one that is here would leave the other's
    blocks in `latest`.
    """
    publish(checkout, ", transfer: upload")
    second = builds.build(checkout.root, 2)
    builds.bake_again(build, seed=2, told=told)
    said = publish(checkout, ", transfer: upload")
    for region in REGIONS:
        snapshot = RegionState(region).amis()[f"{IMAGE}-{build.name}"]["BlockDeviceMappings"][0][
            "Ebs"
        ]["SnapshotId"]
        assert (
            f"the whole disk: {snapshot} is of another bake of build {build.name} than this "
            "machine has" in said
        )
    listed = BlockMap.open(second / BLOCKS_FILE)
    for region, published in checkout.record(second).regions.items():
        stored = SnapshotDisk(unbound.account().ebs(region), published.snapshot)
        stored.list()
        assert stored.hashed(tmp_path / region).content() == listed.content()


@pytest.mark.long
def test_what_is_encrypted_is_not_copied_to_where_nothing_is(
    checkout: Checkout, build: Path, aws: Emulator
) -> None:
    """EC2 would encrypt the copy, by a key that nobody chose."""
    ec2 = boto3.client("ec2", HOME)
    ec2.enable_ebs_encryption_by_default()
    publish(checkout, ", transfer: copy")
    ec2.disable_ebs_encryption_by_default()
    assert not [region for call, region in aws.calls() if call == "ec2:CopyImage"]
    assert [RegionState(region).snapshots()[0]["Encrypted"] for region in REGIONS] == [
        True,
        False,
        False,
    ]


def test_a_copy_that_takes_long_is_waited_for(
    checkout: Checkout,
    build: Path,
    aws: Emulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Longer than an AMI may take that is registered here, and than one look between two lines."""
    publish(checkout, regions=(HOME,))
    monkeypatch.setattr(images, "WAIT_S", 0.3)
    monkeypatch.setattr(progress, "TELL_S", 0.3)
    monkeypatch.setattr(images, "POLLS_S", (0.1,))
    aws.set(pending_s=2.0)
    text = publish(checkout, ", transfer: copy", regions=(HOME, FAR))
    assert re.search(rf"ami-\w+ in {FAR} is being copied, for 0:\d\d so far", text)
    RegionState(FAR).check([build.name], build.name)


def test_a_copy_that_ec2_gives_up_is_removed_and_made_again(
    checkout: Checkout, build: Path, aws: Emulator
) -> None:
    """Once by the run that asked for it, and by the next run if that one fails, too."""
    publish(checkout, regions=(HOME,))
    aws.set(copies_failed=2)
    text = publish(checkout, regions=(HOME, FAR), code=5)
    assert f"{FAR}: ami-" in text and "it is removed and made again" in text
    assert re.search(r"ami-\w+ is failed: Given key ID is not accessible, twice", text)
    (failed,) = RegionState(FAR).amis().values()
    assert failed["State"] == "failed"
    publish(checkout, regions=(HOME, FAR))
    state = RegionState(FAR)
    (ami,) = state.amis().values()
    assert (ami["State"], ami["ImageId"]) == ("available", state.parameter("latest"))
    # Snapshots of failed copies are left to `golden sweep`.
    used, expire = ami["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"], set[str]()
    for snapshot in state.snapshots():
        if any(tag["Key"] == tags.EXPIRES for tag in snapshot["Tags"]):
            expire.add(snapshot["SnapshotId"])
    assert (len(expire), used in expire) == (2, False)


def test_a_failed_ami_that_somebody_else_made_stays(
    checkout: Checkout, build: Path, aws: Emulator
) -> None:
    publish(checkout, regions=(HOME,))
    (source,) = RegionState(HOME).amis().values()
    aws.set(copies_failed=1)
    theirs = boto3.client("ec2", FAR).copy_image(
        Name=source["Name"], SourceImageId=source["ImageId"], SourceRegion=HOME
    )["ImageId"]
    text = publish(checkout, regions=(HOME, FAR), code=2)
    assert f"{theirs} is named {source['Name']} and was not made by this pipeline" in text
    assert f"`aws ec2 deregister-image --region {FAR} --image-id {theirs}` removes it" in text
    assert [ami["ImageId"] for ami in RegionState(FAR).amis().values()] == [theirs]


@pytest.mark.long
def test_a_region_to_which_too_much_is_copied_is_asked_again(
    checkout: Checkout, build: Path, faults: Faults
) -> None:
    faults.add("ec2:CopyImage", times=3, code="ResourceLimitExceeded")
    publish(checkout, ", transfer: copy")
    assert faults.met() == 3
    for region in REGIONS:
        RegionState(region).check([build.name], build.name)


def test_ebs_takes_no_block_of_a_changed_disk(checkout: Checkout, build: Path) -> None:
    """The disk is not read before: its blocks go up under the digests that the bake listed."""
    checkout.define(f"publish: {{regions: [{HOME}]}}\n")
    builds.write_disk(build / "disk.raw", 7)
    ran, state = checkout.golden("publish", IMAGE), RegionState(HOME)
    assert (ran.code, "block 0 of the disk is not the one that its bake listed" in ran.text) == (
        6,
        True,
    ), ran.text
    assert not (state.amis() or state.template() or state.parameter("latest"))
    assert {row["State"] for row in state.snapshots()} == {"pending"}
    builds.write_disk(build / "disk.raw", 1)
    before = (build / BLOCKS_FILE).read_bytes()
    (build / BLOCKS_FILE).unlink()
    assert "disk.blocks is not of the disk that was verified" in checkout.run(
        "publish", IMAGE, code=6
    )
    (build / BLOCKS_FILE).write_bytes(before)
    publish(checkout, regions=(HOME,))
    state.check([build.name], build.name)
