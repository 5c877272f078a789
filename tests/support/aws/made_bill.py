"""A bill that was made up line by line, and the answers of Cost Explorer to questions about it."""

from __future__ import annotations

import calendar
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from support.aws.emulator import Emulator

ON_DEMAND, RESERVED, PLAN = "on demand", "reserved", "plan"
RUNNING = "EC2: Running Hours"
RAN = ["Usage", "DiscountedUsage", "SavingsPlanCoveredUsage"]
HOURS_ALONE = {
    "And": [
        {"Dimensions": {"Key": "USAGE_TYPE_GROUP", "Values": [RUNNING]}},
        {
            "Dimensions": {
                "Key": "RECORD_TYPE",
                "Values": RAN,
            }
        },
    ]
}
"""Cost Explorer's filter for hours in which machines ran."""


@dataclass(frozen=True)
class Line:
    """A line of the bill, with the fields by which Cost Explorer groups and filters."""

    day: date
    usd: float
    hours: float
    record_type: str
    owner: str
    instance_type: str
    account: str
    group: str = RUNNING


@dataclass(frozen=True)
class Machine:
    """What ran from the first day of a month for so many days, how it was paid, and by whom."""

    month: date
    days: int
    instance_type: str
    owner: str = ""
    paid: str = ON_DEMAND
    account: str = "111111111111"
    usd_hour: float = 1.0


class MadeBill:
    """All lines of the machines, and lines that are no hours of machines: each month a fee on its
    1st, credits, refunds and taxes."""

    def __init__(self, machines: list[Machine]) -> None:
        self.lines = list[Line]()
        for machine in machines:
            self._run(machine)
        for month in sorted({machine.month for machine in machines}):
            self._add(Machine(month, 1, "NoInstanceType"), "Fee", 1, 500.0, 1.0, "Support")
            self._add(Machine(month, 1, "NoInstanceType"), "Tax", 1, 77.0, 0.0, "")

    def _run(self, machine: Machine) -> None:
        kind = {ON_DEMAND: "Usage", RESERVED: "DiscountedUsage", PLAN: "SavingsPlanCoveredUsage"}
        for day in range(1, machine.days + 1):
            self._add(machine, kind[machine.paid], day, 24 * machine.usd_hour, 24.0)
            if machine.paid == PLAN:
                self._add(machine, "SavingsPlanNegation", day, 0.0, 24.0)
        length = calendar.monthrange(machine.month.year, machine.month.month)[1]
        if machine.paid == RESERVED:
            self._add(machine, "RIFee", 1, 0.0, 24.0 * length)
        self._add(machine, "Credit", 1, -3.0, 24.0)
        self._add(machine, "Refund", 2, -5.0, -24.0)

    def _add(
        self,
        machine: Machine,
        record_type: str,
        day: int,
        usd: float,
        hours: float,
        group: str = RUNNING,
    ) -> None:
        self.lines.append(
            Line(
                machine.month.replace(day=day),
                usd,
                hours,
                record_type,
                machine.owner,
                machine.instance_type,
                machine.account,
                group,
            )
        )

    def tell(self, aws: Emulator, since: date, until: date) -> None:
        """Let Cost Explorer answer the questions about GPU-hours, accounts and owners."""
        owner, account = {"Type": "TAG", "Key": "Owner"}, "LINKED_ACCOUNT"
        machine = {"Type": "DIMENSION", "Key": "INSTANCE_TYPE"}
        hours = defaultdict[tuple[date, str, str], float](float)
        for line in self.lines:
            if line.group == RUNNING and line.record_type in RAN:
                key = line.day.replace(day=1), f"Owner${line.owner}", line.instance_type
                hours[key] += line.hours
        asked: dict[str, Any] = {
            "Metrics": ["UsageQuantity"],
            "GroupBy": [owner, machine],
            "Filter": HOURS_ALONE,
        }
        self._answer(aws, (since, until), asked, hours)
        for group in (owner, {"Type": "DIMENSION", "Key": account}):
            usd = defaultdict[tuple[date, str], float](float)
            for line in self.lines:
                name = line.account if group["Key"] == account else f"Owner${line.owner}"
                usd[line.day.replace(day=1), name] += line.usd
            asked = {"Metrics": ["AmortizedCost"], "GroupBy": [group]}
            self._answer(aws, (since, until), asked, usd)

    def _answer(
        self,
        aws: Emulator,
        period: tuple[date, date],
        asked: dict[str, Any],
        amounts: Mapping[tuple[Any, ...], float],
    ) -> None:
        months, (since, until) = list[date](), period
        while since < until:
            months.append(since)
            since = date(since.year + since.month // 12, since.month % 12 + 1, 1)
        [metric] = asked["Metrics"]
        unit = "USD" if metric == "AmortizedCost" else "Hrs"
        aws.answer(
            "ce:GetCostAndUsage",
            asked=asked | {"TimePeriod": {"Start": str(period[0]), "End": str(until)}},
            ResultsByTime=[
                {
                    "TimePeriod": {"Start": str(month), "End": "x"},
                    "Groups": [
                        {"Keys": keys, "Metrics": {metric: {"Amount": str(amount), "Unit": unit}}}
                        for (of_month, *keys), amount in amounts.items()
                        if of_month == month
                    ],
                }
                for month in months
            ],
        )
