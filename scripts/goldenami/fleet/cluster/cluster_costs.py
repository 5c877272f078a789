"""What machines ahead of their users, and their metrics each minute, cost a month at most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from goldenami.aws.channels import launch_data
from goldenami.aws.pricing import price_list, prices
from goldenami.aws.pricing.price_list import ListedUsage
from goldenami.aws.session import Account
from goldenami.core import units
from goldenami.fleet.cluster.cluster_template import FamilyGroup
from goldenami.fleet.costs.region_advice import MONTH_H
from goldenami.model.definitions.definition import Definition
from goldenami.model.operation.cluster_section import ClusterSection, Monitoring
from goldenami.model.operation.publish_section import VolumeType

DETAILED_METRICS = 7
"""Metrics of an instance that each minute is paid for ("Amazon CloudWatch pricing", example of EC2
detailed monitoring)."""
METRIC_MONTH = ListedUsage("AmazonCloudWatch", {"group": "Metric"}, "CW:MetricMonitorUsage")


@dataclass(frozen=True)
class MachinePrices:
    """US dollars of one family in a region; None where they are not known. `hour`: of a machine of
    `type`. `stopped_month`: of a stopped machine's volume. `monitored_month`: of one's metrics."""

    type: str
    hour: float | None
    stopped_month: float | None
    monitored_month: float | None


def ask(
    account: Account, definition: Definition, region: str, groups: tuple[FamilyGroup, ...]
) -> dict[str, MachinePrices]:
    """The prices of each group's machines, by family: of the launch template's type, else of the
    cheapest."""
    assert definition.publish is not None  # there would be no cluster
    template = definition.publish.launch_template
    is_gp3 = template.volume_type is VolumeType.GP3

    def listed(usage: ListedUsage) -> float | None:
        return price_list.of_usage(account, usage, [region]).usd.get(region)

    gib, metric = listed(price_list.GP3_GIB_MONTH) if is_gp3 else None, listed(METRIC_MONTH)
    volume = prices.monthly((template.volume_size_gib or definition.disk_size_gib) << 30, gib)
    monitored: float | None = 0.0
    if launch_data.monitoring(definition) is Monitoring.DETAILED:
        monitored = None if metric is None else DETAILED_METRICS * metric
    found = {}
    for group in groups:
        own = template.instance_type or ""
        named = own if own in group.prices else next(iter(group.prices), "")
        found[group.family] = MachinePrices(named, group.prices.get(named), volume, monitored)
    return found


def show(
    section: ClusterSection | None,
    groups: tuple[FamilyGroup, ...],
    known: Mapping[str, MachinePrices],
) -> Iterator[str]:
    """What each part of the section costs. Hours that people use are in it: they pay for them with
    any setting."""
    rows = list(_ahead(section, groups, known))
    if rows:
        yield "a month, on demand, used or not:"
    yield from (f"  {what}: {units.price(usd, exact=True)}" for what, usd in rows)


def _ahead(
    section: ClusterSection | None,
    groups: tuple[FamilyGroup, ...],
    known: Mapping[str, MachinePrices],
) -> Iterator[tuple[str, float | None]]:
    for group in groups:
        price, wanted = known[group.family], group.ahead
        kind = price.type or "an unknown type"
        if section and wanted.working_hours:
            hours = MONTH_H * section.open_share
            yield (
                f"{group.family}: {wanted.working_hours} of {kind} in working hours, {hours:.0f} h",
                _times(wanted.working_hours * hours, price.hour),
            )
        if wanted.spare:
            yield (
                f"{group.family}: {wanted.spare} of {kind} spare, day and night",
                _times(wanted.spare * MONTH_H, price.hour),
            )
        if wanted.stopped:
            yield (
                f"{group.family}: {wanted.stopped} stopped, their volumes",
                _times(wanted.stopped, price.stopped_month),
            )
    for monitored in {price.monitored_month for price in known.values()} - {0.0}:
        yield "detailed monitoring, each machine that runs all month", monitored


def _times(count: float, usd: float | None) -> float | None:
    return None if usd is None else count * usd
