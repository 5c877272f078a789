"""Machines that are idle, held or too large by the metrics that they send, and what each costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from goldenami.aws.inventory import inventory
from goldenami.aws.inventory.topology import AccountInstance
from goldenami.aws.pricing import price_list
from goldenami.aws.pricing.price_list import RegionPrices
from goldenami.aws.services import metrics
from goldenami.aws.services.metrics import MetricQuery
from goldenami.aws.session import Account, Client, translated

from goldenami_fleet.digest.findings import WEEKS_OF_MONTH, DigestFinding, Kind

IDLE_H, HELD_H = 24.0, 120.0
"""Hours of a week from which an idle or a held machine is reported. A hold lasts 72 hours at most,
so one of 120 hours was renewed again and again."""
LOOKBACK = timedelta(days=14)
"""Period of a machine's busiest hour: one week of holidays must not make a machine look too
large."""
LEAST_H = 48
"""Hours of that period that must have metrics."""
CPU_LINE, GPU_LINE, MEMORY_LINE, DISK_LINE = 20.0, 30.0, 30.0, 30.0
"""Percent of each resource; a machine is too large if no hour exceeds it."""
EMPTY_GIB = 50
"""Unused GiB of a machine's volumes from which they are reported."""
SCRATCH = "/scratch"
"""Where the role instance_store mounts disks that are part of the machine's price."""
DISK = "disks"
_WORDS = {
    metrics.CPU_PERCENT: "CPU",
    metrics.GPU_PERCENT: "GPU",
    metrics.GPU_MEMORY_MIB: "GPU memory",
}


@dataclass(frozen=True)
class Usage:
    """A machine's busiest hour in percent by resource, and the number of hours with metrics."""

    type: str
    peaks: Mapping[str, float]
    hours: int

    @property
    def has_gpu(self) -> bool:
        return "GPU" in self.peaks

    def low(self, lines: Mapping[str, float]) -> str:
        return ", ".join(
            f"{self.peaks[name]:.0f} % of {name}"
            for name, line in lines.items()
            if self.peaks.get(name, line) < line
        )


def machine_findings(
    account: Account, region: str, begin: datetime, end: datetime
) -> list[DigestFinding]:
    """Return the findings about the region's machines in the week from `begin` to `end`."""
    with translated(region):
        # A machine that is gone needs no decision.
        machines_here = {
            machine.id: machine for machine in inventory.instances(account.ec2(region))
        }
        cloudwatch, region_prices = (
            account.client("cloudwatch", region),
            price_list.ask(account, region),
        )
        findings = list(_idle_or_held(cloudwatch, machines_here, begin, end, region_prices))
        usages = {
            instance: usage
            for instance, usage in _usage(cloudwatch, end - LOOKBACK, end).items()
            if instance in machines_here and usage.hours >= LEAST_H
        }
        for instance, usage in usages.items():
            findings += _too_large(machines_here[instance], usage, region_prices)
        findings += _empty_disks(
            account,
            region_prices,
            {
                machines_here[instance]: usage.peaks[DISK]
                for instance, usage in usages.items()
                if usage.peaks.get(DISK, DISK_LINE) < DISK_LINE
            },
        )
    return findings


def _idle_or_held(
    cloudwatch: Client,
    machines_here: Mapping[str, AccountInstance],
    begin: datetime,
    end: datetime,
    region_prices: RegionPrices,
) -> Iterator[DigestFinding]:
    for kind, name, least_hours, verb, todo in (
        (
            Kind.IDLE,
            metrics.IDLE,
            IDLE_H,
            "was idle for",
            "stop it, or set an action of golden_idle (docs/idle.md)",
        ),
        (
            Kind.HELD,
            metrics.HELD,
            HELD_H,
            "was held for",
            "ask who holds it: `golden-idle why` there",
        ),
    ):
        for machine in metrics.idle_machines(cloudwatch, begin, end, name):
            if machine.hours >= least_hours and machine.instance in machines_here:
                usd = region_prices.machine_hour.get(machine.type)
                yield DigestFinding(
                    kind=kind,
                    subject=f"{region_prices.region} {machine.instance}",
                    todo=todo,
                    what=f"{machine.type} {verb} {machine.hours:.0f} of 168 hours",
                    owner=machines_here[machine.instance].owner,
                    usd_week=None if usd is None else round(usd * machine.hours, 2),
                )


def _too_large(
    machine: AccountInstance, usage: Usage, region_prices: RegionPrices
) -> Iterator[DigestFinding]:
    usd = region_prices.machine_hour.get(usage.type)
    week = None if usd is None else round(usd * usage.hours * 7 / LOOKBACK.days, 2)
    smallest = next(iter(region_prices.of_kind(usage.type.partition(".")[0])), "")
    lines = {"GPU": GPU_LINE, "GPU memory": MEMORY_LINE}
    # A GPU machine is chosen for its GPU. Fewer CPUs come only with a cheaper size of the family,
    # and the cheapest has none.
    if not (usage.has_gpu and usage.type == smallest):
        lines["CPU"] = CPU_LINE
    if low := usage.low(lines):
        yield DigestFinding(
            kind=Kind.UNDERUSED,
            subject=f"{region_prices.region} {machine.id}",
            owner=machine.owner,
            what=f"{usage.type}: in {LOOKBACK.days} days no hour above {low}",
            usd_week=week,
            todo="take a smaller type: `golden regions --family FAMILY` has prices",
        )


def _empty_disks(
    account: Account, region_prices: RegionPrices, peaks: Mapping[AccountInstance, float]
) -> Iterator[DigestFinding]:
    """Yield machines with large unused volumes. `peaks` is how full the fullest file system of each
    machine was, in percent."""
    # Volumes and prices are read only if a machine is concerned.
    if not peaks:
        return
    sizes = inventory.volume_gib(
        account.ec2(region_prices.region), [machine.id for machine in peaks]
    )
    usd = price_list.of_usage(account, price_list.GP3_GIB_MONTH, [region_prices.region]).usd.get(
        region_prices.region
    )
    for machine, peak_percent in peaks.items():
        gib = sizes.get(machine.id, 0)
        unused_gib = gib * (1 - peak_percent / 100)
        if unused_gib >= EMPTY_GIB:
            yield DigestFinding(
                kind=Kind.EMPTY_DISK,
                subject=f"{region_prices.region} {machine.id}",
                owner=machine.owner,
                what=f"in {LOOKBACK.days} days no file system fuller than {peak_percent:.0f} %, "
                f"of {gib} GiB in all",
                todo="launch the next one with smaller volumes",
                usd_week=None if usd is None else round(unused_gib * usd / WEEKS_OF_MONTH, 2),
            )


def _usage(cloudwatch: Client, since: datetime, until: datetime) -> dict[str, Usage]:
    """Return the usage by instance. The busiest of several GPUs counts; GPU memory is a resource of
    its own."""

    def series(name: str, statistic: str) -> Iterator[tuple[dict[str, str], list[float]]]:
        query = MetricQuery(name, statistic, since, until)
        for dimensions, by_hour in metrics.values(cloudwatch, query):
            # Those of groups, and those without values, are of no machine.
            if metrics.INSTANCE in dimensions and by_hour:
                yield dimensions, [*by_hour.values()]

    peaks, types, hours = dict[str, dict[str, float]](), dict[str, str](), dict[str, int]()
    in_all = series(metrics.GPU_MEMORY_TOTAL_MIB, "Maximum")
    totals = {_gpu_key(dimensions): max(values) for dimensions, values in in_all}
    for name, statistic in (
        (metrics.CPU_PERCENT, "Average"),
        (metrics.GPU_PERCENT, "Average"),
        (metrics.GPU_MEMORY_MIB, "Maximum"),
        (metrics.DISK_PERCENT, "Maximum"),
    ):
        for dimensions, values in series(name, statistic):
            instance, peak = dimensions[metrics.INSTANCE], max(values)
            if name == metrics.GPU_MEMORY_MIB:
                # Without its total, memory in use counts as full: no smaller GPU is advised.
                peak = 100 * peak / totals.get(_gpu_key(dimensions), peak or 1.0)
            # An empty scratch disk is no reason for smaller volumes: it costs nothing extra.
            if dimensions.get("path") == SCRATCH:
                continue
            resource, instance_peaks = _WORDS.get(name, DISK), peaks.setdefault(instance, {})
            instance_peaks[resource] = max(peak, instance_peaks.get(resource, 0.0))
            types[instance] = dimensions.get(metrics.TYPE, "")
            hours[instance] = max(len(values), hours.get(instance, 0))
    return {
        instance: Usage(types[instance], instance_peaks, hours[instance])
        for instance, instance_peaks in peaks.items()
    }


def _gpu_key(dimensions: Mapping[str, str]) -> tuple[str, str]:
    return dimensions[metrics.INSTANCE], dimensions.get("index", "")
