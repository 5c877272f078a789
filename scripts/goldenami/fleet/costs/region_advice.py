"""Where a workload of GPU-hours costs least: every offered type in every region, priced. Pure: no
account is asked."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence

from goldenami.aws.pricing import prices
from goldenami.aws.pricing.price_list import ListedPrices
from goldenami.aws.pricing.prices import SpotPrices
from goldenami.core.errors import BadInput
from goldenami.core.records import Record
from goldenami.core.terminal import columns

MONTH_H = 730.0
"""Hours of a month, as AWS's own calculator has them (8,760 / 12)."""
_CURVE = math.log(5) / math.log(8)
"""The rule of thumb for one training on many GPUs: eight do the work of about five.

n do that of n to this power.
"""
UNKNOWN = "unknown"
OPEN_QUESTIONS = (
    "an hour on one GPU is taken to be an hour on any: how fast your work is on each, you have to "
    "measure",
    "whether EC2 has the capacity, and what the account's quotas allow, is not asked; `zones` "
    "have the type on offer",
    "how often Spot instances are taken back is in no price history; what that costs is not in "
    "the sums",
    "volumes, data that leaves AWS, reservations and savings plans are not in the sums",
)


class OfferedType(Record):
    """One instance type in one region. `usd_hour` is None where its price could not be asked for or
    is not listed, and `spot` where there is no history of Spot prices. `gpus` is 0 for a type
    without GPUs or with a part of one."""

    instance_type: str
    gpu: str
    gpus: int
    zones: list[str]
    usd_hour: float | None
    spot: SpotPrices | None


class GpuWorkload(Record):
    """What is to be run: hours of one GPU a month, and the data that it reads.

    `data_gb`: 10^9 bytes a month that come from `data_region`.
    """

    gpu_hours: float
    data_region: str = ""
    data_gb: float = 0.0


def speedup_of(gpus: int) -> float:
    """How many times as fast as one GPU so many are."""
    return float(gpus ** _CURVE)


def workload_of(gpu_hours: float, data: str) -> GpuWorkload:
    """The workload with its data in words, "us-east-1=500"; BadInput for what makes no sense."""
    source, _, amount = data.partition("=")
    if data and not re.fullmatch(r"\d{1,9}(\.\d+)?", amount):
        raise BadInput(f"--data {data}: not REGION=GB", hint="for instance us-east-1=500")
    return GpuWorkload(gpu_hours=gpu_hours, data_region=source, data_gb=float(amount or 0))


class AdviceRow(Record):
    """A type in a region for the workload. `hours` of one machine, and how many `machines` do them
    within a month.

    US dollars a month, None where unknown: on demand, at Spot's mean price, and for the data's way
    to the region. Data is in both sums.
    """

    region: str
    instance_type: str
    gpu: str
    gpus: int
    zones: int
    speedup: float
    hours: float
    machines: int
    usd_hour: float | None
    spot: SpotPrices | None
    usd_data: float | None
    usd_month: float | None
    usd_month_spot: float | None


class Advice(Record):
    """The rows, the cheapest first and those of unknown price last, and what nobody here knows.

    `transfer_prices` says where the prices of data between regions are from.
    """

    workload: GpuWorkload
    transfer_prices: str
    rows: list[AdviceRow]
    not_known: list[str]


def advise(
    regions: Mapping[str, Sequence[OfferedType]], workload: GpuWorkload, transfer: ListedPrices,
) -> Advice:
    """Price the workload on every type with whole GPUs in every region; `transfer` is for what
    leaves the data's."""
    rows = [_row(region, offer, workload, transfer)
            for region, offers in regions.items() for offer in offers if offer.gpus]
    without = sorted({offer.instance_type for offers in regions.values() for offer in offers
                      if not offer.gpus})
    left_out = [f"without a whole GPU, left out: {', '.join(without)}"] if without else []
    return Advice(workload=workload, transfer_prices=transfer.source, rows=sorted(rows, key=_order),
                  not_known=[*left_out, *OPEN_QUESTIONS])


def _row(
    region: str, offer: OfferedType, workload: GpuWorkload, transfer: ListedPrices
) -> AdviceRow:
    speedup = speedup_of(offer.gpus)
    hours = workload.gpu_hours / speedup
    data = _transfer(workload, region, transfer)

    def month(usd_hour: float | None) -> float | None:
        return None if usd_hour is None or data is None else round(hours * usd_hour + data, 2)

    return AdviceRow(
        region=region, instance_type=offer.instance_type, gpu=offer.gpu, gpus=offer.gpus,
        zones=len(offer.zones),
        speedup=round(speedup, 2), hours=round(hours, 1),
        machines=max(1, math.ceil(hours / MONTH_H)),
        usd_hour=offer.usd_hour, spot=offer.spot, usd_data=data, usd_month=month(offer.usd_hour),
        usd_month_spot=month(offer.spot.usd_mean if offer.spot else None))


def _transfer(workload: GpuWorkload, region: str, listed: ListedPrices) -> float | None:
    """US dollars a month for the data's way to the region; None where the price is not known."""
    if not workload.data_gb or workload.data_region == region:
        return 0.0
    return prices.copy(round(workload.data_gb * prices.GB), listed.usd.get(region))


def _order(row: AdviceRow) -> tuple[float, float, str, str]:
    unknown = float("inf")
    return (unknown if row.usd_month is None else row.usd_month,
            unknown if row.usd_month_spot is None else row.usd_month_spot, row.instance_type,
            row.region)


# --- for a person ---------------------------------------------------------------------------------------------------

_HEADS = ("type", "GPUs", "region", "zones", "on demand/h", "Spot/h", "at most", "hours",
          "machines", "a month",
          "by Spot", "of it data")


def show_advice(advice: Advice) -> Iterator[str]:
    """Each type where it costs least, one GPU against several, the regions of the cheapest type,
    what is not known."""
    work = advice.workload
    source = f" and {work.data_gb:g} GB from {work.data_region}" if work.data_gb else ""
    yield f"{work.gpu_hours:g} GPU-hours{source} a month, each type in the region where it costs least:"
    best = {row.instance_type: row for row in reversed(advice.rows)}
    cheapest = [row for row in advice.rows if best[row.instance_type] is row]
    yield from _table(cheapest, work)
    yield from _single_against_many(cheapest)
    others = (
        [row for row in advice.rows if row.instance_type == cheapest[0].instance_type]
        if cheapest
        else []
    )
    if len(others) > 1:
        yield f"{others[0].instance_type} by region:"
        yield from _table(others, work)
    yield f"prices of data between regions: {advice.transfer_prices}; not known:" if work.data_gb \
        else "not known:"
    yield from (f"  {text}" for text in advice.not_known)


def _single_against_many(rows: Sequence[AdviceRow]) -> Iterator[str]:
    """For each GPU model the cheapest single one against the cheapest of several."""
    for gpu in dict.fromkeys(row.gpu for row in rows):
        priced = [row for row in rows if row.gpu == gpu and row.usd_month is not None]
        one = next((row for row in priced if row.gpus == 1), None)
        many = next((row for row in priced if row.gpus > 1), None)
        if one and many and one.usd_month and many.usd_month:
            yield (f"{gpu}: {many.gpus} in {many.instance_type} are {many.speedup:g} times as "
                   "fast as one in "
                   f"{one.instance_type}, at {many.usd_month / one.usd_month:.2f} times the price, "
                   "by the rule of thumb (8 GPUs do the work of 5)")


def _table(rows: Sequence[AdviceRow], work: GpuWorkload) -> Iterator[str]:
    """The last column only where there is data to move."""
    shown = len(_HEADS) if work.data_gb else -1
    return columns.aligned([line[:shown] for line in (_HEADS, *map(_cells, rows))])


def _cells(row: AdviceRow) -> tuple[str, ...]:
    mean, most = (row.spot.usd_mean, row.spot.usd_most) if row.spot else (None, None)
    return (row.instance_type, f"{row.gpus} {row.gpu}", row.region, str(row.zones),
            _usd(row.usd_hour, 3),
            _usd(mean, 3), _usd(most, 3), f"{row.hours:g}", str(row.machines), _usd(row.usd_month),
            _usd(row.usd_month_spot), _usd(row.usd_data))


def _usd(amount: float | None, digits: int = 2) -> str:
    return UNKNOWN if amount is None else f"${amount:,.{digits}f}"
