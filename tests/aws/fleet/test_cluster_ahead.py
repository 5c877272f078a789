"""Machines ahead of their users: a calendar, spare ones, a warm pool, and what a plan says of
them."""

from __future__ import annotations

import json
import re
from datetime import datetime, time, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import boto3
import pytest
from goldenami.core import clock
from support.aws.emulator import Emulator
from support.aws.seeded_account import SeededAccount
from support.builds.builds import GPU_IMAGE, Checkout

REGION, BERLIN = "us-east-1", ZoneInfo("Europe/Berlin")
SECTION = """
    cluster:
      hours: [Mon-Fri 08:00-19:00 Europe/Berlin]
      holidays: [2026-12-25, 2099-12-25]
      machines:
        g5: {working_hours: 2, spare: 1}
        g6: {stopped: 3}
    publish:
      regions: [us-east-1]
      launch_template: {instance_type: g6.xlarge}
"""


@pytest.fixture
def cluster(checkout: Checkout, account: SeededAccount) -> Checkout:
    """A definition whose machines wait for people, with the launch template that publish leaves."""
    checkout.define(SECTION, GPU_IMAGE)
    path = checkout.root / f"packer/images/{GPU_IMAGE}.yml"
    path.write_text(
        path.read_text(encoding="utf-8").replace("roles:\n", "roles:\n  golden_idle:\n"),
        encoding="utf-8",
    )
    boto3.client("ec2", REGION).create_launch_template(
        LaunchTemplateName=f"golden-{GPU_IMAGE}",
        LaunchTemplateData={"ImageId": account.ami(1), "InstanceType": "g6.xlarge"},
    )
    return checkout


@pytest.fixture
def subnets(aws: Emulator) -> str:
    found = boto3.client("ec2", REGION).describe_subnets()["Subnets"]
    return ",".join(sorted(each["SubnetId"] for each in found)[:2])


def actions(family: str) -> list[dict[str, Any]]:
    return list(
        boto3.client("autoscaling", REGION).describe_scheduled_actions(
            AutoScalingGroupName=f"golden-{GPU_IMAGE}-{family}"
        )["ScheduledUpdateGroupActions"]
    )


def test_a_plan_says_what_it_costs(cluster: Checkout, subnets: str) -> None:
    """The costs against sums of our own: 5 days of 11.25 hours a week of 168 in a month of 730."""
    said = cluster.run(
        "cluster", "plan", GPU_IMAGE, "--set", f"Subnets={subnets}", "--set", "MaxInstances=4"
    )
    in_hours = 2 * 1.006 * 730 * (5 * 11.25) / 168
    assert f"g5: 2 of g5.xlarge in working hours, 244 h: ${in_hours:.2f}" in said
    assert f"g5: 1 of g5.xlarge spare, day and night: ${730 * 1.006:.2f}" in said
    disk = 16
    assert f"g6: 3 stopped, their volumes: ${3 * disk * 0.08:.2f}" in said
    assert "detailed monitoring, each machine that runs all month: $2.10" in said
    assert said.count("who waited is not known: AWS failed at LookupEvents in us-east-1") == 1


def test_the_calendar_is_the_groups_own(cluster: Checkout, subnets: str) -> None:
    cluster.run(
        "cluster", "apply", GPU_IMAGE, "--set", f"Subnets={subnets}", "--set", "MaxInstances=4"
    )
    opens, *later, closes = actions("g5")
    assert (opens["Recurrence"], opens["MinSize"]) == ("45 7 * * 1,2,3,4,5", 2)
    assert (closes["Recurrence"], closes["MinSize"]) == ("0 19 * * 1,2,3,4,5", 0)
    assert {each["TimeZone"] for each in (opens, *later, closes)} == {"Europe/Berlin"}
    # Nobody's job is ended: no action says how many there are.
    assert not any("DesiredCapacity" in each for each in (opens, *later, closes))
    assert f"{later[-1]['StartTime']:%Y-%m-%dT%H:%M}" == "2099-12-28T06:45"
    assert actions("g6") == []
    cluster.run("cluster", "apply", GPU_IMAGE, "--set", "MaxInstances=5")
    cluster.run("cluster", "remove", GPU_IMAGE)


def group(family: str) -> dict[str, Any]:
    [found] = boto3.client("autoscaling", REGION).describe_auto_scaling_groups(
        AutoScalingGroupNames=[f"golden-{GPU_IMAGE}-{family}"]
    )["AutoScalingGroups"]
    return dict(found)


def least(aws: Emulator, moment: datetime) -> int:
    """The least of a group at that moment, by the emulator's own reading of its actions."""
    aws.set(schedule_ahead_s=(moment - clock.now()).total_seconds() + 20)
    return int(group("g5")["MinSize"])


def test_the_least_moves_by_the_calendar(cluster: Checkout, aws: Emulator, subnets: str) -> None:
    """Around a holiday and a change of clocks; then of a group that an update finds at noon, with
    one holiday more."""
    noons = [
        datetime.combine(clock.now().date() + timedelta(days=ahead), time(12), BERLIN)
        for ahead in range(250)
    ]
    [holiday, *_] = [noon.date() for noon in noons[7:] if noon.weekday() == 4]
    [change, *_] = [
        now.date() for before, now in pairwise(noons[21:]) if before.utcoffset() != now.utcoffset()
    ]
    path = cluster.root / f"packer/images/{GPU_IMAGE}.yml"
    path.write_text(path.read_text("utf-8").replace("2026-12-25", str(holiday)), encoding="utf-8")
    cluster.run(
        "cluster", "apply", GPU_IMAGE, "--set", f"Subnets={subnets}", "--set", "MaxInstances=4"
    )
    seen, wanted = dict[datetime, int](), dict[datetime, int]()
    for day in (
        first + timedelta(days=ahead) for first in (holiday, change) for ahead in range(-1, 4)
    ):
        for at in (time(0, 5), time(7, 44), time(7, 45), time(18, 59), time(19)):
            moment = datetime.combine(day, at, BERLIN)
            is_open = day.weekday() < 5 and day != holiday and time(7, 45) <= at < time(19)
            seen[moment], wanted[moment] = least(aws, moment), 2 if is_open else 0
    assert seen == wanted
    assert group("g5")["DesiredCapacity"] == 2, "what runs at the evening's end goes on"
    thursday = datetime.combine(change + timedelta(days=4), time(12), BERLIN)
    assert least(aws, thursday) == 2
    friday = thursday + timedelta(days=1)
    path.write_text(
        path.read_text("utf-8").replace(str(holiday), f"{holiday}, {friday.date()}"),
        encoding="utf-8",
    )
    cluster.run("cluster", "apply", GPU_IMAGE, "--set", "MaxInstances=5")
    assert [least(aws, thursday + timedelta(days=ahead)) for ahead in (0, 1, 4)] == [2, 0, 2]


def test_groups_by_type_launch_their_type(cluster: Checkout, aws: Emulator, subnets: str) -> None:
    path = cluster.root / f"packer/images/{GPU_IMAGE}.yml"
    text = path.read_text("utf-8").replace("  hours:", "  by: type\n  hours:")
    text = text.replace("[us-east-1]\n", "[us-east-1]\n  instance_types: declared\n")
    text = text.replace("    g5: {", "    g4dn.huge: {}\n    g5.xlarge: {")
    path.write_text(text.replace("    g6: {", "    g6.xlarge: {"), encoding="utf-8")
    said = cluster.run(
        "cluster", "apply", GPU_IMAGE, "--set", f"Subnets={subnets}", "--set", "MaxInstances=4"
    )
    assert "g4dn.huge: not in us-east-1, so it has no group" in said
    assert "g5.xlarge: 1 of g5.xlarge spare, day and night" in said
    assert f"golden-{GPU_IMAGE}-g5.xlarge, golden-{GPU_IMAGE}-g6.xlarge" in said
    boto3.client("autoscaling", REGION).set_desired_capacity(
        AutoScalingGroupName=f"golden-{GPU_IMAGE}-g5.xlarge", DesiredCapacity=2
    )
    types = [machine["InstanceType"] for machine in group("g5.xlarge")["Instances"]]
    assert types == ["g5.xlarge"] * 2


def test_machines_that_the_group_cannot_have(cluster: Checkout) -> None:
    for sets, said in (
        (
            ("MaxInstances=1",),
            "2 machines of g5 in working hours are not between 0, which run always, and 1",
        ),
        (("MinInstances=2", "MaxInstances=4"), "are not between 2, which run always, and 4"),
    ):
        words = [word for each in sets for word in ("--set", each)]
        text = cluster.run(
            "cluster", "plan", GPU_IMAGE, "--set", "Subnets=subnet-0123456789", *words, code=2
        )
        assert said in text


def test_who_waited_by_the_launches_of_the_last_week(
    cluster: Checkout, aws: Emulator, subnets: str
) -> None:
    """Two people within a boot, and one long before; a call that was refused has no machine."""
    now = clock.now()

    def event(minutes_ago: float, *machines: str) -> dict[str, str]:
        items = [{"instanceId": machine, "instanceType": "g5.xlarge"} for machine in machines]
        return {
            "CloudTrailEvent": json.dumps(
                {
                    "eventTime": clock.stamp(now - timedelta(minutes=minutes_ago)),
                    "responseElements": {"instancesSet": {"items": items}} if items else None,
                }
            )
        }

    launched = [event(3000, "i-1"), event(20, "i-2"), event(18, "i-3"), event(10)]
    aws.set(
        answers=[
            {
                "call": "cloudtrail:LookupEvents",
                "answer": {"Events": launched},
                "asked": {
                    "LookupAttributes": [
                        {"AttributeKey": "EventName", "AttributeValue": "RunInstances"}
                    ]
                },
            }
        ]
    )
    said = cluster.run(
        "cluster", "plan", GPU_IMAGE, "--set", f"Subnets={subnets}", "--set", "MaxInstances=4"
    )
    assert "for g5 in the last seven days, by CloudTrail: 3 launches, a boot of 5 minutes" in said
    rows = [re.split("  +", line.strip()) for line in said.splitlines() if " of 3 " in line]
    assert rows == [
        ["0", "3 of 3", "5.0 min", "$0.00"],
        ["1", "1 of 3", "1.7 min", f"${168 * 1.006:.2f}"],
        ["2", "0 of 3", "0.0 min", f"${2 * 168 * 1.006:.2f}"],
        ["3", "0 of 3", "0.0 min", f"${3 * 168 * 1.006:.2f}"],
    ]
    assert "nobody launched g6 in the last seven days" in said
