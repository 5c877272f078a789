"""Retirement in an account of real API objects: what goes and in which order, what is touched and what can go wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from goldenami.aws.channels.lease import take
from goldenami.aws.channels.ledger import Gpu, Ledger, Mark
from goldenami.aws.inventory import removal
from goldenami.core import records
from goldenami.core.errors import Busy, GoldenError, HostNotReady
from goldenami.core.progress import Progress
from goldenami.lifecycle import retire
from goldenami.lifecycle.retention import Step
from goldenami.lifecycle.retire import RetireRecord
from support.aws.estate import IMAGE, PARTNER, Calendar, Estate, build_id, iso
from support.aws.retiring import LATER, POLICY, plan, reasons, run, steps

if TYPE_CHECKING:
    from conftest import Emulator


@pytest.fixture(autouse=True)
def later(calendar: Calendar) -> None:
    calendar.days = LATER


# --- the steps ---

def test_an_image_goes_in_steps_with_waits(estate: Estate, calendar: Calendar, tmp_path: Path) -> None:
    """Deprecated, disabled a week later, deregistered another week later; snapshot, template version, record go too."""
    old, newest = estate.ami(1), estate.ami(2)
    backing = estate.backing(old)
    template = estate.template(f"golden-{IMAGE}", [newest, old, newest], tagged=True)
    run(estate, tmp_path)
    assert estate.amis()[old].deprecated is not None
    for wait in (6, 0.9):
        calendar.days += wait
        assert not plan(estate).actions
    assert "to disable on" in reasons(plan(estate))[old][0]
    calendar.days += 0.2
    run(estate, tmp_path)
    assert estate.amis()[old].state == "disabled"
    calendar.days += 6.9
    assert "to deregister on" in reasons(plan(estate))[old][0]
    calendar.days += 0.2
    record = run(estate, tmp_path)
    assert [action.step for action in record.done[estate.region]] == [
        Step.DELETE_VERSION, Step.DEREGISTER, Step.DELETE_SNAPSHOT, Step.DELETE_RECORD]
    assert set(estate.amis()) == {newest}
    assert backing not in estate.snapshots()
    assert estate.parameters() == {estate.record(2): newest}
    versions = estate.ec2.describe_launch_template_versions(LaunchTemplateId=template)["LaunchTemplateVersions"]
    assert sorted(version["VersionNumber"] for version in versions) == [1, 3]
    assert records.read(tmp_path / "retire.json", RetireRecord) == record


def test_a_use_that_comes_late_is_respected_and_the_announcement_taken_back(
    estate: Estate, calendar: Calendar, tmp_path: Path,
) -> None:
    old = estate.ami(1)
    estate.ami(2)
    before = "2029-01-01T00:00:00.000Z"
    estate.ec2.enable_image_deprecation(ImageId=old, DeprecateAt=before)
    run(estate, tmp_path)
    assert estate.amis()[old].deprecated != before
    calendar.days += 30
    estate.point("/somebody/needs/it", old)
    assert steps(plan(estate)) == [(Step.RECALL, old)]
    run(estate, tmp_path)
    assert not plan(estate).actions
    found = removal.describe(estate.ec2, old)
    assert found is not None and found["DeprecationTime"] == before
    assert set(estate.marks(old)) == {"goldenami:image", "goldenami:build-id"}


def test_a_disabled_image_can_be_had_back_with_its_shares(
    estate: Estate, calendar: Calendar, tmp_path: Path,
) -> None:
    old = estate.ami(1)
    estate.ami(2)
    partners = sorted(f"{number:012d}" for number in range(200000000000, 200000000040))
    estate.share(old, *partners)
    release = POLICY.model_copy(update={"release_shared": True})
    assert not plan(estate).actions
    for _ in range(2):
        run(estate, tmp_path, release)
        calendar.days += 8
    assert estate.amis()[old].state == "disabled"
    assert estate.shares(old) == []
    for _ in range(2):  # the second time changes nothing
        prepared = retire.prepare_restore(estate.account, IMAGE, [estate.region], build_id(1))
        assert prepared.regions[estate.region].ami == old
        retire.restore(estate.account, prepared, Progress("retire", IMAGE, tmp_path / "timings"))
        assert (estate.amis()[old].state, estate.shares(old)) == ("available", partners)
        assert estate.amis()[old].deprecated is None
        assert set(estate.marks(old)) == {"goldenami:image", "goldenami:build-id"}


def test_what_a_partner_launched_lately_is_not_released(estate: Estate) -> None:
    old = estate.ami(1)
    estate.ami(2)
    estate.share(old, PARTNER)
    estate.ec2.terminate_instances(InstanceIds=[estate.launch(old)])
    release = POLICY.model_copy(update={"release_shared": True, "idle_days": LATER + 1})
    if estate.amis()[old].last_launched is not None:
        assert "and launched on" in reasons(plan(estate, release))[old][0]
    assert steps(plan(estate, POLICY.model_copy(update={"release_shared": True}))) == [(Step.DEPRECATE, old)]
    estate.ec2.modify_image_attribute(ImageId=old, LaunchPermission={"Add": [{"Group": "all"}]})
    assert "shared with" in reasons(plan(estate, release))[old][0]


def test_the_build_to_roll_back_to_stays_unless_only_one_is_kept(estate: Estate) -> None:
    """`latest` came back from a newer build that turned out bad: what it would go back to now is an old one."""
    oldest, latest, *_ = amis = [estate.ami(number) for number in (1, 2, 3, 4)]
    lease = take(estate.account.dynamodb(estate.region), IMAGE)
    marks = [Mark(build_id=build_id(number), ami=ami, baked_at=iso(0), since=iso(0), by="me", fence=1, gpu=Gpu.NONE)
             for number, ami in enumerate(amis, 1)]
    lease.record(Ledger(latest=marks[1], history=(marks[0],)))
    lease.release()
    keeps_two = POLICY.model_copy(update={"keep_last": 2})
    assert reasons(plan(estate, keeps_two))[oldest] == ["used by ledger: the build to roll back to"]
    assert reasons(plan(estate, keeps_two))[latest] == ["used by ledger: latest"]
    assert (Step.DEPRECATE, oldest) in steps(plan(estate, POLICY))


# --- what is not ours ---

def test_what_the_pipeline_did_not_make_is_not_touched(estate: Estate, tmp_path: Path) -> None:
    """A tag alone is no proof, a record alone is none either, and neither is a record that names another AMI."""
    untagged = estate.ami(1, tagged=False)
    unrecorded = estate.ami(2, recorded=False)
    elsewhere = estate.ami(3, recorded=False)
    estate.point(estate.record(3), untagged)
    estate.ami(4)
    planned = plan(estate)
    assert planned.actions == []
    assert "its record does not exist" in reasons(planned)[unrecorded][0]
    assert f"its record names {untagged}" in reasons(planned)[elsewhere][0]
    assert untagged not in reasons(planned)
    before = estate.amis()
    run(estate, tmp_path)
    assert estate.amis() == before


def test_unfinished_uploads_go_when_they_have_expired(estate: Estate, tmp_path: Path) -> None:
    dead = estate.snapshot(1, complete=False, expires=iso(LATER - 1))
    finished = estate.snapshot(1, expires=iso(LATER - 1))
    alive = estate.snapshot(1, complete=False, expires=iso(LATER + 1))
    unknown = estate.snapshot(1, complete=False)
    foreign = estate.ec2.create_snapshot(VolumeId=estate.ec2.create_volume(
        Size=1, AvailabilityZone=f"{estate.region}a")["VolumeId"])["SnapshotId"]
    run(estate, tmp_path)
    assert estate.snapshots() == {alive, unknown, foreign}
    assert dead not in estate.snapshots() and finished not in estate.snapshots()
    assert "a run may work on it until" in reasons(plan(estate))[alive][0]
    assert "no tag says until when" in reasons(plan(estate))[unknown][0]


def test_a_snapshot_that_another_ami_shares_stays(estate: Estate, calendar: Calendar, tmp_path: Path) -> None:
    old = estate.ami(1)
    shared = estate.backing(old)
    theirs = estate.ami(8, tagged=False, recorded=False, snapshot=shared)
    estate.ami(9)
    for _ in range(4):
        run(estate, tmp_path)
        calendar.days += 8
    assert old not in estate.amis() and theirs in estate.amis()
    assert shared in estate.snapshots()
    assert estate.record(1) in estate.parameters(), "the record still proves whose the snapshot is"
    estate.ec2.deregister_image(ImageId=theirs)
    run(estate, tmp_path)
    assert shared not in estate.snapshots() and estate.record(1) not in estate.parameters()


def test_an_ami_that_somebody_deregistered_leaves_nothing_behind(estate: Estate, tmp_path: Path) -> None:
    gone, newest = estate.ami(1), estate.ami(2)
    template = estate.template(f"golden-{IMAGE}", [newest, gone, newest], tagged=True)
    estate.ec2.deregister_image(ImageId=gone)
    run(estate, tmp_path)
    assert estate.snapshots() == {estate.backing(newest)}
    assert estate.parameters() == {estate.record(2): newest}
    versions = estate.ec2.describe_launch_template_versions(LaunchTemplateId=template)["LaunchTemplateVersions"]
    assert sorted(version["VersionNumber"] for version in versions) == [1, 3]


def test_a_pointer_to_an_ami_that_is_gone_is_said(estate: Estate, tmp_path: Path) -> None:
    gone = estate.ami(1)
    estate.ami(2)
    estate.point(f"/golden-ami/{IMAGE}/latest", gone)
    estate.ec2.deregister_image(ImageId=gone)
    planned = plan(estate)
    assert planned.problems == [
        f"{gone} of build {build_id(1)} does not exist any more and is used by SSM parameter "
        f"/golden-ami/{IMAGE}/latest"]
    run(estate, tmp_path)
    assert estate.record(1) in estate.parameters()


# --- what can go wrong ---

def test_nothing_happens_to_an_image_that_was_enabled_after_the_plan(
    estate: Estate, calendar: Calendar, tmp_path: Path,
) -> None:
    old = estate.ami(1)
    backing = estate.backing(old)
    estate.ami(2)
    for _ in range(2):
        run(estate, tmp_path)
        calendar.days += 8
    prepared = retire.prepare(estate.account, IMAGE, [estate.region], POLICY)
    assert (Step.DEREGISTER, old) in steps(prepared.plan.regions[0])
    estate.ec2.enable_image(ImageId=old)
    with pytest.raises(GoldenError, match="was available again"):
        retire.execute(estate.account, prepared, tmp_path, Progress("retire", IMAGE, tmp_path / "timings"))
    assert backing in estate.snapshots() and estate.record(1) in estate.parameters()
    assert records.read(tmp_path / "retire.json", RetireRecord).failed


def test_a_refusal_stops_that_build_and_no_other(estate: Estate, aws: Emulator, tmp_path: Path) -> None:
    first, second = estate.ami(1), estate.ami(2)
    dead = estate.snapshot(3, complete=False, expires=iso(LATER - 1))
    estate.ami(4)
    aws.set(denied={"*": ["ec2:EnableImageDeprecation"]})
    with pytest.raises(HostNotReady, match="ec2:EnableImageDeprecation") as caught:
        run(estate, tmp_path)
    assert "golden retire" in caught.value.hint
    assert dead not in estate.snapshots()
    record = records.read(tmp_path / "retire.json", RetireRecord)
    assert len(record.failed[estate.region]) == 2
    aws.set(denied={})
    run(estate, tmp_path)
    assert all(estate.amis()[ami].deprecated for ami in (first, second))


def test_a_region_that_cannot_be_read_is_unreachable_and_the_other_goes_on(
    estate: Estate, aws: Emulator, tmp_path: Path,
) -> None:
    old = estate.ami(1)
    estate.ami(2)
    aws.set(disabled_regions=["eu-west-1"])
    prepared = retire.prepare(estate.account, IMAGE, [estate.region, "eu-west-1"], POLICY)
    assert list(prepared.plan.unreachable) == ["eu-west-1"]
    assert "unreachable" in "\n".join(retire.show(prepared.plan))
    with pytest.raises(GoldenError, match="eu-west-1"):
        retire.execute(estate.account, prepared, tmp_path, Progress("retire", IMAGE, tmp_path / "timings"))
    assert estate.amis()[old].deprecated


def test_one_forbidden_call_makes_the_region_unreachable_not_empty(estate: Estate, aws: Emulator) -> None:
    estate.ami(1)
    estate.ami(2)
    for action in ("ec2:DescribeInstances", "ssm:GetParameters", "autoscaling:DescribeAutoScalingGroups",
                   "ec2:DescribeLaunchTemplateVersions", "dynamodb:GetItem", "ec2:DescribeVolumes",
                   "ec2:DescribeFleets", "ec2:DescribeSpotFleetRequests", "ec2:DescribeSpotInstanceRequests"):
        aws.set(denied={"*": [action]})
        prepared = retire.prepare(estate.account, IMAGE, [estate.region], POLICY)
        if prepared.plan.regions:  # nothing there to ask for
            assert action == "ec2:DescribeLaunchTemplateVersions"
            continue
        assert action in prepared.plan.unreachable[estate.region]


def test_while_another_publishes_nothing_is_retired(estate: Estate, tmp_path: Path) -> None:
    old = estate.ami(1)
    estate.ami(2)
    lease = take(estate.account.dynamodb(estate.region), IMAGE)
    with pytest.raises(Busy, match="is at work on"):
        run(estate, tmp_path)
    assert not estate.amis()[old].deprecated
    lease.release()
    run(estate, tmp_path)
    assert estate.amis()[old].deprecated
