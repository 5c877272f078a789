"""`golden costs`: what is billed, stored, idle, reserved and advised; what could not be asked is
unknown, never 0."""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import Any

import boto3
import pytest
from goldenami.aws.pricing import billing
from goldenami.aws.services import metrics
from goldenami.core import clock
from goldenami_fleet.costs import cost_review
from goldenami_fleet.costs.cost_review import By
from support.aws import unbound
from support.aws.emulator import Emulator
from support.aws.seeded_account import Calendar
from support.builds import builds
from support.builds.builds import IMAGE, Checkout
from support.builds.tools import granted

REGION = "us-east-1"
TAGS = ("goldenami:image", "goldenami:cluster")


def bill(aws: Emulator, unit: str = "USD") -> None:
    """What Cost Explorer has of this month for what carries a tag, each line a row."""
    for tag, usage, amount in (
        (TAGS[0], "USE1-EBS:SnapshotUsage", 1.5),
        (TAGS[0], "BoxUsage:c7i.large", 2.25),
        (TAGS[0], "EBS:VolumeUsage.gp3", 0.25),
        (TAGS[1], "SpotUsage:g5.xlarge", 300.0),
    ):
        cost = {"AmortizedCost": {"Amount": str(amount), "Unit": unit}}
        aws.answer(
            "ce:GetCostAndUsage",
            asked={
                "GroupBy": [
                    {"Type": "TAG", "Key": tag},
                    {"Type": "DIMENSION", "Key": "USAGE_TYPE"},
                ],
                "Filter": {"Not": {"Tags": {"Key": tag, "MatchOptions": ["ABSENT"]}}},
            },
            ResultsByTime=[
                {
                    "TimePeriod": {"Start": "2026-01-01", "End": "2026-02-01"},
                    "Groups": [{"Keys": [f"{tag}${IMAGE}", usage], "Metrics": cost}],
                }
            ],
        )


def reservation(aws: Emulator, name: str, end: str, kind: str = "g5.xlarge") -> None:
    aws.answer(
        "ec2:DescribeReservedInstances",
        REGION,
        ReservedInstances=[
            {
                "ReservedInstancesId": name,
                "InstanceType": kind,
                "InstanceCount": 1,
                "End": end,
                "Start": "2026-01-01T00:00:00Z",
                "OfferingClass": "convertible",
            }
        ],
    )


@pytest.fixture(autouse=True)
def mid_month(calendar: Calendar) -> None:
    """A day on which this month has hours behind it, whatever today is."""
    while clock.now().day != 15:
        calendar.days += 1


def golden(checkout: Checkout, *args: str) -> str:
    return checkout.run("costs", IMAGE, *args)


def record(checkout: Checkout, *args: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(golden(checkout, "--json", *args))
    return found


@pytest.fixture
def one_region(checkout: Checkout) -> Checkout:
    checkout.define("publish: {regions: [us-east-1]}\n")
    return checkout


def send_idle(ami: str, hours: int, share: float) -> None:
    """What the role golden_idle sends in so many hours of this month: a value each ten seconds, at
    once here."""
    month = clock.now().replace(day=1, hour=0, minute=0, second=0)
    boto3.client("cloudwatch", REGION).put_metric_data(
        Namespace=metrics.NAMESPACE,
        MetricData=[
            {
                "MetricName": metrics.IDLE,
                "Timestamp": month + timedelta(hours=hour, minutes=30),
                "Dimensions": [
                    {"Name": "InstanceId", "Value": "i-1"},
                    {"Name": "ImageId", "Value": ami},
                    {"Name": "InstanceType", "Value": "g5.xlarge"},
                ],
                "StatisticValues": {
                    "SampleCount": 360,
                    "Sum": 360 * share,
                    "Minimum": 0,
                    "Maximum": 1,
                },
            }
            for hour in range(hours)
        ],
    )


def test_what_an_image_stores_wastes_and_is_billed(
    one_region: Checkout, aws: Emulator, calendar: Calendar
) -> None:
    one_region.define("publish: {regions: [us-east-1], keep_last: 2}\n")
    for number in range(1, 4):
        one_region.publish(number)
    ami = boto3.client("ec2", REGION).describe_images(Owners=["self"])["Images"][0]["ImageId"]
    send_idle(ami, 4, 0.5)
    # Five more minutes: it was off for the rest of that hour.
    send_idle(ami, 1, 0.5 / 12)
    send_idle("ami-0123456789abcdef0", 4, 1.0)  # a machine of another image
    aws.set(page_most=1)
    bill(aws)
    [row] = record(one_region)["regions"][REGION]
    stored = row["snapshot_bytes"]
    assert row["amis"] == 3 and stored >= 2 * builds.MIB
    assert row["snapshots_usd_month"] == pytest.approx(stored / (1 << 30) * 0.05)
    assert row["retiring_saves_usd_month"] == 0
    assert row["idle_hours"] == pytest.approx(2 + 2.5 / 60, abs=0.001)
    assert row["idle_usd"] == pytest.approx((2 + 2.5 / 60) * 1.006, abs=0.001)
    assert record(one_region)["spent"] == {
        IMAGE: {"snapshots": 1.5, "builders": 2.5, "cluster": 300.0}
    }
    said = golden(one_region)
    assert "$300.00" in said and "of 2024-12-02" in said

    calendar.days += 200  # the first build is beyond the newest two, and older than 180 days
    [row] = record(one_region)["regions"][REGION]
    assert 0 < row["retiring_saves_usd_month"] < row["snapshots_usd_month"]


def test_commitments_that_end_and_what_aws_would_buy(one_region: Checkout, aws: Emulator) -> None:
    soon, later = (clock.stamp(clock.now() + timedelta(days=days, hours=1)) for days in (29, 31))
    reservation(aws, "r-soon", soon)
    reservation(aws, "r-later", later, "g6.xlarge")
    aws.answer(
        "savingsplans:DescribeSavingsPlans",
        savingsPlans=[
            {
                "savingsPlanId": "sp-soon",
                "savingsPlanType": "Compute",
                "end": soon,
                "start": "2026-01-01T00:00:00Z",
                "commitment": "2.5",
                "currency": "USD",
            }
        ],
    )
    aws.answer(
        "ce:GetReservationUtilization",
        Total={"UtilizationPercentage": "61.0", "NetRISavings": "-12.5"},
        UtilizationsByTime=[],
    )
    aws.answer(
        "ce:GetSavingsPlansUtilization",
        Total={
            "Utilization": {"UtilizationPercentage": "61.0"},
            "Savings": {"NetSavings": "80", "OnDemandCostEquivalent": "900"},
        },
    )
    aws.answer(
        "ce:GetReservationCoverage",
        Total={"CoverageHours": {"CoverageHoursPercentage": "40.0"}},
        CoveragesByTime=[],
    )
    aws.answer(
        "ce:GetSavingsPlansCoverage",
        SavingsPlansCoverages=[
            {"Coverage": {"SpendCoveredBySavingsPlans": covered, "TotalCost": "50"}}
            for covered in ("10", "30")
        ],
    )
    aws.answer(
        "ce:GetReservationPurchaseRecommendation",
        Recommendations=[
            {
                "RecommendationDetails": [
                    {
                        "InstanceDetails": {
                            "EC2InstanceDetails": {"InstanceType": "g5.2xlarge", "Region": REGION}
                        },
                        "RecommendedNumberOfInstancesToPurchase": "1",
                        "CurrencyCode": "USD",
                        "EstimatedMonthlySavingsAmount": "120.5",
                    }
                ]
            }
        ],
    )
    aws.answer(
        "ce:GetSavingsPlansPurchaseRecommendation",
        SavingsPlansPurchaseRecommendation={
            "SavingsPlansPurchaseRecommendationSummary": {
                "HourlyCommitmentToPurchase": "1.5",
                "CurrencyCode": "USD",
                "EstimatedMonthlySavingsAmount": "75.0",
            }
        },
    )
    said = golden(one_region)
    assert "reservation r-soon (1 x g5.xlarge, convertible, for us-east-1 alone) ends on" in said
    assert "savings plan sp-soon (Compute, 2.5 USD an hour) ends on" in said
    assert "in 29 days" in said and "r-later" not in said
    for kind, saved in (
        ("reservations", "they cost $12.50 more than on demand: they do not save"),
        ("savings plans", "they saved $80.00 against prices on demand"),
    ):
        used = "used to 61 % in the last 30 days, and cover 40 % of the need"
        assert f"{kind} are {used}; {saved}\n" in said
    assert "AWS would buy: reservation 1 x g5.2xlarge in us-east-1, saves $120.50 a month" in said
    assert "AWS would buy: savings plan $1.500 an hour, saves $75.00 a month" in said
    assert "one year, not three, and no upfront payment; convertible for GPUs" in said


def test_plans_without_any_need_have_no_cover(aws: Emulator) -> None:
    """Reservations have no data here."""
    nothing = {"Coverage": {"SpendCoveredBySavingsPlans": "0", "TotalCost": "0"}}
    aws.answer("ce:GetSavingsPlansCoverage", SavingsPlansCoverages=[nothing])
    today = clock.now().date()
    assert billing.coverage(unbound.account(), today - timedelta(days=30), today) == {}


def test_what_cannot_be_asked_is_unknown(one_region: Checkout, aws: Emulator) -> None:
    assert "AWS would buy" not in golden(one_region), "an account without any of it"
    bill(aws)
    for denied, named in (
        ("pricing:*", "prices in us-east-1: unknown"),
        ("ce:*", "unknown: spent"),
        ("budgets:*", "unknown: budgets"),
        ("savingsplans:*", "unknown: savings plans"),
        ("ec2:DescribeReservedInstances", "unknown: reservations in us-east-1"),
    ):
        aws.set(denied={"*": [denied]})
        assert f"{named}: the AWS credentials may not call" in golden(one_region)
        found = record(one_region)
        [row] = found["regions"][REGION]
        if denied == "pricing:*":
            assert row["snapshots_usd_month"] is row["idle_usd"] is None
        assert (found["spent"] is None) is (denied == "ce:*")


def test_money_of_another_currency_is_one_line(one_region: Checkout, aws: Emulator) -> None:
    budgets = boto3.client("budgets", REGION)
    for name, unit in (
        ("golden-cluster-a", "CNY"),
        ("golden-cluster-b", "USD"),
        ("somebody-elses", "USD"),
    ):
        budgets.create_budget(
            AccountId="123456789012",
            Budget={
                "BudgetName": name,
                "BudgetType": "COST",
                "TimeUnit": "MONTHLY",
                "BudgetLimit": {"Amount": "500", "Unit": unit},
            },
        )
    bill(aws, "CNY")
    said = golden(one_region)
    assert "golden-cluster-a: in CNY, so it is not compared with prices in US dollars\n" in said
    assert "budget golden-cluster-b: $0.00 of $500.00, $0.00 forecast\n" in said
    assert "somebody-elses" not in said
    assert "unknown: spent: this account is billed in CNY" in said and "300" not in said


def test_the_bill_of_months_is_held_to_as_many_before_and_no_look_replaces_another(
    checkout: Checkout, aws: Emulator, calendar: Calendar
) -> None:
    while clock.now().month != 7:
        calendar.days += 28
    year = clock.now().year
    for group, rows in (
        ({"Type": "DIMENSION", "Key": "LINKED_ACCOUNT"}, {"1": 60.0, "2": 30.5}),
        ({"Type": "TAG", "Key": "Owner"}, {"Owner$ann": 70.0, "Owner$": 20.5}),
    ):
        for months in (1, 3, 6):
            since = date(year, 7 - 2 * months, 1) if months < 4 else date(year - 1, 7, 1)
            aws.answer(
                "ce:GetCostAndUsage",
                asked={
                    "GroupBy": [group],
                    "Metrics": ["AmortizedCost"],
                    "TimePeriod": {"Start": str(since), "End": f"{year}-07-01"},
                },
                ResultsByTime=[
                    {
                        "TimePeriod": {"Start": f"{year}-0{month}-01", "End": "x"},
                        "Groups": [
                            {
                                "Keys": [name],
                                "Metrics": {
                                    "AmortizedCost": {"Amount": str(usd * month), "Unit": "USD"}
                                },
                            }
                            for name, usd in rows.items()
                        ],
                    }
                    for month in range(1, 7)
                    if date(year, month, 1) >= since
                ],
            )

    def review(by: str = "account,owner", months: int = 3) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            checkout.run("costs", "--by", by, "--months", str(months), "--json")
        )
        return found

    assert review()["parts"]["owner"] == [
        {
            "name": "ann",
            "months": {f"{year}-04": 280.0, f"{year}-05": 350.0, f"{year}-06": 420.0},
            "before": 420.0,
        },
        {
            "name": "",
            "months": {f"{year}-04": 82.0, f"{year}-05": 102.5, f"{year}-06": 123.0},
            "before": 123.0,
        },
    ]
    [row] = [row for row in review("owner", 1)["parts"]["owner"] if row["name"] == "ann"]
    assert (row["months"], row["before"]) == ({f"{year}-06": 420.0}, 350.0)
    assert review(months=6)["parts"]["account"][0]["before"] is None, (
        "no bill of half a year before"
    )
    site = checkout.root / "build/site"
    assert sorted(path.parent.name for path in site.glob("costs/*/review.json")) == [
        f"{year}-07-01-{name}" for name in ("1m-owner", "3m-account-owner", "6m-account-owner")
    ]

    def shown() -> str:
        checkout.run("status", "--site", "here")
        return (site / "index.html").read_text(encoding="utf-8")

    assert "so no change is shown" in shown()
    review()
    assert "+150 %" in shown(), "the one that was asked for last"
    assert not cost_review.path_of(site, By, 3).exists(), "still due"
    assert "(new)" not in checkout.run("costs", "--by", "owner", "--months", "6")


def test_what_no_review_takes(checkout: Checkout, aws: Emulator) -> None:
    said = checkout.run("costs", "--by", "account,team", code=2)
    assert "--by account,team: a bill is not parted by `team`" in said
    assert "they take no IMAGE" in checkout.run("costs", IMAGE, "--by", "account", code=2)
    assert "they take no IMAGE" in checkout.run("costs", IMAGE, "--months", "2", code=2)
    aws.set(answers=[])
    checkout.run("costs", "--by", "region")
    assert cost_review.path_of(checkout.root / "build/site", [By.REGION], 3).exists()


def test_its_policy_is_what_it_needs(one_region: Checkout, aws: Emulator) -> None:
    """With a machine that is idle, a reservation, and a template of a person's that pins a
    parameter."""
    one_region.publish(1)
    boto3.client("ec2", REGION).create_launch_template(
        LaunchTemplateName="mine",
        LaunchTemplateData={"ImageId": f"resolve:ssm:/golden-ami/{IMAGE}/latest:1"},
    )
    send_idle("ami-0123456789abcdef0", 1, 1.0)
    reservation(aws, "r", "2030-01-01T00:00:00Z")
    aws.set(allowed={"*": granted("costs")})
    before = len(aws.asked())
    assert "unknown" not in golden(one_region)
    asked = {action for actions in aws.asked()[before:] for action in actions}
    assert asked == set(granted("costs"))
