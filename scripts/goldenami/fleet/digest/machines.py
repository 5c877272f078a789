"""Machines that are idle, held or too large, by the metrics that they send; what each costs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from goldenami.aws.inventory import inventory
from goldenami.aws.inventory.topology import AccountInstance
from goldenami.aws.pricing import price_list
from goldenami.aws.pricing.price_list import RegionPrices
from goldenami.aws.services import metrics
from goldenami.aws.session import Account, Client, translated
from goldenami.fleet.digest.findings import WEEKS_OF_MONTH, DigestFinding, Kind

IDLE_H, HELD_H = 24.0, 120.0
"""Hours of a week from which on an idle or a held machine is told of. A hold lasts 72 hours at
most, so that one of 120 was made again and again."""
LOOKBACK = timedelta(days=14)
"""What a machine's highest hour is of: a week of holidays makes nobody's machine too large."""
LEAST_H = 48
"""Hours that have to be known of those days."""
CPU_LINE, GPU_LINE, MEMORY_LINE, DISK_LINE = 20.0, 30.0, 30.0, 30.0
"""Percents that no hour exceeds where a machine is too large by it."""
EMPTY_GIB = 50
"""Of a machine's volumes, less than which is not worth a decision."""
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
    """The highest hour of a machine by what was looked at, in percent, and the hours known."""

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


def look(account: Account, region: str, begin: datetime, end: datetime) -> list[DigestFinding]:
    """What the region's machines show of the week from `begin` to `end`. A machine that is gone
    needs no decision."""
    with translated(region):
        here = {each.id: each for each in inventory.instances(account.ec2(region))}
        cloudwatch, listed = account.client("cloudwatch", region), price_list.ask(account, region)
        found = list(_by_hours(cloudwatch, here, begin, end, listed))
        used = {
            instance: usage
            for instance, usage in _usage(cloudwatch, end - LOOKBACK, end).items()
            if instance in here and usage.hours >= LEAST_H
        }
        for instance, usage in used.items():
            found += _too_large(here[instance], usage, listed)
        found += _empty_disks(
            account,
            listed,
            {
                here[instance]: usage.peaks[DISK]
                for instance, usage in used.items()
                if usage.peaks.get(DISK, DISK_LINE) < DISK_LINE
            },
        )
    return found


def _by_hours(
    cloudwatch: Client,
    here: Mapping[str, AccountInstance],
    begin: datetime,
    end: datetime,
    listed: RegionPrices,
) -> Iterator[DigestFinding]:
    for kind, name, line, what, todo in (
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
            if machine.hours >= line and machine.instance in here:
                usd = listed.machine_hour.get(machine.type)
                yield DigestFinding(
                    kind=kind,
                    subject=f"{listed.region} {machine.instance}",
                    todo=todo,
                    what=f"{machine.type} {what} {machine.hours:.0f} of 168 hours",
                    owner=here[machine.instance].owner,
                    usd_week=None if usd is None else round(usd * machine.hours, 2),
                )


def _too_large(
    machine: AccountInstance, usage: Usage, listed: RegionPrices
) -> Iterator[DigestFinding]:
    usd = listed.machine_hour.get(usage.type)
    week = None if usd is None else round(usd * usage.hours * 7 / LOOKBACK.days, 2)
    smallest = next(iter(listed.of_family(usage.type.partition(".")[0])), "")
    lines = {"GPU": GPU_LINE, "GPU memory": MEMORY_LINE}
    # A machine of a GPU is chosen for the GPU: its processors can only be fewer in another size.
    if not (usage.has_gpu and usage.type == smallest):
        lines["CPU"] = CPU_LINE
    if low := usage.low(lines):
        yield DigestFinding(
            kind=Kind.UNDERUSED,
            subject=f"{listed.region} {machine.id}",
            owner=machine.owner,
            what=f"{usage.type}: in {LOOKBACK.days} days no hour above {low}",
            usd_week=week,
            todo="take a smaller type: `golden regions --family FAMILY` has prices",
        )


def _empty_disks(
    account: Account, listed: RegionPrices, peaks: Mapping[AccountInstance, float]
) -> Iterator[DigestFinding]:
    """Machines by how full their fullest file system was; volumes are asked for and priced only
    where one is."""
    if not peaks:
        return
    sizes = inventory.volume_gib(account.ec2(listed.region), [each.id for each in peaks])
    usd = price_list.of_usage(account, price_list.GP3_GIB_MONTH, [listed.region]).usd.get(
        listed.region
    )
    for machine, peak in peaks.items():
        gib = sizes.get(machine.id, 0)
        empty = gib * (1 - peak / 100)
        if empty >= EMPTY_GIB:
            yield DigestFinding(
                kind=Kind.EMPTY_DISK,
                subject=f"{listed.region} {machine.id}",
                owner=machine.owner,
                what=f"in {LOOKBACK.days} days no file system fuller than {peak:.0f} %, of {gib} "
                "GiB in all",
                todo="launch the next one with smaller volumes",
                usd_week=None if usd is None else round(empty * usd / WEEKS_OF_MONTH, 2),
            )


def _usage(cloudwatch: Client, since: datetime, until: datetime) -> dict[str, Usage]:
    """By instance. Of several GPUs the busiest counts; memory of a GPU is a part of its own."""
    peaks, types, hours = dict[str, dict[str, float]](), dict[str, str](), dict[str, int]()
    totals = {
        _gpu(known): max(values)
        for known, values in _series(
            cloudwatch, metrics.GPU_MEMORY_TOTAL_MIB, "Maximum", since, until
        )
    }
    for name, statistic in (
        (metrics.CPU_PERCENT, "Average"),
        (metrics.GPU_PERCENT, "Average"),
        (metrics.GPU_MEMORY_MIB, "Maximum"),
        (metrics.DISK_PERCENT, "Maximum"),
    ):
        for known, values in _series(cloudwatch, name, statistic, since, until):
            instance, peak = known[metrics.INSTANCE], max(values)
            if name == metrics.GPU_MEMORY_MIB:
                peak = 100 * peak / totals.get(_gpu(known), peak or 1.0)
            if known.get("path") == SCRATCH:
                continue
            word, mine = _WORDS.get(name, DISK), peaks.setdefault(instance, {})
            mine[word] = max(peak, mine.get(word, 0.0))
            types[instance] = known.get(metrics.TYPE, "")
            hours[instance] = max(len(values), hours.get(instance, 0))
    return {
        instance: Usage(types[instance], mine, hours[instance]) for instance, mine in peaks.items()
    }


def _gpu(known: Mapping[str, str]) -> tuple[str, str]:
    return known[metrics.INSTANCE], known.get("index", "")


def _series(
    cloudwatch: Client,
    name: str,
    statistic: str,
    since: datetime,
    until: datetime,
) -> Iterable[tuple[dict[str, str], list[float]]]:
    """Of machines, not of groups as a whole, and of those that sent something."""
    return (
        (known, values)
        for known, values in metrics.hourly(cloudwatch, name, statistic, since, until)
        if metrics.INSTANCE in known and values
    )
