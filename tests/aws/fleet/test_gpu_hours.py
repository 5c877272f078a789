"""GPU-hours, and sums of bills, against arithmetic of one's own on months that were made up."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import boto3
import pytest
from goldenami.aws.services import metrics
from goldenami.core import clock
from goldenami_fleet.costs.gpu_hours import ALL
from support.aws.digest_weeks import send
from support.aws.emulator import Emulator
from support.aws.made_bill import PLAN, RESERVED, Machine, MadeBill
from support.aws.seeded_account import Calendar, SeededAccount
from support.builds.builds import Checkout

REGION = "us-east-1"
GROUP = "AutoScalingGroupName"


def month(back: int) -> date:
    first = clock.now().date().replace(day=1)
    number = first.year * 12 + first.month - 1 - back
    return date(number // 12, number % 12 + 1, 1)


def name(back: int) -> str:
    return f"{month(back):%Y-%m}"


def machines() -> list[Machine]:
    """Five months; the third of them has no bill."""
    return [
        Machine(month(5), 10, "g5.xlarge", "ann"),
        Machine(month(4), 3, "g5.48xlarge", "ann", RESERVED),
        Machine(month(4), 2, "g5.xlarge", "ann", account="222222222222"),
        Machine(month(4), 28, "c7i.large", "ann"),
        Machine(month(2), 1, "p4d.24xlarge", "bob", PLAN, account="222222222222"),
        Machine(month(1), 4, "g5.12xlarge", "", usd_hour=5.5),
        Machine(month(1), 5, "g3.4xlarge", "bob"),
        Machine(month(1), 1, "t3.micro", "bob"),
    ]


@pytest.fixture(autouse=True)
def late_in_a_month(calendar: Calendar, checkout: Checkout) -> None:
    checkout.define("publish: {regions: [us-east-1]}\n")
    while clock.now().day != 20:
        calendar.days += 1


def gpu_hours(checkout: Checkout, months: int) -> dict[tuple[str, str], dict[str, Any]]:
    found = json.loads(checkout.run("costs", "--months", str(months), "--json"))
    return {(row["owner"], row["month"]): row for row in found["rows"] if row["owner"] != ALL}


def test_paid_gpu_hours_are_those_in_which_machines_ran(aws: Emulator, checkout: Checkout) -> None:
    """Not the quantities of fees, credits, refunds and negations."""
    MadeBill(machines()).tell(aws, month(11), clock.now().date() + timedelta(days=1))
    paid = {key: row["paid"] for key, row in gpu_hours(checkout, 12).items()}
    assert paid == {
        ("ann", name(5)): 10 * 24 * 1,
        ("ann", name(4)): 3 * 24 * 8 + 2 * 24 * 1,
        ("bob", name(2)): 24 * 8,
        ("", name(1)): 4 * 24 * 4,
    }
    said = checkout.run("costs", "--months", "12")
    assert "unknown: g3.4xlarge: not counted" in said and "t3.micro" not in said
    assert ["(all)", name(4), "624.0"] in [line.split()[:3] for line in said.splitlines()]


def group(name: str, ami: str, *owners: str) -> None:
    """An Auto Scaling group of `bob`'s with a machine of each of the owners."""
    ec2, groups = boto3.client("ec2", REGION), boto3.client("autoscaling", REGION)
    ec2.create_launch_template(
        LaunchTemplateName=name,
        LaunchTemplateData={"ImageId": ami, "InstanceType": "c7i.large"},
    )
    groups.create_auto_scaling_group(
        AutoScalingGroupName=name,
        MinSize=0,
        MaxSize=2,
        DesiredCapacity=len(owners),
        AvailabilityZones=[f"{REGION}a"],
        LaunchTemplate={"LaunchTemplateName": name, "Version": "1"},
        Tags=[{"Key": "Owner", "Value": "bob", "PropagateAtLaunch": True}],
    )
    [made] = groups.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]
    for machine, owner in zip(made["Instances"], owners, strict=True):
        ec2.create_tags(Resources=[machine["InstanceId"]], Tags=[{"Key": "Owner", "Value": owner}])


def send_of_group(name: str, begin: datetime, hours: int, percent: float) -> None:
    """What two GPUs of a group's machines send: of each machine, and of the group alone."""
    for gpu in ("0", "1"):
        own = {"index": gpu, GROUP: name}
        send(metrics.GPU_PERCENT, "i-0ingroup", begin, hours, percent, **own)
    boto3.client("cloudwatch", REGION).put_metric_data(
        Namespace=metrics.NAMESPACE,
        MetricData=[
            {
                "MetricName": metrics.GPU_PERCENT,
                "Timestamp": begin + timedelta(hours=hour, minutes=30),
                "Dimensions": [{"Name": GROUP, "Value": name}],
                "StatisticValues": {
                    "SampleCount": 720,
                    "Sum": 720 * percent,
                    "Minimum": percent,
                    "Maximum": percent,
                },
            }
            for hour in range(hours)
        ],
    )


def test_used_gpu_hours_are_those_of_metrics_and_what_is_not_measured_is_said(
    aws: Emulator, checkout: Checkout, account: SeededAccount
) -> None:
    """Of a machine alone, of one that ended, of a group without machines, of one whose machines
    have two owners, and not what another agent has summed over all."""
    ami = account.ami(1)
    alone = account.launch(ami)
    boto3.client("ec2", REGION).create_tags(
        Resources=[alone], Tags=[{"Key": "Owner", "Value": "ann"}]
    )
    group("bobs", ami)
    group("shared", ami, "cat", "ann")
    last, this = (datetime.combine(month(back), datetime.min.time(), UTC) for back in (1, 0))
    for gpu in ("0", "1"):
        send(metrics.GPU_PERCENT, alone, last + timedelta(days=3), 30, 50.0, index=gpu)
    send(metrics.GPU_PERCENT, alone, this, 10, 20.0, index="0")
    send(metrics.GPU_PERCENT, "i-0ended", this, 8, 100.0, index="0")
    send_of_group("bobs", last, 12, 75.0)
    send_of_group("shared", this, 5, 0.0)
    boto3.client("cloudwatch", REGION).put_metric_data(
        Namespace=metrics.NAMESPACE,
        MetricData=[{"MetricName": metrics.GPU_PERCENT, "Timestamp": this, "Value": 99.0}],
    )
    MadeBill([Machine(month(1), 4, "g5.12xlarge", "ann")]).tell(
        aws, month(1), clock.now().date() + timedelta(days=1)
    )
    rows = gpu_hours(checkout, 2)
    figures = {key: (row["paid"], row["measured"], row["used"]) for key, row in rows.items()}
    assert figures == {
        ("ann", name(1)): (4 * 24 * 4, pytest.approx(60), pytest.approx(30)),
        ("ann", name(0)): (0, pytest.approx(10), pytest.approx(2)),
        ("(gone)", name(0)): (0, pytest.approx(8), pytest.approx(8)),
        ("bob", name(1)): (0, pytest.approx(24), pytest.approx(18)),
        ("ann, cat", name(0)): (0, pytest.approx(10), 0),
    }
    aws.set(denied={"*": ["ce:*"]})
    said = [line.split() for line in checkout.run("costs", "--months", "2").splitlines()]
    assert ["ann", name(1), "unknown", "60.0", "30.0", "50", "%"] in said, said
    assert "unknown: paid GPU-hours: the AWS credentials may not call" in " ".join(said[-1])


def test_bills_of_two_accounts_add_up_and_unequal_months_are_not_compared(
    aws: Emulator, checkout: Checkout
) -> None:
    bill = MadeBill(machines())

    def review(months: int) -> dict[str, Any]:
        bill.tell(aws, month(2 * months), month(0))
        answer = checkout.run("costs", "--by", "account,owner", "--months", str(months), "--json")
        parts: dict[str, Any] = json.loads(answer)["parts"]
        return parts

    def usd(owner: str, *back: int) -> float:
        return sum(
            line.usd
            for line in bill.lines
            if line.owner == owner and line.day.replace(day=1) in map(month, back)
        )

    rows = {row["name"]: row for row in review(1)["owner"]}
    assert rows[""]["months"] == {name(1): pytest.approx(4 * 24 * 5.5 - 3 - 5 + 500 + 77)}
    assert rows["bob"]["before"] == pytest.approx(24 - 3 - 5)
    whole = review(3)
    assert {row["before"] for rows in whole.values() for row in rows} == {None}
    for row in whole["owner"]:
        assert sum(row["months"].values()) == pytest.approx(usd(row["name"], 1, 2, 3))
    assert sum(sum(row["months"].values()) for row in whole["account"]) == pytest.approx(
        sum(line.usd for line in bill.lines if line.day >= month(3))
    )
