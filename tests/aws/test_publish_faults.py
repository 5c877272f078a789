"""Publishing where AWS, the network or the credentials fail: what is said, and that the same
command continues."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from goldenami.aws import refusals
from goldenami.aws.channels import lease, pointers
from goldenami.aws.channels.ledger import Channel, GpuProof, LedgerEntry
from goldenami.aws.session import SHORT_ATTEMPTS
from goldenami.core import clock
from goldenami.core.errors import Busy, StageFailed
from goldenami.release.publish import region_images
from support.aws import unbound
from support.aws.emulator import Emulator, Faults
from support.builds import builds
from support.builds.builds import IMAGE, REGIONS, Checkout, RegionState
from support.waiting import until


@pytest.fixture
def build(checkout: Checkout) -> Path:
    return builds.build(checkout.root, 1)


def publish(checkout: Checkout, *args: str, code: int = 0) -> str:
    return checkout.run("publish", IMAGE, *args, code=code)


# --- who we are ---


def test_a_missing_permission_is_named_and_the_same_command_continues(
    checkout: Checkout,
    build: Path,
    aws: Emulator,
    faults: Faults,
) -> None:
    """One after the other, in the order in which a publish needs them; then one region alone."""
    checkout.define("publish: {regions: [us-east-1, us-west-2], transfer: upload}\n")
    for action in (
        "ec2:DescribeImages",
        "dynamodb:UpdateItem",
        "ebs:StartSnapshot",
        "ec2:RegisterImage",
        "ec2:EnableImageDeprecation",
        "ssm:PutParameter",
        "ec2:CreateLaunchTemplate",
    ):
        aws.set(denied={"*": [action]})
        text = publish(checkout, code=8)
        assert f"may not call {action} in us-east-1" in text
        assert f"may not call {action} in us-west-2" in text or "dynamodb" in action
        aws.set(denied={})
        assert [RegionState(region).parameter("latest") for region in REGIONS] == [None, None]
    checkout.define("publish: {regions: [us-east-1, us-west-2, eu-west-1]}\n")
    faults.add("ec2:CopyImage", regions=["eu-west-1"], code="InvalidParameterValue")
    text = publish(checkout, code=5)
    assert "no pointer has moved: AWS refused CopyImage in eu-west-1" in text
    assert f"`scripts/golden publish {IMAGE} --build {build.name}` continues" in text
    assert [RegionState(region).parameter("latest") for region in REGIONS] == [None, None]
    faults.clear()
    publish(checkout, "--build", build.name)
    for region in (*REGIONS, "eu-west-1"):
        RegionState(region).check([build.name], build.name)


PASSING = {
    "ebs:PutSnapshotBlock": "AccessDeniedException",
    "ebs:CompleteSnapshot": "AccessDeniedException",
    "ec2:RegisterImage": "IncorrectState",
    "ec2:CopyImage": "InvalidAMIID.Unavailable",
    "ec2:EnableImageDeprecation": "UnauthorizedOperation",
    "ec2:DeleteTags": "InvalidSnapshot.NotFound",
    "ssm:PutParameter": "TooManyUpdates",
    "dynamodb:UpdateItem": "TransactionConflictException",
    "ec2:ModifyLaunchTemplate": "InvalidLaunchTemplateId.VersionNotFound",
}
"""Calls of a publish, and how each may be refused for a moment."""


def test_what_aws_refuses_for_a_moment_is_asked_again_and_told(
    checkout: Checkout,
    build: Path,
    faults: Faults,
) -> None:
    """All in one publish, of a second build: its template exists, and a region is new."""
    checkout.define("publish: {regions: [us-east-1]}\n")
    publish(checkout)
    checkout.define("publish: {regions: [us-east-1, us-west-2], transfer: copy}\n")
    second = builds.build(checkout.root, 2)
    for call, code in PASSING.items():
        faults.add(call, code=code, times=1)
    text = publish(checkout)
    for call, code in PASSING.items():
        assert f"AWS refuses {call.partition(':')[2]} in us-" in text, call
        assert f": {code}. It is asked again for up to" in text, code
    assert faults.met() == len(PASSING)
    RegionState("us-east-1").check([build.name, second.name], second.name)
    RegionState("us-west-2").check([second.name], second.name)


def test_what_aws_goes_on_refusing_ends_by_a_word_of_its_own(
    checkout: Checkout,
    build: Path,
    faults: Faults,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        refusals,
        "TABLE",
        tuple(replace(row, limit_s=min(row.limit_s, 0.1)) for row in refusals.TABLE),
    )
    faults.add("ec2:RegisterImage", code="IncorrectState")
    text = publish(checkout, code=4)
    assert "AWS refuses RegisterImage in us-east-1 for now: IncorrectState" in text
    assert "it passes by itself" in text and "correct what it names" not in text


def test_an_ami_that_was_deregistered_and_is_listed_still_is_made_anew(
    checkout: Checkout,
    build: Path,
    aws: Emulator,
) -> None:
    checkout.define("publish: {regions: [us-east-1]}\n")
    publish(checkout)
    (old,) = RegionState("us-east-1").amis().values()
    boto3.client("ec2", "us-east-1").deregister_image(ImageId=old["ImageId"])
    aws.answer(
        "ec2:DescribeImages",
        "us-east-1",
        {"Filter.1.Value.1": old["Name"]},
        Images=[{**old, "State": "deregistered", "CreationDate": None}],
    )
    assert "no pointer" not in publish(checkout, code=0)


def test_who_may_not_read_parameters_in_one_region_moves_nothing_anywhere(
    checkout: Checkout,
    build: Path,
    aws: Emulator,
    faults: Faults,
) -> None:
    """Plans and moves read by one call: a right that a move alone needs is missed too late."""
    publish(checkout)
    assert {name for name, _ in aws.calls() if name.startswith("ssm:Get")} == {"ssm:GetParameters"}
    before = [RegionState(region).parameter("latest") for region in REGIONS]
    builds.build(checkout.root, 2)
    faults.add("ssm:Get*", code="AccessDeniedException", regions=["us-west-2"])
    assert "us-west-2" in publish(checkout, code=8)
    faults.clear()
    assert [RegionState(region).parameter("latest") for region in REGIONS] == before


# --- what does not take ---


def test_a_parameter_that_ssm_does_not_take(aws: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """SSM answers 200 and looks at the AMI later."""
    monkeypatch.setattr(pointers, "LATE_S", 1.0)
    name = pointers.channel_name(IMAGE, Channel.LATEST)
    with pytest.raises(
        StageFailed,
        match=f"SSM did not take ami-0123456789abcdef0 for {name} within 1 s: it names nothing",
    ):
        pointers.move_channel(
            boto3.client("ssm", region_name="us-east-1"), name, "ami-0123456789abcdef0", "build 1"
        )


def test_an_ami_that_cannot_be_made_right_is_named(
    checkout: Checkout,
    build: Path,
    aws: Emulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It has our tags, our snapshot, and a boot mode that EC2 lets nobody change."""
    monkeypatch.setattr(region_images, "READ_BACK_S", 0.5)
    checkout.define("publish: {regions: [us-east-1]}\n")
    publish(checkout)
    state = RegionState("us-east-1")
    (ours,) = state.amis().values()
    state.ec2.deregister_image(ImageId=ours["ImageId"])
    other = state.ec2.register_image(
        **{
            key: ours[key]
            for key in (
                "Name",
                "Description",
                "Architecture",
                "RootDeviceName",
                "VirtualizationType",
                "EnaSupport",
                "ImdsSupport",
            )
        },
        BootMode="legacy-bios",
        TagSpecifications=[{"ResourceType": "image", "Tags": ours["Tags"]}],
        BlockDeviceMappings=[
            {
                "DeviceName": ours["RootDeviceName"],
                "Ebs": {
                    key: ours["BlockDeviceMappings"][0]["Ebs"][key]
                    for key in ("SnapshotId", "VolumeType", "VolumeSize", "DeleteOnTermination")
                },
            }
        ],
    )["ImageId"]
    text = publish(checkout, code=5)
    assert f"no pointer has moved: {other} is not what was asked for: boot mode: 'legacy" in text
    assert state.parameter("latest") == ours["ImageId"]


# --- two at once ---


def dynamodb(region: str = "us-east-1") -> Any:
    return boto3.client("dynamodb", region_name=region)


def test_of_two_publishers_one_stops(checkout: Checkout, build: Path) -> None:
    """Of those that make the same build; the image's own lease is for its pointers."""
    other = lease.take_lease(dynamodb(), f"{IMAGE}/{build.name}")
    text = publish(checkout, code=7)
    assert f"is at work on {IMAGE}/{build.name}" in text
    assert "its lease ends in" in text
    assert not any(RegionState(region).amis() for region in REGIONS)
    other.release()
    publish(checkout)
    for region in REGIONS:
        RegionState(region).check([build.name], build.name)
        assert RegionState(region).ledger().latest is not None
        assert [
            item["image"]["S"] for item in dynamodb(region).scan(TableName=lease.TABLE)["Items"]
        ] == [IMAGE]


def test_a_late_writer_is_fenced_off(aws: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A publisher that slept beyond its leases writes nothing and takes nothing from others."""
    of_build = f"{IMAGE}/{'1' * 12}"
    monkeypatch.setattr(lease, "LIFE_S", 1.0)
    sleeper, late = (lease.take_lease(dynamodb(), name) for name in (IMAGE, of_build))
    time.sleep(2.1)  # AWS's dates have whole seconds
    winner, other = (lease.take_lease(dynamodb(), name) for name in (IMAGE, of_build))
    entry = LedgerEntry(
        build_id="1" * 12,
        ami="ami-1",
        baked_at=clock.stamp(),
        since=clock.stamp(),
        by="a@b:1",
        fence=winner.fence,
        gpu=GpuProof.NONE,
    )
    winner.record(winner.ledger.moved(Channel.LATEST, entry))
    theirs = entry.model_copy(update={"build_id": "2" * 12})
    with pytest.raises(Busy):
        sleeper.record(sleeper.ledger.moved(Channel.LATEST, theirs))
    state = lease.read_lease(dynamodb(), IMAGE)
    assert (state.ledger.latest, state.fence) == (entry, winner.fence)
    late.release()
    assert lease.read_lease(dynamodb(), of_build).holder == other.holder
    other.release()
    items = dynamodb().scan(TableName=lease.TABLE)["Items"]
    assert [item["image"]["S"] for item in items] == [IMAGE], "a build's lease is deleted"


def test_a_region_that_hangs_costs_no_other_its_lease(
    aws: Emulator,
    faults: Faults,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Renewals that us-east-1 answers after two seconds do not keep us-west-2 waiting, nor does the
    last one."""
    monkeypatch.setattr(lease, "RENEW_S", 0.01)
    renewed = ("dynamodb:UpdateItem", REGIONS[1])
    with lease.hold_leases(unbound.account(), IMAGE, list(REGIONS)):
        faults.add("dynamodb:UpdateItem", "slow", regions=[REGIONS[0]], seconds=2)
        before = aws.calls().count(renewed)
        until("20 renewals", lambda: aws.calls().count(renewed) >= before + 20, poll_s=0.05)
        hung = faults.met()
    assert hung < 10, "as many renewals where it hangs as where it does not: they take turns"
    for region in REGIONS:
        assert lease.read_lease(dynamodb(region), IMAGE).holder is None, "not let go"


def test_a_region_that_throttles_the_release_is_asked_again(aws: Emulator, faults: Faults) -> None:
    """More refusals in a row than short timeouts outlast: the next publisher need not wait for
    the lease's end."""
    with lease.hold_leases(unbound.account(), IMAGE, [REGIONS[0]]):
        faults.add("dynamodb:UpdateItem", "throttled", times=SHORT_ATTEMPTS + 1)
    assert faults.met() == SHORT_ATTEMPTS + 1
    assert lease.read_lease(dynamodb(), IMAGE).holder is None, "not let go"
