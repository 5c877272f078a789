"""Where a workload of GPU-hours costs least: each offered type in each region, priced. Pure: it
calls no API."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from goldenami.aws.pricing.prices import SpotPrices
from goldenami.core.records import Record
from goldenami.core.terminal import columns
from goldenami.core.units import dollars

MONTH_H = 730.0
"""Hours of a month, as AWS's own calculator counts them (8,760 / 12)."""
_CURVE = math.log(5) / math.log(8)
"""Exponent of a rule of thumb for one training on n GPUs: its speed-up is n to this power. Eight
GPUs do the work of about five."""
OPEN_QUESTIONS = (
    "an hour on one GPU is taken to be an hour on any: how fast your work is on each, you have to "
    "measure",
    "whether EC2 has the capacity, and what the account's quotas allow, is not asked; `zones` "
    "have the type on offer",
    "how often Spot instances are taken back is in no price history; what that costs is not in "
    "the sums",
    "volumes, data on its way, reservations and savings plans are not in the sums",
)


class OfferedType(Record):
    """One instance type in one region. `usd_hour` is None if the price is unknown or not listed,
    `spot` is None if there is no history of Spot prices. `gpus` is 0 for a type without GPUs or
    with a fraction of one."""

    instance_type: str
    gpu: str
    gpus: int
    zones: list[str]
    usd_hour: float | None
    spot: SpotPrices | None


def speedup_of(gpus: int) -> float:
    """How many times as fast as one GPU this number of GPUs is."""
    return float(gpus**_CURVE)


class AdviceRow(Record):
    """One type in one region for the workload. `hours` is the time on one machine; `machines` is
    how many do that within a month. `usd_month` is the on-demand price, `usd_month_spot` that at
    Spot's mean price; both are None if unknown."""

    region: str
    offer: OfferedType
    speedup: float
    hours: float
    machines: int
    usd_month: float | None
    usd_month_spot: float | None


class Advice(Record):
    """The rows, the cheapest first and those of unknown price last, and the questions that the sums
    leave open."""

    gpu_hours: float
    rows: list[AdviceRow]
    not_known: list[str]


def advise(regions: Mapping[str, Sequence[OfferedType]], gpu_hours: float) -> Advice:
    """Price the workload on each type with whole GPUs in each region."""
    rows, types_without_gpu, not_known = list[AdviceRow](), set[str](), list(OPEN_QUESTIONS)
    for region, offers in regions.items():
        for offer in offers:
            if offer.gpus:
                rows.append(_row(region, offer, gpu_hours))
            else:
                types_without_gpu.add(offer.instance_type)
    if types_without_gpu:
        left_out = ", ".join(sorted(types_without_gpu))
        not_known.insert(0, f"without a whole GPU, left out: {left_out}")
    return Advice(gpu_hours=gpu_hours, rows=sorted(rows, key=_order), not_known=not_known)


def _row(region: str, offer: OfferedType, gpu_hours: float) -> AdviceRow:
    speedup = speedup_of(offer.gpus)
    hours = gpu_hours / speedup

    def month(usd_hour: float | None) -> float | None:
        return None if usd_hour is None else round(hours * usd_hour, 2)

    return AdviceRow(
        region=region,
        offer=offer,
        speedup=round(speedup, 2),
        hours=round(hours, 1),
        machines=max(1, math.ceil(hours / MONTH_H)),
        usd_month=month(offer.usd_hour),
        usd_month_spot=month(offer.spot.usd_mean if offer.spot else None),
    )


def _order(row: AdviceRow) -> tuple[float, float, str, str]:
    usd, usd_spot = _or_infinite(row.usd_month), _or_infinite(row.usd_month_spot)
    return usd, usd_spot, row.offer.instance_type, row.region


def _or_infinite(usd: float | None) -> float:
    return math.inf if usd is None else usd


# --- for a person ---------------------------------------------------------------------------------

_HEADS = (
    "type",
    "GPUs",
    "region",
    "zones",
    "on demand/h",
    "Spot/h",
    "at most",
    "hours",
    "machines",
    "a month",
    "by Spot",
)


def show_advice(advice: Advice) -> Iterator[str]:
    """Lines for a terminal: each type in its cheapest region, one GPU against several, the regions
    of the cheapest type, and the open questions."""
    yield f"{advice.gpu_hours:g} GPU-hours a month, each type in the region where it costs least:"
    # Rows are sorted by price; reversed, the cheapest region of a type is written last.
    best = {row.offer.instance_type: row for row in reversed(advice.rows)}
    cheapest = [row for row in advice.rows if best[row.offer.instance_type] is row]
    yield from _table(cheapest)
    yield from _single_against_many(cheapest)
    first = cheapest[0].offer.instance_type
    others = [row for row in advice.rows if row.offer.instance_type == first]
    if len(others) > 1:
        yield f"{first} by region:"
        yield from _table(others)
    yield "not known:"
    for text in advice.not_known:
        yield f"  {text}"


def _single_against_many(rows: Sequence[AdviceRow]) -> Iterator[str]:
    for gpu in dict.fromkeys(row.offer.gpu for row in rows):
        priced = [row for row in rows if row.offer.gpu == gpu and row.usd_month]
        single = next((row for row in priced if row.offer.gpus == 1), None)
        several = next((row for row in priced if row.offer.gpus > 1), None)
        if single and several and single.usd_month and several.usd_month:
            yield (
                f"{gpu}: {several.offer.gpus} in {several.offer.instance_type} are "
                f"{several.speedup:g} times as fast as one in {single.offer.instance_type}, at "
                f"{several.usd_month / single.usd_month:.2f} times the price, by the rule of "
                "thumb (8 GPUs do the work of 5)"
            )


def _table(rows: Sequence[AdviceRow]) -> Iterator[str]:
    return columns.aligned([_HEADS, *map(_cells, rows)])


def _cells(row: AdviceRow) -> tuple[str, ...]:
    offer, spot = row.offer, row.offer.spot
    mean, highest = (spot.usd_mean, spot.usd_most) if spot else (None, None)
    return (
        offer.instance_type,
        f"{offer.gpus} {offer.gpu}",
        row.region,
        str(len(offer.zones)),
        dollars(offer.usd_hour, 3),
        dollars(mean, 3),
        dollars(highest, 3),
        f"{row.hours:g}",
        str(row.machines),
        dollars(row.usd_month),
        dollars(row.usd_month_spot),
    )
