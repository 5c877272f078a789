"""Publishing a build that is an AMI already: it stays where it was baked, and is copied to the
other regions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import boto3
import pytest
from goldenami.aws import tags
from goldenami.core import records
from goldenami.model.builds.build_records import BAKE_FILE, BLOCKS_FILE, BakeRecord, Boot
from goldenami.model.builds.disk_blocks import BlockMap
from support.aws.emulator import Emulator
from support.builds import builds
from support.builds.builds import CHECKS, IMAGE, REGIONS, Checkout, RegionState, wrong
from support.ec2 import ec2_builds

HOME, OTHER = REGIONS


@pytest.fixture
def checkout(aws: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    aws.set(pending_s=0)
    return Checkout(tmp_path / "checkout", monkeypatch)


def ami(folder: Path) -> str:
    return str(records.read(folder / BAKE_FILE, BakeRecord).ami_id)


def test_it_stays_where_it_was_baked_and_is_copied_elsewhere(
    aws: Emulator, checkout: Checkout
) -> None:
    build = ec2_builds.build(checkout.root, 1, HOME)
    dry = checkout.golden("publish", IMAGE, "--dry-run")
    assert f"copy {ami(build)} of {HOME} to {IMAGE}-{build.name}" in dry.text, dry.text
    assert "register" not in dry.text and RegionState(OTHER).amis() == {}
    checkout.run("publish", IMAGE)
    for region in REGIONS:
        RegionState(region).check([build.name], build.name)
    assert RegionState(HOME).amis()[f"{IMAGE}-{build.name}"]["ImageId"] == ami(build)
    copied = RegionState(OTHER).amis()[f"{IMAGE}-{build.name}"]
    assert (copied["SourceImageId"], copied["SourceImageRegion"]) == (ami(build), HOME)
    for region in REGIONS:  # nothing of it can be swept any more
        marked = [*RegionState(region).amis().values(), *RegionState(region).snapshots()]
        assert not [each for each in marked if tags.EXPIRES in tags.from_list(each["Tags"])]
    record = checkout.record(build)
    assert record.disk_sha256 is None and set(record.regions) == set(REGIONS)
    assert "nothing to do" in checkout.golden("publish", IMAGE).text
    assert [call for call in aws.calls() if call[0] == "ec2:CopyImage"] == [
        ("ec2:CopyImage", OTHER)
    ]


def test_a_build_by_the_local_builder_follows(checkout: Checkout) -> None:
    """Whoever made the one before: its blocks are none of a disk like this one, so the whole disk
    goes up."""
    first = ec2_builds.build(checkout.root, 1, HOME)
    BlockMap.create(first / BLOCKS_FILE, 8)
    checkout.run("publish", IMAGE)
    second = builds.build(checkout.root, 2)
    checkout.run("publish", IMAGE)
    RegionState(OTHER).check([first.name, second.name], second.name)
    checkout.run("rollback", IMAGE)
    RegionState(OTHER).check([first.name, second.name], first.name)


def test_a_key_encrypts_the_copy(checkout: Checkout) -> None:
    kms = boto3.client("kms", OTHER)
    key = kms.create_key()["KeyMetadata"]
    kms.create_alias(AliasName="alias/golden", TargetKeyId=key["KeyId"])
    checkout.define(f"publish: {{regions: [{OTHER}], kms_key: alias/golden}}\n")
    ec2_builds.build(checkout.root, 1, HOME)
    checkout.run("publish", IMAGE)
    (snapshot,) = RegionState(OTHER).snapshots()
    assert (snapshot["Encrypted"], snapshot["KmsKeyId"]) == (True, key["Arn"])


REFUSALS: list[tuple[Callable[[Path], object], int, str]] = [
    (
        lambda build: ec2_builds.write_verify(build, ami="ami-1"),
        6,
        "its verify record is of another AMI (ami-1, not ami-",
    ),
    (
        lambda build: ec2_builds.write_verify(build, ami=None),
        6,
        "does not say that it is of this AMI",
    ),
    (
        lambda build: ec2_builds.write_verify(
            build, boots=[Boot(firmware="bios", seconds_to_ssh=1.0)]
        ),
        6,
        "it was not booted under uefi",
    ),
    (
        lambda build: ec2_builds.write_verify(
            build, checks=[check for check in wrong("x") if check.id != CHECKS[0]]
        ),
        6,
        "does not prove that it boots",
    ),
    (lambda build: name_another(build), 2, "is not ami-0, which the bake made"),
    (
        lambda build: RegionState(HOME).ec2.deregister_image(ImageId=ami(build)),
        2,
        "which the bake made in",
    ),
]


def test_what_is_no_proof_or_no_more_is_refused(checkout: Checkout) -> None:
    build = ec2_builds.build(checkout.root, 1, HOME)
    bake = records.read(build / BAKE_FILE, BakeRecord)
    for spoil, code, message in REFUSALS:
        records.write(build / BAKE_FILE, bake)
        ec2_builds.write_verify(build)
        spoil(build)
        assert message in checkout.run("publish", IMAGE, code=code)
        assert RegionState(OTHER).amis() == {} and RegionState(HOME).parameter("latest") is None


def name_another(build: Path) -> None:
    bake = records.read(build / BAKE_FILE, BakeRecord)
    assert bake.ami is not None
    ami = bake.ami.model_copy(update={"id": "ami-0"})
    records.write(build / BAKE_FILE, bake.model_copy(update={"ami": ami}))
    ec2_builds.write_verify(build)
