"""`golden retire --restore`: what was retired comes back, planned and under the lease as everything
else."""

from __future__ import annotations

import json

import pytest
from goldenami.aws.channels import lease
from support.aws.emulator import Emulator
from support.aws.retirement import GRACELESS
from support.builds.builds import IMAGE, REGIONS, Checkout, RegionState


@pytest.fixture
def disabled(checkout: Checkout, aws: Emulator) -> str:
    """The id of a build that is disabled in both regions."""
    aws.set(backdate_days=400)
    build_ids = [checkout.publish(number) for number in (1, 2)]
    for _ in range(2):
        checkout.run("retire", IMAGE, *GRACELESS)
    assert states(build_ids[0]) == ["disabled", "disabled"]
    return build_ids[0]


def states(build: str) -> list[str]:
    return [RegionState(region).amis()[f"{IMAGE}-{build}"]["State"] for region in REGIONS]


def restore(checkout: Checkout, *args: str, code: int = 0) -> str:
    ran = checkout.golden("retire", IMAGE, "--restore", *args)
    assert ran.code == code, ran.text
    return ran.text


def test_a_restore_is_planned_and_waits_for_its_lease(
    checkout: Checkout, disabled: str, aws: Emulator
) -> None:
    before = len(aws.calls())
    text = restore(checkout, disabled, "--dry-run")
    ami = RegionState("us-west-2").amis()[f"{IMAGE}-{disabled}"]["ImageId"]
    assert f"us-west-2       restore {ami} ({disabled}): disabled, announced 20" in text
    assert json.loads(restore(checkout, disabled, "--dry-run",
                              "--json"))["regions"]["us-west-2"]["ami"] == ami
    assert {call.partition(":")[2][:3] for call, _ in aws.calls()[before:]} == {"Des"}
    assert states(disabled) == ["disabled", "disabled"]
    other = lease.take_lease(RegionState("us-west-2").dynamodb, IMAGE)
    assert f"is at work on {IMAGE}" in restore(checkout, disabled, code=7)
    assert states(disabled) == ["disabled", "disabled"]
    other.release()
    text = restore(checkout, ami)
    assert (f"us-west-2: {ami} is as it was" in text, "us-east-1" in text) == (True, False)
    assert states(disabled) == ["disabled", "available"]
    restore(checkout, disabled)
    assert states(disabled) == ["available", "available"]
    assert f"no AMI of {IMAGE} in us-east-1, us-west-2 is ami-0" in restore(
        checkout, "ami-0", code=2
    )
