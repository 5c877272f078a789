"""The costs of snapshots and of instances, on demand and as Spot, by AWS's price list and Spot's
price history."""

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
    """The bytes that a snapshot is billed for, and True if that is exact, False if it is an upper
    bound. `present` are the ids of the snapshots that exist."""
    # A snapshot of changed blocks is billed for these alone as long as its parent exists. When the
    # parent is deleted, the blocks that are still needed become this one's ("How Amazon EBS
    # snapshots work").
    if snapshot.stored_bytes is not None and (not snapshot.parent or snapshot.parent in present):
        return snapshot.stored_bytes, True
    return snapshot.full_bytes or snapshot.volume_gib * GIB, False


def monthly(count: int, usd_gib_month: float | None) -> float | None:
    """US dollars a month for `count` bytes of snapshots, or None if the price is not known."""
    return None if usd_gib_month is None else count / GIB * usd_gib_month


def spot_by_zone(ec2: Client, types: Sequence[str]) -> dict[tuple[str, str], float]:
    """The current price of an hour of Linux as a Spot instance in US dollars, by type and zone; {}
    if it cannot be read."""
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
    except Exception as error:  # translate raises an exception that is no error of AWS's or ours
        translate(error)
        return {}


class SpotPrices(Record):
    """A type's Spot price in the cheapest zone of a region, in US dollars an hour of Linux: its
    mean over time and its maximum in the last `days`, and the current price."""

    zone: str
    usd_mean: float
    usd_most: float
    usd_now: float
    days: int


def spot_history(ec2: Client, types: Sequence[str], days: int) -> dict[str, SpotPrices]:
    """Each type's Spot prices of the last `days`, in the zone of the region with the lowest mean.

    EC2 keeps 90 days. Its answer begins with the price that held at the start
    (DescribeSpotPriceHistory).
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
    cheapest: dict[str, SpotPrices] = {}
    for (name, zone), history in sorted(rows.items()):
        in_zone = SpotPrices(
            zone=zone,
            usd_mean=mean_by_time(history, start, end),
            days=days,
            usd_most=max(usd for _, usd in history),
            usd_now=max(history)[1],
        )
        if name not in cheapest or in_zone.usd_mean < cheapest[name].usd_mean:
            cheapest[name] = in_zone
    return cheapest


def mean_by_time(
    history: Sequence[tuple[datetime, float]], start: datetime, end: datetime
) -> float:
    """The mean price between `start` and `end`, if each price holds until the next one's time."""
    rows = sorted(history)
    times = [min(max(at, start), end) for at, _ in rows] + [end]
    spans = [(after - at).total_seconds() for at, after in pairwise(times)]
    if not sum(spans):
        return rows[-1][1]
    return sum(seconds * usd for seconds, (_, usd) in zip(spans, rows, strict=True)) / sum(spans)


def hourly_by_type(
    account: Account, types: Iterable[str]
) -> tuple[dict[str, dict[str, float]], str]:
    """On-demand prices of an hour of Linux in US dollars, by type and region, and why they are not
    known, or ""."""
    try:
        return {
            name: price_list.usd_by(
                account.pricing(), "regionCode", {**price_list.MACHINES, "instanceType": name}
            )[0]
            for name in types
        }, ""
    except Exception as error:  # translate raises an exception that is no error of AWS's or ours
        return {}, translate(error).message
