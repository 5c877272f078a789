"""`golden gpu-test` against the emulator: what it asks for, what it says when there is none, that nothing is left.

Its instances have no machine here, so SSH does not answer; test_gpu_test_machine.py has one that does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from goldenami.core import records
from goldenami.model import lockfile
from goldenami.model.build_records import LOCK_FILE
from goldenami.model.lockfile import Lock
from support.aws.emulator import Emulator, Faults
from support.builds import builds
from support.builds.builds import GPU_IMAGE, REGIONS, Checkout, RegionState


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch, aws: Emulator) -> None:
    monkeypatch.setenv("GOLDEN_BOOT_LIMIT_S", "1")
    aws.set(pending_s=0, instance_address="127.0.0.9")


def commit(checkout: Checkout, folder: Path) -> None:
    """Let the committed lock be that of a build."""
    lockfile.write(lockfile.path_of(checkout.root, GPU_IMAGE), records.read(folder / LOCK_FILE, Lock))


@pytest.fixture
def candidate(checkout: Checkout) -> str:
    """A candidate in every region, of the lock that is committed; returns its build's id."""
    checkout.define(f"publish: {{regions: [{', '.join(REGIONS)}]}}\n", GPU_IMAGE)
    folder = builds.build(checkout.root, 1, image=GPU_IMAGE, sm=("75", "86", "89"))
    commit(checkout, folder)
    assert checkout.golden("publish", GPU_IMAGE).code == 0
    return folder.name


def gpu_test(checkout: Checkout, *args: str, image: str = GPU_IMAGE) -> builds.Ran:
    return checkout.golden("gpu-test", image, "--wait-minutes", "0", *args)


def instances(region: str) -> list[dict[str, Any]]:
    """All instances of a region, ended ones too."""
    found = RegionState(region, GPU_IMAGE).ec2.describe_instances()["Reservations"]
    return [raw for reservation in found for raw in reservation["Instances"]]


def nothing_left() -> None:
    for region in REGIONS:
        ec2 = RegionState(region, GPU_IMAGE).ec2
        assert {raw["State"]["Name"] for raw in instances(region)} <= {"terminated"}
        assert ec2.describe_key_pairs()["KeyPairs"] == []
        assert [group["GroupName"] for group in ec2.describe_security_groups()["SecurityGroups"]] == ["default"]


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
    nothing_left()
    assert RegionState(REGIONS[0], GPU_IMAGE).parameter(f"{candidate}/gpu-test") is None


def test_without_capacity_every_offer_is_tried_and_said(checkout: Checkout, candidate: str, faults: Faults) -> None:
    faults.add("ec2", "RunInstances", error={"code": "InsufficientInstanceCapacity"})
    ran = gpu_test(checkout)
    assert (ran.code, "EC2 has no GPU of architecture 75 for us" in ran.text) == (5, True), ran.text
    assert "EC2 launches no g4dn.xlarge in us-west-2a: InsufficientInstanceCapacity" in ran.text
    nothing_left()


def test_a_quota_is_said_as_one_and_not_asked_again(checkout: Checkout, candidate: str, faults: Faults) -> None:
    faults.add("ec2", "RunInstances", error={"code": "VcpuLimitExceeded"})
    ran = gpu_test(checkout)
    assert (ran.code, "the account's limits allow no GPU of architecture 75" in ran.text) == (5, True), ran.text
    assert len(faults.fired()) == 4, "Spot and on demand, in each region"
    nothing_left()


def test_no_candidate_and_one_of_another_lock_are_refused(checkout: Checkout, aws: Emulator) -> None:
    checkout.define(f"publish: {{regions: [{', '.join(REGIONS)}]}}\n", GPU_IMAGE)
    folder = builds.build(checkout.root, 1, image=GPU_IMAGE, sm=("75",))
    commit(checkout, folder)
    ran = gpu_test(checkout)
    assert (ran.code, f"{GPU_IMAGE} has no candidate in us-east-1" in ran.text) == (2, True), ran.text
    assert checkout.golden("publish", GPU_IMAGE).code == 0
    other = builds.build(checkout.root, 2, image=GPU_IMAGE, sm=("75",))
    commit(checkout, other)
    ran = gpu_test(checkout)
    assert (ran.code, f"is build {folder.name}, the lock here is of {other.name}" in ran.text) == (2, True), ran.text


def test_money_below_the_cheapest_type_is_refused(checkout: Checkout, candidate: str) -> None:
    ran = gpu_test(checkout, "--max-usd", "0.01")
    assert (ran.code, "$0.01 do not pay 1 h on a GPU of architecture 75" in ran.text) == (2, True), ran.text
    nothing_left()


def test_an_image_without_a_gpu_needs_none(checkout: Checkout) -> None:
    ran = gpu_test(checkout, image=builds.IMAGE)
    assert (ran.code, "declares no NVIDIA GPU" in ran.text) == (0, True), ran.text
