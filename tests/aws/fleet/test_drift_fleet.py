"""What `golden drift` says of the instances that run an image."""

from __future__ import annotations

import pytest
from goldenami.aws.services import notify
from goldenami_fleet.drift.fleet_records import FleetDrift, FleetRecord, ImageFleet
from support.aws.emulator import Emulator
from support.aws.fleet import TEMPLATE, TYPE, Fleet
from support.aws.seeded_account import REGION, SeededAccount
from support.builds.builds import IMAGE, Checkout
from support.drift import cloud_disk

OTHER_REGION = "us-west-2"


@pytest.fixture
def fleet(account: SeededAccount, checkout: Checkout) -> Fleet:
    return Fleet.publish(account, checkout)


def look(fleet: Fleet, *args: str, code: int = 0) -> FleetRecord:
    said = fleet.checkout.run("drift", IMAGE, "--json", *args, code=code)
    return FleetRecord.model_validate_json(said[: said.index("\n}\n") + 3])


def only(fleet: Fleet, code: int = 0) -> ImageFleet:
    (found,) = look(fleet, code=code).regions[REGION]
    return found


def kinds(found: ImageFleet) -> dict[str, set[FleetDrift]]:
    return {
        **{row.id: {each.kind for each in row.drift} for row in found.instances},
        **{row.name: {each.kind for each in row.drift} for row in found.groups},
    }


def test_each_way_to_drift_is_told_with_its_time(fleet: Fleet) -> None:
    account = fleet.account
    stranger = account.ami(7, tagged=False, recorded=False)
    good, pinned, by_hand, odd = (
        fleet.by_version(2),
        fleet.by_version(1),
        account.launch(fleet.ami(1)),
        account.launch(stranger),
    )
    grouped = fleet.group("workers", "1")
    replaced = account.launch(stranger, LaunchTemplate={**TEMPLATE, "Version": "2"})
    found = only(fleet, code=6)
    older = {FleetDrift.OTHER, FleetDrift.VERSION}
    assert kinds(found) == {
        good: set(),
        pinned: older,
        by_hand: {FleetDrift.OTHER},
        grouped: older,
        replaced: {FleetDrift.FOREIGN},
        "workers": {FleetDrift.VERSION},
    }
    assert found.strangers == {odd: stranger}
    assert (found.latest, found.template_version) == (fleet.builds[1], "2")
    assert found.metrics.instances_by_build == {
        fleet.builds[0]: 3,
        fleet.builds[1]: 1,
        "foreign": 1,
    }
    assert (found.metrics.instances, found.metrics.drifted) == (5, 4)
    assert found.metrics.oldest_build_days is not None and 0 <= found.metrics.oldest_build_days < 1
    assert all(row.since for row in found.instances)
    assert all(
        drift.since and row.since and drift.since >= row.since
        for row in found.instances
        for drift in row.drift
    )
    said = fleet.checkout.golden("drift").text
    for expected in (
        f"  {grouped} ",
        f"foreign AMI: {stranger} is no build of",
        "group workers",
        "4 of 5 instances drifted",
    ):
        assert expected in said, said


def test_a_fleet_as_published_is_no_drift_until_something_changes(fleet: Fleet) -> None:
    """A root volume that was swapped, a build that was withdrawn; a candidate may run."""
    instance, ec2 = fleet.by_version(2), fleet.account.ec2
    fleet.account.group("web", LaunchTemplate={**TEMPLATE, "Version": "$Default"})
    assert kinds(only(fleet)) == {instance: set(), "web": set()}
    text = fleet.checkout.golden("drift").text
    runs = f"{instance} {fleet.ami(2)} {fleet.builds[1]} running since"
    assert runs in text and "0 of 1 instances drifted" in text
    cloud_disk.swap_root(ec2, instance, Size=8)
    assert kinds(only(fleet, code=6))[instance] == {FleetDrift.ROOT}
    ec2.terminate_instances(InstanceIds=[instance])
    instance = fleet.by_version(2)
    fleet.checkout.run("rollback", IMAGE)
    assert kinds(only(fleet, code=6))[instance] == {FleetDrift.WITHDRAWN, FleetDrift.VERSION}
    ec2.terminate_instances(InstanceIds=[instance])
    fleet.checkout.define(f"publish: {{regions: [{REGION}], soak_hours: 5, {TYPE}}}\n")
    candidate = fleet.checkout.publish(3)
    (ami,) = (ami.id for ami in fleet.account.amis().values() if ami.build_id == candidate)
    instance = fleet.account.launch(ami)
    assert kinds(only(fleet))[instance] == set()


def test_a_region_that_cannot_be_read_and_people_who_cannot_be_told(
    fleet: Fleet,
    aws: Emulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Drift outranks what could not be looked at, which is never a success."""
    fleet.checkout.define(f"publish: {{regions: [{REGION}, {OTHER_REGION}], {TYPE}}}\n")
    aws.set(disabled_regions=[OTHER_REGION])
    assert list(look(fleet, code=8).unreachable) == [OTHER_REGION]
    aws.set(disabled_regions=[], denied={"*": ["autoscaling:DescribeAutoScalingGroups"]})
    record = look(fleet, code=8)
    assert not record.regions and "DescribeAutoScalingGroups" in record.unreachable[REGION]
    aws.set(denied={})
    fleet.by_version(1)
    monkeypatch.setenv(notify.TOPIC, f"arn:aws:sns:{REGION}:123456789012:gone")
    aws.set(denied={"*": ["sns:Publish"]})
    assert "may not call sns:Publish" in fleet.checkout.run("drift", IMAGE, code=6)
    aws.set(denied={})
    fleet.checkout.run("drift", "nothing", code=2)
