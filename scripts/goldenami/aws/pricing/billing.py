"""What AWS says was spent, is committed, planned and advised: Cost Explorer, savings plans,
reservations, budgets.

Cost Explorer and budgets answer in us-east-1. A request to Cost Explorer costs a cent
(https://aws.amazon.com/aws-cost-management/aws-cost-explorer/pricing/), so nothing is asked twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, datetime
from typing import Any

from goldenami.aws.calls import pages, tolerate
from goldenami.aws.session import Account, Client
from goldenami.core import clock
from goldenami.core.errors import BadInput
from goldenami.core.records import Record
from goldenami.model.builds.build_records import Utc

HOME = "us-east-1"
DOLLARS = "USD"
_NO_DATA = "DataUnavailableException"
"""Cost Explorer's word for an account that it has nothing of."""
_TERMS = {"TermInYears": "ONE_YEAR", "PaymentOption": "NO_UPFRONT",
          "LookbackPeriodInDays": "SIXTY_DAYS"}


class Commitment(Record):
    """A reservation or savings plan that is active; `what` says for what, `region` is empty for all
    of them."""

    kind: str
    id: str
    what: str
    region: str
    ends: Utc


class PurchaseAdvice(Record):
    """What AWS's recommender would buy for a year without upfront payment, and the US dollars that
    it saves a month."""

    kind: str
    what: str
    saves_usd_month: float


class BudgetState(Record):
    """A budget of a cluster this month, in its own currency (`unit`). `forecast` is None until AWS
    has one."""

    name: str
    limit: float
    spent: float
    forecast: float | None
    unit: str


def spent(account: Account, tag: str, since: date, until: date) -> dict[tuple[str, str], float]:
    """US dollars of what carries the tag, by its value and the usage type, from one day up to
    before another.

    BadInput where the account is billed in another currency.
    """
    request: dict[str, Any] = {
        "TimePeriod": {"Start": since.isoformat(), "End": until.isoformat()},
        "Granularity": "MONTHLY",
        "Metrics": ["UnblendedCost"],
        "GroupBy": [{"Type": "TAG", "Key": tag}, {"Type": "DIMENSION", "Key": "USAGE_TYPE"}],
        "Filter": {"Not": {"Tags": {"Key": tag, "MatchOptions": ["ABSENT"]}}}}
    found: dict[tuple[str, str], float] = {}
    explorer = account.client("ce", HOME)
    while True:  # botocore has no pages for it
        answer = explorer.get_cost_and_usage(**request)
        for group in (group for period in answer["ResultsByTime"] for group in period["Groups"]):
            value, usage = group["Keys"]
            cost = group["Metrics"]["UnblendedCost"]
            _require_dollars(cost["Unit"])
            key = value.partition("$")[2], usage
            found[key] = found.get(key, 0.0) + float(cost["Amount"])
        if not answer.get("NextPageToken"):
            return found
        request["NextPageToken"] = answer["NextPageToken"]


def _require_dollars(unit: str) -> None:
    if unit != DOLLARS:
        raise BadInput(f"this account is billed in {unit}, and prices are compared in US dollars",
                       hint="read its costs in the console")


def reservations(ec2: Client) -> Iterator[Commitment]:
    """The active reservations of instances in the client's region."""
    answer = ec2.describe_reserved_instances(Filters=[{"Name": "state", "Values": ["active"]}])
    for row in answer["ReservedInstances"]:
        yield Commitment(
            kind="reservation", id=row["ReservedInstancesId"], region=ec2.meta.region_name,
            ends=clock.stamp(row["End"]),
            what=f"{row['InstanceCount']} x {row['InstanceType']}, {row['OfferingClass']}")


def savings_plans(account: Account) -> Iterator[Commitment]:
    """The active savings plans of the account."""
    plans, token = account.client("savingsplans", HOME), ""
    while True:
        answer = plans.describe_savings_plans(states=["active"],
                                              **({"nextToken": token} if token else {}))
        for row in answer["savingsPlans"]:
            yield Commitment(
                kind="savings plan", id=row["savingsPlanId"], region=row.get("region", ""),
                ends=clock.stamp(datetime.fromisoformat(row["end"])),
                what=f"{row['savingsPlanType']}, {row['commitment']} {row['currency']} an hour")
        token = answer.get("nextToken", "")
        if not token:
            return


def utilization(account: Account, since: date, until: date) -> dict[str, float]:
    """Percent of reservations and of savings plans that were used in that time, by
    `Commitment.kind`; nothing for what the account has not.
    """
    explorer, found = account.client("ce", HOME), dict[str, float]()
    period = {"Start": since.isoformat(), "End": until.isoformat()}
    with tolerate(_NO_DATA):
        total = explorer.get_reservation_utilization(TimePeriod=period)["Total"]
        found["reservation"] = float(total["UtilizationPercentage"])
    with tolerate(_NO_DATA):
        total = explorer.get_savings_plans_utilization(TimePeriod=period)["Total"]
        found["savings plan"] = float(total["Utilization"]["UtilizationPercentage"])
    return found


def advice(account: Account) -> Iterator[PurchaseAdvice]:
    """What AWS would buy by the last 60 days: convertible reservations, and a savings plan for any
    machine."""
    explorer = account.client("ce", HOME)
    with tolerate(_NO_DATA):
        answer = explorer.get_reservation_purchase_recommendation(
            Service="Amazon Elastic Compute Cloud - Compute",
            ServiceSpecification={"EC2Specification": {"OfferingClass": "CONVERTIBLE"}}, **_TERMS)
        for row in (row for each in answer["Recommendations"]
                    for row in each["RecommendationDetails"]):
            _require_dollars(row["CurrencyCode"])
            machine: Mapping[str, str] = row["InstanceDetails"]["EC2InstanceDetails"]
            count = float(row["RecommendedNumberOfInstancesToPurchase"])
            yield PurchaseAdvice(
                kind="reservation",
                what=f"{count:g} x {machine['InstanceType']} in {machine['Region']}",
                saves_usd_month=float(row["EstimatedMonthlySavingsAmount"]))
    with tolerate(_NO_DATA):
        plan = explorer.get_savings_plans_purchase_recommendation(
            SavingsPlansType="COMPUTE_SP", **_TERMS
        )
        if summary := plan["SavingsPlansPurchaseRecommendation"].get(
            "SavingsPlansPurchaseRecommendationSummary"
        ):
            _require_dollars(summary["CurrencyCode"])
            yield PurchaseAdvice(
                kind="savings plan",
                what=f"${float(summary['HourlyCommitmentToPurchase']):.3f} an hour",
                saves_usd_month=float(summary["EstimatedMonthlySavingsAmount"]))


def budgets(account: Account, prefix: str) -> Iterator[BudgetState]:
    """The account's budgets whose name begins so."""
    client = account.client("budgets", HOME)
    for row in pages(client, "describe_budgets", "Budgets", AccountId=account.number(HOME)):
        if row["BudgetName"].startswith(prefix) and "BudgetLimit" in row:
            forecast = row["CalculatedSpend"].get("ForecastedSpend")
            yield BudgetState(
                name=row["BudgetName"], limit=float(row["BudgetLimit"]["Amount"]),
                unit=row["BudgetLimit"]["Unit"],
                spent=float(row["CalculatedSpend"]["ActualSpend"]["Amount"]),
                forecast=float(forecast["Amount"]) if forecast else None)
