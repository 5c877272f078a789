"""`golden gpu-test` against the emulator: what it asks for, what it says when there is none, that nothing is left.

Its instances have no machine here, so SSH does not answer; test_gpu_test_machine.py has one that does.
"""

from __future__ import annotations

import pytest
from support.aws.emulator import Emulator, Faults
from support.builds import builds
from support.builds.builds import GPU_IMAGE, REGIONS, Checkout, RegionState
from support.gpu import candidates
from support.gpu.candidates import instances, left


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch, aws: Emulator) -> None:
    monkeypatch.setenv("GOLDEN_BOOT_LIMIT_S", "1")
    aws.set(pending_s=0, instance_address="127.0.0.9")


@pytest.fixture
def candidate(checkout: Checkout) -> str:
    """A candidate in every region, of the lock that is committed; returns its build's id."""
    return candidates.publish(checkout)


def gpu_test(checkout: Checkout, *args: str, image: str = GPU_IMAGE) -> builds.Ran:
    return checkout.golden("gpu-test", image, "--wait-minutes", "0", *args)


def test_the_plan_names_types_zones_and_money_and_launches_nothing(checkout: Checkout, candidate: str) -> None:
    ran = gpu_test(checkout, "--dry-run")
    assert ran.code == 0, ran.text
    assert f"test {GPU_IMAGE} {candidate} on 3 GPU architectures, 1 h each at most" in ran.text
    assert "sm_75   g4dn.xlarge in us-east-1a Spot" in ran.text
    assert instances(REGIONS[0]) == []


def test_an_instance_that_does_not_answer_is_terminated(checkout: Checkout, candidate: str) -> None:
    ran = gpu_test(checkout)
    assert (ran.code, "SSH did not answer within 1 s" in ran.text) == (5, True), ran.text
    (instance,) = instances(REGIONS[0])
    assert instance["InstanceType"] == "g4dn.xlarge" and instance["InstanceLifecycle"] == "spot"
    assert left() == []
    assert RegionState(REGIONS[0], GPU_IMAGE).parameter(f"{candidate}/gpu-test") is None


def test_without_capacity_every_offer_is_tried_and_said(checkout: Checkout, candidate: str, faults: Faults) -> None:
    faults.add("ec2", "RunInstances", error={"code": "InsufficientInstanceCapacity"})
    ran = gpu_test(checkout)
    assert (ran.code, "EC2 has no GPU of architecture 75 for us" in ran.text) == (5, True), ran.text
    assert "EC2 launches no g4dn.xlarge in us-west-2a: InsufficientInstanceCapacity" in ran.text
    assert left() == []


def test_a_quota_is_said_as_one_and_not_asked_again(checkout: Checkout, candidate: str, faults: Faults) -> None:
    faults.add("ec2", "RunInstances", error={"code": "VcpuLimitExceeded"})
    ran = gpu_test(checkout)
    assert (ran.code, "the account's limits allow no GPU of architecture 75" in ran.text) == (5, True), ran.text
    assert len(faults.fired()) == 4, "Spot and on demand, in each region"
    assert left() == []


def test_no_candidate_and_one_of_another_lock_are_refused(checkout: Checkout) -> None:
    build_id = candidates.build(checkout, 1)
    ran = gpu_test(checkout)
    assert (ran.code, f"{GPU_IMAGE} has no candidate in us-east-1" in ran.text) == (2, True), ran.text
    checkout.golden("publish", GPU_IMAGE)
    other = candidates.build(checkout, 2)
    ran = gpu_test(checkout)
    assert (ran.code, f"is build {build_id}, the lock here is of {other}" in ran.text) == (2, True), ran.text


def test_money_below_the_cheapest_type_is_refused(checkout: Checkout, candidate: str) -> None:
    ran = gpu_test(checkout, "--max-usd", "0.01")
    assert (ran.code, "$0.01 do not pay 1 h on a GPU of architecture 75" in ran.text) == (2, True), ran.text
    assert left() == []


def test_an_image_without_a_gpu_needs_none(checkout: Checkout) -> None:
    ran = gpu_test(checkout, image=builds.IMAGE)
    assert (ran.code, "declares no NVIDIA GPU" in ran.text) == (0, True), ran.text
