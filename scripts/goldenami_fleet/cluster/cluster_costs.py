"""The highest monthly price of machines that wait for users, and of their metrics each minute."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from goldenami.aws.channels import launch_data
from goldenami.aws.pricing import price_list, prices
from goldenami.aws.pricing.price_list import ListedUsage
from goldenami.aws.session import Account
from goldenami.core import units
from goldenami.model.definitions.definition import Definition
from goldenami.model.operation.cluster_section import ClusterSection, Monitoring
from goldenami.model.operation.publish_section import VolumeType

from goldenami_fleet.cluster.cluster_template import MachineGroup
from goldenami_fleet.costs.region_advice import MONTH_H

DETAILED_METRICS = 7
"""Number of an instance's metrics that are paid for with detailed monitoring ("Amazon CloudWatch
pricing", example of EC2 detailed monitoring)."""
METRIC_MONTH = ListedUsage("AmazonCloudWatch", {"group": "Metric"}, "CW:MetricMonitorUsage")


@dataclass(frozen=True)
class MachinePrices:
    """Prices of one group's machines in a region in US dollars, None if unknown: `hour` is for a
    machine of `type`, `stopped_month` for a stopped machine's volume, `monitored_month` for one
    machine's metrics."""

    type: str
    hour: float | None
    stopped_month: float | None
    monitored_month: float | None


def ask(
    account: Account, definition: Definition, region: str, groups: tuple[MachineGroup, ...]
) -> dict[str, MachinePrices]:
    """Return the prices of each group's machines by its kind: of the launch template's type, or
    else of the cheapest type."""
    assert definition.publish is not None  # without it there is no cluster
    template = definition.publish.launch_template
    is_gp3 = template.volume_type is VolumeType.GP3

    def listed(usage: ListedUsage) -> float | None:
        return price_list.of_usage(account, usage, [region]).usd.get(region)

    gib, metric = listed(price_list.GP3_GIB_MONTH) if is_gp3 else None, listed(METRIC_MONTH)
    volume = prices.monthly((template.volume_size_gib or definition.disk_size_gib) << 30, gib)
    monitored: float | None = 0.0
    if launch_data.monitoring(definition) is Monitoring.DETAILED:
        monitored = None if metric is None else DETAILED_METRICS * metric
    by_kind = {}
    for group in groups:
        instance_type = template.instance_type or ""
        if instance_type not in group.prices:
            instance_type = next(iter(group.prices), "")
        by_kind[group.kind] = MachinePrices(
            instance_type, group.prices.get(instance_type), volume, monitored
        )
    return by_kind


def lines(
    section: ClusterSection | None,
    groups: tuple[MachineGroup, ...],
    prices_by_kind: Mapping[str, MachinePrices],
) -> Iterator[str]:
    """Lines for a terminal: the price of each part of the section. It includes hours that people
    use, which they pay for with any setting."""
    rows = list(_rows(section, groups, prices_by_kind))
    if rows:
        yield "a month, on demand, used or not:"
    for part, usd in rows:
        yield f"  {part}: {units.price(usd, exact=True)}"


def _rows(
    section: ClusterSection | None,
    groups: tuple[MachineGroup, ...],
    prices_by_kind: Mapping[str, MachinePrices],
) -> Iterator[tuple[str, float | None]]:
    for group in groups:
        price, ahead = prices_by_kind[group.kind], group.ahead
        type_name = price.type or "an unknown type"
        if section and ahead.working_hours:
            hours = MONTH_H * section.open_share
            yield (
                f"{group.kind}: {ahead.working_hours} of {type_name} in working hours, "
                f"{hours:.0f} h",
                _product(ahead.working_hours * hours, price.hour),
            )
        if ahead.spare:
            yield (
                f"{group.kind}: {ahead.spare} of {type_name} spare, day and night",
                _product(ahead.spare * MONTH_H, price.hour),
            )
        if ahead.stopped:
            yield (
                f"{group.kind}: {ahead.stopped} stopped, their volumes",
                _product(ahead.stopped, price.stopped_month),
            )
    for monitored in {price.monitored_month for price in prices_by_kind.values()} - {0.0}:
        yield "detailed monitoring, each machine that runs all month", monitored


def _product(count: float, usd: float | None) -> float | None:
    return None if usd is None else count * usd
