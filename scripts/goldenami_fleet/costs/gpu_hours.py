"""GPU-hours by owner and month: those of the bill, and their use by golden_idle's metrics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from functools import partial
from typing import Any

from goldenami.aws import tags
from goldenami.aws.calls import pages
from goldenami.aws.inventory.inventory import NOT_TERMINATED
from goldenami.aws.pricing import billing
from goldenami.aws.regions import in_parallel
from goldenami.aws.services import metrics
from goldenami.aws.services.metrics import MetricQuery
from goldenami.aws.session import Account, translated
from goldenami.core import clock, units
from goldenami.core.records import Record
from goldenami.core.terminal import columns
from goldenami.model.supported.hardware import Family

from goldenami_fleet.costs import cost_review

YEAR = 12
"""Months: Cost Explorer and CloudWatch keep one more."""
ALL, GONE = "(all)", "(gone)"
"""All owners; the owner of a machine that has ended, whose tag nobody can read any more."""
_COLUMNS = ("owner", "month", "paid", "measured", "used", "of measured")
_BILL, _PAID, _MEASURED, _USED = "paid GPU-hours", "paid", "SampleCount", "Sum"
_H_OF_SAMPLE = metrics.SAMPLE_S / metrics.HOUR_S

_Hours = tuple[str, str, str, float]
"""Month, owner, hours, and what they are: paid, or a statistic of the metric."""


class GpuMonth(Record):
    """One owner's GPU-hours in a month. `paid` is None if the bill is unknown. `measured` are those
    with metrics, `used` these times the use of the GPU."""

    owner: str
    month: str
    paid: float | None
    measured: float
    used: float

    @property
    def cells(self) -> tuple[str, ...]:
        """The month as the row of a table."""
        paid, measured, used = map(_text, (self.paid, self.measured, self.used))
        share = units.percent(self.used, self.measured) or "unknown"
        return (self.owner or "none", self.month, paid, measured, used, share)


class GpuHours(Record):
    """The GPU-hours, the latest month first. `unknown` has what is not in them, and why."""

    rows: list[GpuMonth]
    unknown: dict[str, str]

    def lines(self) -> Iterator[str]:
        """Lines for a terminal."""
        yield from columns.aligned([_COLUMNS, *(row.cells for row in self.rows)])
        for what, why in self.unknown.items():
            yield f"unknown: {what}: {why}"

    def totals(self, months: int) -> Iterator[str]:
        """A line for each of the latest months."""
        for row in [row for row in self.rows if row.owner == ALL][:months]:
            _, month, paid, measured, used, _ = row.cells
            yield f"GPU-hours of {month}: {paid} paid, {measured} measured, {used} used"


def _text(hours: float | None) -> str:
    return "unknown" if hours is None else f"{hours:,.1f}"


def read(
    account: Account, families: Mapping[str, Family], regions: Collection[str], months: int
) -> GpuHours:
    """Return the GPU-hours of this month and of those before, `months` in all. Metrics are read in
    `regions`; GPUs are counted by `families`."""
    until = clock.now().date() + timedelta(days=1)
    since = cost_review.months_before(clock.now().date(), months - 1)
    questions: dict[str, Callable[[], Any]] = {
        region: partial(_measured, account, region, since, until) for region in regions
    }
    questions[_BILL] = partial(billing.machine_hours, account, tags.PERSON, since, until)
    answers = in_parallel(questions)
    bill, unknown = answers.done.pop(_BILL, None), dict(answers.causes)
    all_hours: list[_Hours] = [hours for found in answers.done.values() for hours in found]
    for month, owner, instance_type, hours in bill or []:
        if (gpus := _gpus(families, instance_type)) is None:
            unknown[instance_type] = "not counted, as its number of whole GPUs is not known"
        elif gpus:
            all_hours.append((f"{month:%Y-%m}", owner, _PAID, gpus * hours))
    sums = defaultdict[tuple[str, str], dict[str, float]](lambda: defaultdict(float))
    for month, owner, kind, hours in all_hours:
        for name in (owner, ALL):
            sums[month, name][kind] += hours
    rows = [
        GpuMonth(
            owner=owner,
            month=month,
            paid=None if bill is None else kinds[_PAID],
            measured=kinds[_MEASURED],
            used=kinds[_USED] / 100,
        )
        for (month, owner), kinds in sorted(sums.items(), key=lambda item: item[0][1])
    ]
    # Stable: a month's owners stay sorted.
    rows.sort(key=lambda row: row.month, reverse=True)
    return GpuHours(rows=rows, unknown=unknown)


def _gpus(families: Mapping[str, Family], instance_type: str) -> int | None:
    """Return the number of a type's GPUs, or None if it has some, or parts of one, of an unknown
    number."""
    name, _, size = instance_type.partition(".")
    if name not in families:
        # EC2's families with GPUs are called g or p and a generation.
        return None if name[:1] in ("g", "p") else 0
    counts = set(families[name].gpus_of(size)) if families[name].gpu else {0}
    return counts.pop() if len(counts) == 1 else None


def _measured(account: Account, region: str, since: date, until: date) -> list[_Hours]:
    found, cloudwatch = list[_Hours](), account.client("cloudwatch", region)
    begin, end = (datetime.combine(day, time(), clock.now().tzinfo) for day in (since, until))
    with translated(region):
        owners = _owners(account, region)
        for statistic in (_MEASURED, _USED):
            query = MetricQuery(metrics.GPU_PERCENT, statistic, begin, end, metrics.DAY_S)
            for dimensions, values in metrics.values(cloudwatch, query):
                # A group's machines are in the group's own metric, which outlives them. Other
                # agents' sums by type or image have neither.
                keys = [key for key in (metrics.GROUP, metrics.INSTANCE) if key in dimensions]
                if len(keys) == 1:
                    name = dimensions[keys[0]]
                    found += [
                        (f"{day:%Y-%m}", owners.get(name, GONE), statistic, value * _H_OF_SAMPLE)
                        for day, value in values.items()
                    ]
    return found


def _owners(account: Account, region: str) -> dict[str, str]:
    """Return the tag `Owner` of machines and groups. A group has the owners of its machines, or its
    own tag where none runs."""
    owners, by_group = dict[str, str](), defaultdict[str, set[str]](set)
    ec2, autoscaling = account.ec2(region), account.client("autoscaling", region)
    for reservation in pages(ec2, "describe_instances", "Reservations", Filters=NOT_TERMINATED):
        for row in reservation["Instances"]:
            own_tags = tags.from_list(row.get("Tags"))
            owners[row["InstanceId"]] = own_tags.get(tags.PERSON, "")
            by_group[own_tags.get("aws:autoscaling:groupName", "")].add(owners[row["InstanceId"]])
    for row in pages(autoscaling, "describe_auto_scaling_groups", "AutoScalingGroups"):
        name, own = row["AutoScalingGroupName"], tags.from_list(row["Tags"]).get(tags.PERSON, "")
        owners[name] = ", ".join(sorted(by_group.get(name, {own})))
    return owners
