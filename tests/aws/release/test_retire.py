"""Retirement in an account of real API objects: what goes and in which order, what is touched and
what can go wrong."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from goldenami.aws.channels.lease import take_lease
from goldenami.aws.channels.ledger import GpuProof, Ledger, LedgerEntry
from goldenami.aws.channels.pointers import build_name
from goldenami.aws.images import AmiState
from goldenami.aws.inventory.topology import AccountAmi, Topology
from goldenami.core import clock
from goldenami.core.errors import GoldenError, HostNotReady
from goldenami.core.terminal.progress import Progress
from goldenami.release.retire import retention, retire
from goldenami.release.retire.retention import RetireStep
from support.aws.emulator import Emulator
from support.aws.retirement import LATER, POLICY, plan, prepare, reasons, run, steps
from support.aws.seeded_account import (
    IMAGE,
    PARTNER,
    REGION,
    Calendar,
    SeededAccount,
    build_id,
    iso,
)

pytestmark = pytest.mark.usefixtures("later")


# --- the steps ---


def test_a_use_that_comes_late_is_respected_and_the_announcement_taken_back(
    account: SeededAccount,
    calendar: Calendar,
    tmp_path: Path,
) -> None:
    old = account.ami(1)
    account.ami(2)
    before = f"{iso(1000)[:10]}T00:00:00.000Z"
    account.ec2.enable_image_deprecation(ImageId=old, DeprecateAt=before)
    run(account)
    assert account.amis()[old].deprecated != before
    calendar.days += 30
    account.point("/somebody/needs/it", old)
    assert steps(plan(account)) == [(RetireStep.RECALL, old)]
    run(account)
    assert not plan(account).actions
    assert account.described(old)["DeprecationTime"] == before
    assert set(account.marks(old)) == {"goldenami:image", "goldenami:build-id"}


# --- what is not ours ---


def test_a_pointer_to_an_ami_that_is_gone_is_said(account: SeededAccount, tmp_path: Path) -> None:
    gone = account.ami(1)
    account.ami(2)
    account.point(f"/golden-ami/{IMAGE}/latest", gone)
    account.ec2.deregister_image(ImageId=gone)
    planned = plan(account)
    assert planned.problems == [
        f"{gone} of build {build_id(1)} does not exist any more and is used by SSM parameter "
        f"/golden-ami/{IMAGE}/latest"
    ]
    run(account)
    assert account.record(1) in account.parameters()


# --- what can go wrong ---


def test_nothing_happens_to_an_image_that_was_enabled_after_the_plan(
    account: SeededAccount,
    calendar: Calendar,
    tmp_path: Path,
) -> None:
    old = account.ami(1)
    backing = account.backing(old)
    account.ami(2)
    for _ in range(2):
        run(account)
        calendar.days += 8
    prepared = prepare(account.session, [account.region])
    assert (RetireStep.DEREGISTER, old) in steps(prepared.plan.regions[0])
    account.ec2.enable_image(ImageId=old)
    with pytest.raises(GoldenError, match="was available again"):
        retire.execute(account.session, prepared, Progress("retire", IMAGE, tmp_path / "timings"))
    assert backing in account.snapshots() and account.record(1) in account.parameters()


def test_a_refusal_stops_that_build_and_no_other(
    account: SeededAccount, aws: Emulator, tmp_path: Path
) -> None:
    first, second = account.ami(1), account.ami(2)
    dead = account.snapshot(3, complete=False, expires=iso(LATER - 1))
    account.ami(4)
    aws.set(denied={"*": ["ec2:EnableImageDeprecation"]})
    with pytest.raises(HostNotReady, match="ec2:EnableImageDeprecation") as caught:
        run(account)
    assert "golden retire" in caught.value.hint
    assert dead not in account.snapshots()
    aws.set(denied={})
    run(account)
    assert all(account.amis()[ami].deprecated for ami in (first, second))


def test_a_region_that_cannot_be_read_is_unreachable_and_the_other_goes_on(
    account: SeededAccount,
    aws: Emulator,
    tmp_path: Path,
) -> None:
    """One call that is forbidden makes a region unreachable, not empty."""
    old, newest = account.ami(1), account.ami(2)
    account.template("theirs", [newest])
    for action in (
        "ec2:DescribeInstances",
        "ssm:GetParameters",
        "dynamodb:GetItem",
        "autoscaling:DescribeAutoScalingGroups",
        "ec2:DescribeVolumes",
        "ec2:DescribeLaunchTemplateVersions",
        "ec2:DescribeFleets",
        "ec2:DescribeSpotFleetRequests",
        "ec2:DescribeSpotInstanceRequests",
    ):
        aws.set(denied={"*": [action]})
        prepared = prepare(account.session, [account.region])
        assert action in prepared.plan.unreachable[account.region]
    aws.set(denied={}, disabled_regions=["eu-west-1"])
    prepared = prepare(account.session, [account.region, "eu-west-1"])
    assert list(prepared.plan.unreachable) == ["eu-west-1"]
    assert "unreachable" in "\n".join(retire.lines(prepared.plan))
    progress = Progress("retire", IMAGE, tmp_path / "timings")
    with pytest.raises(GoldenError, match="eu-west-1"):
        retire.execute(account.session, prepared, progress)
    assert account.amis()[old].deprecated


@pytest.mark.parametrize(("days", "stays"), [(1, True), (300, False)])
def test_what_a_partner_launched_lately_is_not_released(days: int, stays: bool) -> None:
    """EC2 tells of a launch a day later: no test waits for that, so this asks the planner."""
    now = clock.now()
    shared = AccountAmi(
        id="ami-1",
        name="x",
        created=now - timedelta(days=400),
        state=AmiState.AVAILABLE,
        image=IMAGE,
        build_id=build_id(1),
        snapshots=(),
        shared_with=(PARTNER,),
        last_launched=now - timedelta(days=days),
    )
    newest = replace(shared, id="ami-2", created=now, build_id=build_id(2))
    named = {build_name(IMAGE, each.build_id): each.id for each in (shared, newest)}
    found = Topology(REGION, amis=(shared, newest), parameters=named)
    released = POLICY.model_copy(update={"release_shared": True, "idle_days": 90})
    planned = retention.plan(found, IMAGE, released, now)
    assert any("and launched on" in said for said in reasons(planned).get("ami-1", [])) is stays
    assert bool(planned.actions) is not stays


def test_the_build_to_roll_back_to_stays_unless_only_one_is_kept(account: SeededAccount) -> None:
    """`latest` came back from a newer build that turned out bad: what it would go back to now is an
    old one."""
    oldest, latest, *_ = amis = [account.ami(number) for number in (1, 2, 3, 4)]
    lease = take_lease(account.session.dynamodb(account.region), IMAGE)
    entries = [
        LedgerEntry(
            build_id=build_id(number),
            ami=ami,
            baked_at=iso(0),
            since=iso(0),
            by="me",
            fence=1,
            gpu=GpuProof.NONE,
        )
        for number, ami in enumerate(amis, 1)
    ]
    lease.record(Ledger(latest=entries[1], history=(entries[0],)))
    lease.release()
    keeps_two = POLICY.model_copy(update={"keep_last": 2})
    assert reasons(plan(account, keeps_two))[oldest] == [
        "used by ledger: the build to roll back to"
    ]
    assert reasons(plan(account, keeps_two))[latest] == ["used by ledger: latest"]
    assert (RetireStep.DEPRECATE, oldest) in steps(plan(account, POLICY))
