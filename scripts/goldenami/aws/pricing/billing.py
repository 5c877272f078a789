"""Spending, commitments, budgets and purchase advice, as AWS reports them.

Cost Explorer and Budgets are served from us-east-1. A request to Cost Explorer costs a cent
(https://aws.amazon.com/aws-cost-management/aws-cost-explorer/pricing/), so none is made twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta
from typing import Any

from goldenami.aws.calls import pages, tolerate
from goldenami.aws.session import Account, Client
from goldenami.core import clock
from goldenami.core.errors import BadInput
from goldenami.core.records import Record
from goldenami.model.builds.build_records import Utc

HOME = "us-east-1"
DOLLARS = "USD"
_METRIC = "AmortizedCost"
"""The metric that spreads the fees of reservations and savings plans over the days that they are
for, instead of the day of the bill (Cost Explorer's user guide, "Understanding your costs")."""
_QUANTITY = "UsageQuantity"
_RAN = ["Usage", "DiscountedUsage", "SavingsPlanCoveredUsage"]
_MACHINE_HOURS = {
    "And": [
        {"Dimensions": {"Key": "USAGE_TYPE_GROUP", "Values": ["EC2: Running Hours"]}},
        {"Dimensions": {"Key": "RECORD_TYPE", "Values": _RAN}},
    ]
}
"""Hours in which machines ran: on demand, as Spot, by reservations, by savings plans. Fees, credits
and refunds have hours, too, which were counted already or never run."""
_NO_DATA = "DataUnavailableException"
"""Cost Explorer's error code for an account of which it has no data."""
_TERMS = {
    "TermInYears": "ONE_YEAR",
    "PaymentOption": "NO_UPFRONT",
    "LookbackPeriodInDays": "SIXTY_DAYS",
}


class Commitment(Record):
    """An active reservation or savings plan. `what` describes it; `region` is "" if it covers all
    regions."""

    kind: str
    id: str
    what: str
    region: str
    begins: Utc
    ends: Utc


class CommitmentUse(Record):
    """The percentage that was used of all commitments of a kind, and the US dollars that they saved
    against prices on demand: less than 0 if they cost more, None if AWS does not say it."""

    percent: float
    saved_usd: float | None


class CostAnomaly(Record):
    """Unusual costs that AWS found: US dollars above the expected since the day `begins`."""

    id: str
    begins: str
    usd: float
    cause: str


class PurchaseAdvice(Record):
    """A purchase that AWS advises, for a year without upfront payment, and the US dollars that it
    would save a month."""

    kind: str
    what: str
    saves_usd_month: float


class BudgetState(Record):
    """A budget this month, in its own currency (`unit`). `forecast` is None until AWS has
    one."""

    name: str
    limit: float
    spent: float
    forecast: float | None
    unit: str


def spent(account: Account, tag: str, since: date, until: date) -> dict[tuple[str, str], float]:
    """US dollars spent on resources with the tag, by its value and the usage type, from `since` to
    the day before `until`. Raises BadInput if the account is billed in another currency."""
    costs: dict[tuple[str, str], float] = {}
    has_tag = {"Not": {"Tags": {"Key": tag, "MatchOptions": ["ABSENT"]}}}
    period = _period(since, until)
    for _, value, usage, usd in _by_tag(account, tag, "USAGE_TYPE", period, Filter=has_tag):
        costs[value, usage] = costs.get((value, usage), 0.0) + usd
    return costs


def machine_hours(
    account: Account, tag: str, since: date, until: date
) -> list[tuple[date, str, str, float]]:
    """Each month's first day, the tag's value ("" without it), the instance type, and its hours."""
    more = {"metric": _QUANTITY, "Filter": _MACHINE_HOURS}
    return [*_by_tag(account, tag, "INSTANCE_TYPE", _period(since, until), **more)]


def daily(account: Account, since: date, until: date) -> dict[date, dict[str, float]]:
    """US dollars by day and service. Days without costs are in it, too."""
    days = (until - since).days
    costs: dict[date, dict[str, float]] = {since + timedelta(days=day): {} for day in range(days)}
    for day, (service,), usd in _billed(
        account, _period(since, until), "DAILY", {"Type": "DIMENSION", "Key": "SERVICE"}
    ):
        costs[day][service] = costs[day].get(service, 0.0) + usd
    return costs


def monthly(
    account: Account, group: Mapping[str, str], since: date, until: date
) -> dict[str, dict[date, float]]:
    """US dollars by the value of a tag or dimension ("" for costs without one), and by the first
    day of the month."""
    costs: dict[str, dict[date, float]] = {}
    for month, (value,), usd in _billed(account, _period(since, until), "MONTHLY", group):
        # Cost Explorer gives a tag's value as `key$value`.
        name = value.partition("$")[2] if group["Type"] == "TAG" else value
        row = costs.setdefault(name, {})
        row[month] = row.get(month, 0.0) + usd
    return costs


def _by_tag(
    account: Account, tag: str, dimension: str, period: Mapping[str, str], **more: Any
) -> Iterator[tuple[date, str, str, float]]:
    groups = {"Type": "TAG", "Key": tag}, {"Type": "DIMENSION", "Key": dimension}
    for month, (value, name), amount in _billed(account, period, "MONTHLY", *groups, **more):
        yield month, value.partition("$")[2], name, amount


def _billed(
    account: Account,
    period: Mapping[str, str],
    granularity: str,
    *groups: Mapping[str, str],
    metric: str = _METRIC,
    **more: Any,
) -> Iterator[tuple[date, list[str], float]]:
    """Yield the first day, the keys and the US dollars, or the quantity, of each group of Cost
    Explorer."""
    request: dict[str, Any] = {
        "TimePeriod": period,
        "Granularity": granularity,
        "Metrics": [metric],
        "GroupBy": list(groups),
        **more,
    }
    for result in _paged(account, "get_cost_and_usage", "ResultsByTime", request):
        for group in result["Groups"]:
            amount = group["Metrics"][metric]
            if metric == _METRIC:
                _require_dollars(amount["Unit"])
            yield (
                date.fromisoformat(result["TimePeriod"]["Start"]),
                group["Keys"],
                float(amount["Amount"]),
            )


def _paged(account: Account, call: str, key: str, request: dict[str, Any]) -> Iterator[Any]:
    """Yield the items below `key` from every page of a call to Cost Explorer."""
    # By hand, as botocore has no paginator for GetCostAndUsage.
    ask, token = getattr(account.client("ce", HOME), call), dict[str, str]()
    while True:
        answer = ask(**request, **token)
        yield from answer[key]
        token = {"NextPageToken": answer.get("NextPageToken")}
        if not token["NextPageToken"]:
            return


def _period(since: date, until: date) -> dict[str, str]:
    return {"Start": since.isoformat(), "End": until.isoformat()}


def _require_dollars(unit: str) -> None:
    if unit != DOLLARS:
        raise BadInput(
            f"this account is billed in {unit}, and prices are compared in US dollars",
            hint="read its costs in the console",
        )


def reservations(ec2: Client) -> Iterator[Commitment]:
    """Yield the active reservations of instances in the client's region."""
    answer = ec2.describe_reserved_instances(Filters=[{"Name": "state", "Values": ["active"]}])
    for row in answer["ReservedInstances"]:
        yield Commitment(
            kind="reservation",
            id=row["ReservedInstancesId"],
            region=ec2.meta.region_name,
            begins=clock.stamp(row["Start"]),
            ends=clock.stamp(row["End"]),
            what=f"{row['InstanceCount']} x {row['InstanceType']}, {row['OfferingClass']}, for "
            f"{row.get('AvailabilityZone') or ec2.meta.region_name} alone",
        )


def savings_plans(account: Account) -> Iterator[Commitment]:
    """Yield the account's active savings plans."""
    # By hand, as botocore has no paginators for Savings Plans.
    plans, token = account.client("savingsplans", HOME), dict[str, str]()
    while True:
        answer = plans.describe_savings_plans(states=["active"], **token)
        for row in answer["savingsPlans"]:
            yield Commitment(
                kind="savings plan",
                id=row["savingsPlanId"],
                region=row.get("region", ""),
                begins=clock.stamp(datetime.fromisoformat(row["start"])),
                ends=clock.stamp(datetime.fromisoformat(row["end"])),
                what=f"{row['savingsPlanType']}, {row['commitment']} {row['currency']} an hour",
            )
        token = {"nextToken": answer.get("nextToken", "")}
        if not token["nextToken"]:
            return


def utilization(account: Account, since: date, until: date) -> dict[str, CommitmentUse]:
    """The use of reservations and of savings plans in that time, by `Commitment.kind`. Kinds that
    the account does not have are left out."""
    explorer, uses = account.client("ce", HOME), dict[str, CommitmentUse]()
    period = _period(since, until)
    # An account without reservations, or without savings plans, has no data of them.
    with tolerate(_NO_DATA):
        total = explorer.get_reservation_utilization(TimePeriod=period)["Total"]
        uses["reservation"] = _use(total, total.get("NetRISavings"))
    with tolerate(_NO_DATA):
        total = explorer.get_savings_plans_utilization(TimePeriod=period)["Total"]
        saved = total.get("Savings", {}).get("NetSavings")
        uses["savings plan"] = _use(total["Utilization"], saved)
    return uses


def _use(row: Mapping[str, str], saved: str | None) -> CommitmentUse:
    return CommitmentUse(
        percent=float(row["UtilizationPercentage"]),
        saved_usd=None if saved is None else float(saved),
    )


def coverage(account: Account, since: date, until: date) -> dict[str, float]:
    """The percentage of instance hours that reservations covered, and of dollars that savings plans
    covered, keyed as in `utilization`."""
    explorer, percentages = account.client("ce", HOME), dict[str, float]()
    period = _period(since, until)
    with tolerate(_NO_DATA):
        total = explorer.get_reservation_coverage(TimePeriod=period)["Total"]
        percentages["reservation"] = float(total["CoverageHours"]["CoverageHoursPercentage"])
    with tolerate(_NO_DATA):
        answer = explorer.get_savings_plans_coverage(TimePeriod=period)
        rows = [row["Coverage"] for row in answer["SavingsPlansCoverages"]]
        covered = sum(float(row["SpendCoveredBySavingsPlans"]) for row in rows)
        total = sum(float(row["TotalCost"]) for row in rows)
        if total:
            percentages["savings plan"] = 100 * covered / total
    return percentages


def anomalies(account: Account, since: date, until: date) -> Iterator[CostAnomaly]:
    """Yield the anomalies that AWS's own monitors found; none if the account has no monitor."""
    request = {"DateInterval": {"StartDate": since.isoformat(), "EndDate": until.isoformat()}}
    with tolerate(_NO_DATA):
        for row in _paged(account, "get_anomalies", "Anomalies", request):
            causes = []
            for cause in row.get("RootCauses", []):
                parts = (cause.get("Service"), cause.get("Region"), cause.get("UsageType"))
                causes.append(", ".join(filter(None, parts)))
            yield CostAnomaly(
                id=row["AnomalyId"],
                begins=row["AnomalyStartDate"][:10],
                usd=float(row["Impact"]["TotalImpact"]),
                cause="; ".join(filter(None, causes)) or "no cause is named",
            )


def advice(account: Account) -> Iterator[PurchaseAdvice]:
    """Yield AWS's purchase advice by the last 60 days: convertible reservations, and a savings plan
    for any machine."""
    explorer = account.client("ce", HOME)
    with tolerate(_NO_DATA):
        answer = explorer.get_reservation_purchase_recommendation(
            Service="Amazon Elastic Compute Cloud - Compute",
            ServiceSpecification={"EC2Specification": {"OfferingClass": "CONVERTIBLE"}},
            **_TERMS,
        )
        rows = list[Any]()
        for recommendation in answer["Recommendations"]:
            rows += recommendation["RecommendationDetails"]
        for row in rows:
            _require_dollars(row["CurrencyCode"])
            machine: Mapping[str, str] = row["InstanceDetails"]["EC2InstanceDetails"]
            count = float(row["RecommendedNumberOfInstancesToPurchase"])
            yield PurchaseAdvice(
                kind="reservation",
                what=f"{count:g} x {machine['InstanceType']} in {machine['Region']}",
                saves_usd_month=float(row["EstimatedMonthlySavingsAmount"]),
            )
    with tolerate(_NO_DATA):
        plan = explorer.get_savings_plans_purchase_recommendation(
            SavingsPlansType="COMPUTE_SP", **_TERMS
        )
        found = plan.get("SavingsPlansPurchaseRecommendation", {})
        if summary := found.get("SavingsPlansPurchaseRecommendationSummary"):
            _require_dollars(summary["CurrencyCode"])
            yield PurchaseAdvice(
                kind="savings plan",
                what=f"${float(summary['HourlyCommitmentToPurchase']):.3f} an hour",
                saves_usd_month=float(summary["EstimatedMonthlySavingsAmount"]),
            )


def refuse_spent(account: Account, usd: str) -> None:
    """Raise BadInput if the account, with those that are linked to it, has spent more this month
    than a budget of `usd` US dollars. A new account has no bill yet."""
    today, spent_usd = clock.now().date(), 0.0
    with tolerate(_NO_DATA):
        days = daily(account, today.replace(day=1), today + timedelta(days=1))
        spent_usd = sum(sum(services.values()) for services in days.values())
    if spent_usd > float(usd):
        raise BadInput(
            f"MonthlyBudget={usd} is less than the ${spent_usd:,.2f} of this month so far",
            hint="take a larger budget, or wait for the 1st",
        )


def budgets(account: Account, prefixes: tuple[str, ...]) -> Iterator[BudgetState]:
    """Yield the account's budgets whose name begins with one of `prefixes`."""
    client = account.client("budgets", HOME)
    for row in pages(client, "describe_budgets", "Budgets", AccountId=account.number(account.home)):
        if row["BudgetName"].startswith(prefixes) and "BudgetLimit" in row:
            forecast = row["CalculatedSpend"].get("ForecastedSpend")
            yield BudgetState(
                name=row["BudgetName"],
                limit=float(row["BudgetLimit"]["Amount"]),
                unit=row["BudgetLimit"]["Unit"],
                spent=float(row["CalculatedSpend"]["ActualSpend"]["Amount"]),
                forecast=float(forecast["Amount"]) if forecast else None,
            )
