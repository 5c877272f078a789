"""Cost Explorer, savings plans and reservations, from `EmulatorSettings.billing`: moto knows no
money.

Shapes are those of https://docs.aws.amazon.com/aws-cost-management/latest/APIReference/.
"""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.responses._base_response import EC2BaseResponse

from ec2_emulator.errors import ApiError
from ec2_emulator.state import STATE, BilledLine

Data = dict[str, Any]
PAGE = 100
"""Groups of a page; the emulator's own, the reference names none."""


def _matches(line: BilledLine, expression: Data) -> bool:
    """A filter over tags: `Not`, and a key with values or ABSENT."""
    if "Not" in expression:
        return not _matches(line, expression["Not"])
    wanted = expression["Tags"]
    if "ABSENT" in wanted.get("MatchOptions", ()):
        return wanted["Key"] not in line.tags
    return line.tags.get(wanted["Key"]) in wanted["Values"]


def _key(line: BilledLine, group: Data) -> str:
    if group["Type"] == "TAG":
        return f"{group['Key']}${line.tags.get(group['Key'], '')}"
    return line.usage_type


def get_cost_and_usage(asked: Data) -> Data:
    """Costs come by at most two groups, in pages; the end of the time has to be after its start."""
    period, groups = asked["TimePeriod"], asked.get("GroupBy", [])
    if len(groups) > 2 or period["End"] <= period["Start"]:
        raise ApiError("ValidationException",
                       "Start date (and hour) should be before end date (and hour)"
                       if len(groups) <= 2 else "Maximum number of GroupBy is 2")
    found: dict[tuple[str, ...], float] = defaultdict(float)
    for line in STATE.settings.billing.lines:
        if "Filter" not in asked or _matches(line, asked["Filter"]):
            found[tuple(_key(line, group) for group in groups)] += line.amount
    start = int(asked.get("NextPageToken", 0))
    most = min(PAGE, STATE.settings.page_most)
    shown = [{"Keys": list(keys), "Metrics": {"UnblendedCost": {
        "Amount": f"{amount:.10f}", "Unit": STATE.settings.billing.currency}}}
        for keys, amount in sorted(found.items())[start:start + most]]
    more = {"NextPageToken": str(start + most)} if start + most < len(found) else {}
    return {"GroupDefinitions": groups, **more, "ResultsByTime": [
        {"TimePeriod": period, "Total": {}, "Groups": shown, "Estimated": True}]}


def _require(kind: bool) -> float:
    """Percent of the reservations (`kind`) or savings plans that are used."""
    if not any(bool(each.type) is kind for each in STATE.settings.billing.reserved):
        raise ApiError("DataUnavailableException", "The requested data is unavailable")
    return STATE.settings.billing.used


def get_reservation_utilization(_asked: Data) -> Data:
    """The use of reservations is unavailable where there are none."""
    return {"UtilizationsByTime": [], "Total": {"UtilizationPercentage": str(_require(True))}}


def get_savings_plans_utilization(_asked: Data) -> Data:
    """The use of savings plans is unavailable where there are none."""
    return {"SavingsPlansUtilizationsByTime": [],
            "Total": {"Utilization": {"UtilizationPercentage": str(_require(False))}}}


def get_reservation_purchase_recommendation(asked: Data) -> Data:
    """What to reserve is advised for a service, by the offering class that is asked for."""
    money = STATE.settings.billing
    details = [{
        "InstanceDetails": {"EC2InstanceDetails": {"InstanceType": what, "Region": "us-east-1"}},
        "RecommendedNumberOfInstancesToPurchase": "1", "EstimatedMonthlySavingsAmount": f"{saves}",
        "CurrencyCode": money.currency} for what, saves in sorted(money.advised.items())
               if "." in what]
    return {"Recommendations": [{**{name: asked[name] for name in ("TermInYears", "PaymentOption")},
                                 "ServiceSpecification": asked["ServiceSpecification"],
                                 "RecommendationDetails": details}] if details else []}


def get_savings_plans_purchase_recommendation(asked: Data) -> Data:
    """What plan to buy is advised as dollars an hour; without an advice there is no summary."""
    saves = next((saves for what, saves in STATE.settings.billing.advised.items()
                  if "." not in what), None)
    summary = {} if saves is None else {"SavingsPlansPurchaseRecommendationSummary": {
        "HourlyCommitmentToPurchase": "1.5", "CurrencyCode": STATE.settings.billing.currency,
        "EstimatedMonthlySavingsAmount": f"{saves}"}}
    return {"SavingsPlansPurchaseRecommendation": {"SavingsPlansType": asked["SavingsPlansType"],
                                                   **summary}}


def describe_savings_plans(_asked: Data) -> Data:
    """Every savings plan; their times are text."""
    return {"savingsPlans": [{
        "savingsPlanId": each.id, "savingsPlanType": "Compute", "state": "active", "end": each.end,
        "commitment": f"{each.hourly}", "currency": STATE.settings.billing.currency,
        "region": each.region,
    } for each in STATE.settings.billing.reserved if not each.type]}


HANDLERS: dict[str, Callable[[Data], Data]] = {
    "ce:GetCostAndUsage": get_cost_and_usage,
    "ce:GetReservationUtilization": get_reservation_utilization,
    "ce:GetSavingsPlansUtilization": get_savings_plans_utilization,
    "ce:GetReservationPurchaseRecommendation": get_reservation_purchase_recommendation,
    "ce:GetSavingsPlansPurchaseRecommendation": get_savings_plans_purchase_recommendation,
    "savingsplans:DescribeSavingsPlans": describe_savings_plans}
"""The calls that are answered here, by name."""


class ReservationApi(EC2BaseResponse):
    """The handler of EC2's own call."""

    def describe_reserved_instances(self) -> ActionResult:
        """Reservations are a region's."""
        return ActionResult({"ReservedInstances": [{
            "ReservedInstancesId": each.id, "InstanceType": each.type, "InstanceCount": 1,
            "State": "active",
            "End": datetime.datetime.fromisoformat(each.end), "OfferingClass": "convertible",
        } for each in STATE.settings.billing.reserved if each.region == self.region and each.type]})
