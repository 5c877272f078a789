"""What things cost, by AWS's price list: snapshots, data between regions, instances on demand and
as Spot."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from goldenami.aws.calls import pages
from goldenami.aws.inventory.topology import AccountSnapshot
from goldenami.aws.pricing import price_list
from goldenami.aws.session import Account, Client, translate
from goldenami.core import clock
from goldenami.core.records import Record
from goldenami.core.units import GIB


def stored(snapshot: AccountSnapshot, present: Container[str]) -> tuple[int, bool]:
    """Bytes that a snapshot is billed for, and whether that is exact and not an upper bound.

    A snapshot of changed blocks is billed for these alone as long as its parent is there; when that
    is deleted, EBS keeps the blocks that it still needs, and they are this one's ("How Amazon EBS
    snapshots work").
    """
    if snapshot.stored_bytes is not None and (not snapshot.parent or snapshot.parent in present):
        return snapshot.stored_bytes, True
    return (
        (snapshot.full_bytes, False) if snapshot.full_bytes else (snapshot.volume_gib * GIB, False)
    )


def monthly(count: int, usd_gib_month: float | None) -> float | None:
    """US dollars a month for so many bytes of snapshots, or None where the price is not known."""
    return None if usd_gib_month is None else count / GIB * usd_gib_month


def spot_by_zone(ec2: Client, types: Sequence[str]) -> dict[tuple[str, str], float]:
    """US dollars for an hour of Linux as a Spot instance now, by type and zone."""
    try:
        return {
            (row["InstanceType"], row["AvailabilityZone"]): float(row["SpotPrice"])
            for row in pages(
                ec2,
                "describe_spot_price_history",
                "SpotPriceHistory",
                InstanceTypes=list(types),
                ProductDescriptions=["Linux/UNIX"],
                StartTime=clock.now(),
            )
        }
    except Exception as error:  # no price is worth failing for, as below
        translate(error)
        return {}


class SpotPrices(Record):
    """A type's Spot price in its cheapest zone of a region, in US dollars an hour of Linux: its
    mean by time and its highest over `days`, and what it is now."""

    zone: str
    usd_mean: float
    usd_most: float
    usd_now: float
    days: int


def spot_history(ec2: Client, types: Sequence[str], days: int) -> dict[str, SpotPrices]:
    """The Spot prices of the last `days` of each type, in the zone of the region with the lowest
    mean.

    EC2 keeps 90 days, and begins with the price that held at the start (DescribeSpotPriceHistory).
    """
    end = clock.now()
    start = end - timedelta(days=days)
    rows: dict[tuple[str, str], list[tuple[datetime, float]]] = {}
    for row in pages(
        ec2,
        "describe_spot_price_history",
        "SpotPriceHistory",
        InstanceTypes=list(types),
        ProductDescriptions=["Linux/UNIX"],
        StartTime=start,
    ):
        rows.setdefault((row["InstanceType"], row["AvailabilityZone"]), []).append(
            (row["Timestamp"], float(row["SpotPrice"]))
        )
    found: dict[str, SpotPrices] = {}
    for (name, zone), history in sorted(rows.items()):
        one = SpotPrices(
            zone=zone,
            usd_mean=mean_by_time(history, start, end),
            days=days,
            usd_most=max(usd for _, usd in history),
            usd_now=max(history)[1],
        )
        if name not in found or one.usd_mean < found[name].usd_mean:
            found[name] = one
    return found


def mean_by_time(
    history: Sequence[tuple[datetime, float]], start: datetime, end: datetime
) -> float:
    """The mean of prices that each hold to the next one's time, between `start` and `end`."""
    rows = sorted(history)
    times = [min(max(at, start), end) for at, _ in rows] + [end]
    held = [(after - at).total_seconds() for at, after in pairwise(times)]
    if not sum(held):
        return rows[-1][1]
    return sum(seconds * usd for seconds, (_, usd) in zip(held, rows, strict=True)) / sum(held)


def hourly_by_type(
    account: Account, types: Iterable[str]
) -> tuple[dict[str, dict[str, float]], str]:
    """US dollars for an hour of Linux on demand, by type and region, or why prices cannot be known.
    No price is worth failing for."""
    try:
        return {
            name: price_list.usd_by(
                account.pricing(), "regionCode", {**price_list.MACHINES, "instanceType": name}
            )[0]
            for name in types
        }, ""
    except Exception as error:  # translate raises what is none of AWS's errors or ours
        return {}, translate(error).message
