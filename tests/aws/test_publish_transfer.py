"""How a disk gets to many regions: sent to each, or sent once and copied by EC2; what the plan says of it."""

from __future__ import annotations

from pathlib import Path

import boto3
import pytest
from goldenami.aws import images
from goldenami.core import records, units
from goldenami.model.build_records import BLOCKS_FILE, PUBLISH_FILE
from goldenami.model.sparse_disk import BLOCK
from goldenami.publish.publish_records import PLAN_FILE, PublishPlan, PublishRecord
from support.aws.emulator import Emulator, Faults
from support.builds import builds
from support.builds.builds import IMAGE, Checkout, RegionState

NEAR, FAR = "us-east-2", "us-west-2"
HOME = "us-east-1"
REGIONS = (HOME, NEAR, FAR)


@pytest.fixture
def build(checkout: Checkout) -> Path:
    return builds.build(checkout.root, 1)


def publish(checkout: Checkout, more: str = "", *, regions: tuple[str, ...] = REGIONS) -> str:
    checkout.define(f"publish: {{regions: [{', '.join(regions)}]{more}}}\n")
    ran = checkout.golden("publish", IMAGE)
    assert ran.code == 0, ran.text
    return ran.text


def by(aws: Emulator, call: str, since: int = 0) -> set[str]:
    """The regions that a call was made in."""
    return {region for name, region in aws.calls()[since:] if name == call}


def test_a_disk_is_sent_once_where_the_definition_says_so(checkout: Checkout, build: Path, aws: Emulator) -> None:
    said = publish(checkout, ", transfer: copy")
    assert by(aws, "ebs:PutSnapshotBlock") == {HOME}
    assert by(aws, "ec2:CopyImage") == {NEAR, FAR}
    assert f"copy the new AMI of {HOME} to {IMAGE}-{build.name}: as `transfer: copy` says; $0.000, an upload" in said
    for region in REGIONS:
        RegionState(region).check([build.name], build.name)
    second, before = builds.build(checkout.root, 2), len(aws.calls())
    publish(checkout)
    assert by(aws, "ebs:PutSnapshotBlock", before) == set(REGIONS), "a copy is a parent like any other"
    for region in REGIONS:
        RegionState(region).check([build.name, second.name], second.name)


@pytest.mark.parametrize("told", [True, False], ids=["its record is new", "its record is the published one's"])
def test_another_bake_of_the_build_before_tells_nothing_of_its_snapshot(
    checkout: Checkout, build: Path, *, told: bool,
) -> None:
    """One lock, two bakes, two disks: a difference to the one that is here would leave the other's blocks in `latest`.
    """
    publish(checkout, ", transfer: upload")
    second = builds.build(checkout.root, 2)
    builds.bake_again(build, seed=2, told=told)
    said = publish(checkout, ", transfer: upload")
    for region in REGIONS:
        snapshot = RegionState(region).amis()[f"{IMAGE}-{build.name}"]["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
        assert f"the whole disk: {snapshot} is of another bake of build {build.name} than this machine has" in said
    ran = checkout.golden("verify-snapshot", IMAGE, "--build", second.name)
    assert (ran.code, ran.text.count(f"correct, {builds.BLOCKS} blocks read")) == (0, len(REGIONS)), ran.text


def test_what_is_cheaper_decides_where_nobody_did(checkout: Checkout, build: Path, aws: Emulator) -> None:
    """3 blocks cost $0.000018 to send; 1.5 MiB cost $0.000016 to copy between the near ones, $0.000031 to others."""
    said = publish(checkout)
    assert by(aws, "ec2:CopyImage") == {NEAR}
    assert by(aws, "ebs:PutSnapshotBlock") == {HOME, FAR}
    assert "it costs $0.000, an upload $0.000" in said
    assert "leave this machine, for 2 regions" in said
    assert "sent from here to all: 4.50 MiB leave this machine, $0.000, time unknown" in said
    assert f"sent once and copied from {HOME}: 1.50 MiB leave this machine, $0.000, time unknown" in said
    assert "prices: AWS's price list (pricing:GetProducts) of 2024-12-02; times: no publish from here has" in said


def test_a_price_that_is_unknown_decides_nothing(checkout: Checkout, build: Path, aws: Emulator) -> None:
    """Each region is sent the disk, as where a copy is dearer; the plan says that nobody knows."""
    aws.set(usd_transfer_gb=0.0)
    said = publish(checkout)
    assert by(aws, "ec2:CopyImage") == set()
    assert f"sent once and copied from {HOME}: 1.50 MiB leave this machine, price unknown" in said
    assert "prices: unknown: the price list has no AWS-Out-Bytes in us-east-2, us-west-2" in said
    aws.set(denied={"*": ["pricing:GetProducts"]})
    builds.build(checkout.root, 2)
    assert "as `transfer: copy` says; at an unknown price, an upload at an unknown price" in publish(
        checkout, ", transfer: copy")


def test_times_are_those_that_the_last_publish_measured(checkout: Checkout, build: Path, aws: Emulator) -> None:
    publish(checkout, ", transfer: copy")
    measured = records.read(build / PUBLISH_FILE, PublishRecord).rates
    assert measured and measured.uplink_bytes_s and measured.copy_bytes_s
    second = builds.build(checkout.root, 2)
    said = publish(checkout)
    rate, whole = measured.uplink_bytes_s, 3 * BLOCK
    assert f"a second, as the publish of {build.name} measured" in said
    ways = records.read(second / PLAN_FILE, PublishPlan).ways
    assert ways and ways.copied and ways.sent.seconds and ways.sent.seconds == pytest.approx(ways.sent.bytes / rate)
    assert ways.copied.seconds == pytest.approx(ways.copied.bytes / rate + whole / measured.copy_bytes_s)
    assert f"{units.size(ways.sent.bytes)} leave this machine, $0.000, about " + units.duration(
        ways.sent.seconds) in said


@pytest.mark.slow
def test_an_uplink_that_costs_is_counted(checkout: Checkout, build: Path, aws: Emulator) -> None:
    publish(checkout, ", uplink_usd_gib: 0.05")
    assert by(aws, "ec2:CopyImage") == {NEAR, FAR}


@pytest.mark.slow
def test_who_says_so_sends_to_each(checkout: Checkout, build: Path, aws: Emulator) -> None:
    publish(checkout, ", transfer: upload")
    assert by(aws, "ec2:CopyImage") == set()
    assert by(aws, "ebs:PutSnapshotBlock") == set(REGIONS)


@pytest.mark.slow
def test_a_new_region_gets_a_copy_of_the_ami_that_is_there(checkout: Checkout, build: Path, aws: Emulator) -> None:
    publish(checkout, regions=(HOME,))
    before = len(aws.calls())
    ami = RegionState(HOME).parameter("latest")
    assert f"copy {ami} of {HOME} to" in publish(checkout, ", transfer: copy")
    assert by(aws, "ebs:PutSnapshotBlock", before) == set()
    RegionState(FAR).check([build.name], build.name)


@pytest.mark.slow
def test_what_is_encrypted_is_not_copied_to_where_nothing_is(checkout: Checkout, build: Path, aws: Emulator) -> None:
    """EC2 would encrypt the copy, by a key that nobody chose."""
    ec2 = boto3.client("ec2", HOME)
    ec2.enable_ebs_encryption_by_default()
    publish(checkout, ", transfer: copy")
    ec2.disable_ebs_encryption_by_default()
    assert by(aws, "ec2:CopyImage") == set()
    assert [RegionState(region).snapshots()[0]["Encrypted"] for region in REGIONS] == [True, False, False]


def test_a_copy_that_takes_long_is_waited_for(
    checkout: Checkout, build: Path, aws: Emulator, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Longer than an AMI may take that is registered here, and than one look between two lines."""
    publish(checkout, regions=(HOME,))
    monkeypatch.setattr(images, "WAIT_S", 0.3)
    monkeypatch.setattr(images, "COPY_SAY_S", 0.3)
    monkeypatch.setattr(images, "POLLS_S", (0.1,))
    aws.set(pending_s=2.0)
    assert "is being copied for 0 min" in publish(checkout, ", transfer: copy", regions=(HOME, FAR))
    RegionState(FAR).check([build.name], build.name)


@pytest.mark.slow
def test_a_region_to_which_too_much_is_copied_is_asked_again(checkout: Checkout, build: Path, faults: Faults) -> None:
    faults.add("ec2", "CopyImage", times=3, error={"code": "ResourceLimitExceeded", "status": 400})
    publish(checkout, ", transfer: copy")
    assert len(faults.fired()) == 3
    for region in REGIONS:
        RegionState(region).check([build.name], build.name)


@pytest.mark.slow
def test_a_copy_whose_answer_is_lost_is_one_copy(checkout: Checkout, build: Path, faults: Faults) -> None:
    faults.add("ec2", "CopyImage", times=2, response={"abort_frac": 0.3})
    publish(checkout, ", transfer: copy")
    for region in REGIONS:
        RegionState(region).check([build.name], build.name)


def test_ebs_takes_no_block_of_a_changed_disk(checkout: Checkout, build: Path) -> None:
    """The disk is not read before: its blocks go up under the digests that the bake listed."""
    checkout.define(f"publish: {{regions: [{HOME}]}}\n")
    builds.write_disk(build / "disk.raw", 7)
    ran, state = checkout.golden("publish", IMAGE), RegionState(HOME)
    assert (ran.code, "block 0 of the disk is not the one that its bake listed" in ran.text) == (6, True), ran.text
    assert not (state.amis() or state.template() or state.parameter("latest"))
    assert {row["State"] for row in state.snapshots()} == {"pending"}
    builds.write_disk(build / "disk.raw", 1)
    publish(checkout, regions=(HOME,))
    state.check([build.name], build.name)


def test_a_lost_list_is_made_again_of_the_same_disk(checkout: Checkout, build: Path) -> None:
    before = (build / BLOCKS_FILE).read_bytes()
    (build / BLOCKS_FILE).unlink()
    publish(checkout, regions=(HOME,))
    assert (build / BLOCKS_FILE).read_bytes() == before
