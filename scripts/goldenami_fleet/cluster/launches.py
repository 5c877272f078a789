"""Who waits for a machine, with how many spare ones, and what those cost: by the launches of the
last week, as CloudTrail recorded them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice

from goldenami.aws.calls import pages
from goldenami.aws.regions import in_parallel
from goldenami.aws.session import Account, Client
from goldenami.core import clock, units
from goldenami.core.terminal import columns

from goldenami_fleet.cluster.cluster_costs import MachinePrices

MOST_EVENTS = 1000
"""Launches that are read: LookupEvents returns 50 at a time, and allows two calls a second."""
MOST_SPARE = 3
_WEEK = timedelta(days=7)
_HEADS = ("spare", "waited", "mean wait, at most", "spare machines, a week")


@dataclass(frozen=True)
class Launches:
    """When machines were launched in the last week, by family or type; `cause` says why none is
    known."""

    by_kind: dict[str, list[datetime]] = field(default_factory=dict)
    cause: str = ""


def read(account: Account, region: str, kinds: Iterable[str]) -> Launches:
    """Return the launches of these families or types in the region."""
    quick_account, names = account.with_short_timeouts(), list(kinds)
    answers = in_parallel(
        {region: lambda: _launches(quick_account.client("cloudtrail", region), names)}
    )
    found = answers.done.get(region, {})
    none = f"CloudTrail has no launch of {', '.join(names)} in seven days"
    return Launches(found, "" if found else answers.causes.get(region, none))


def _launches(cloudtrail: Client, kinds: Sequence[str]) -> dict[str, list[datetime]]:
    rows = pages(
        cloudtrail,
        "lookup_events",
        "Events",
        StartTime=clock.now() - _WEEK,
        LookupAttributes=[{"AttributeKey": "EventName", "AttributeValue": "RunInstances"}],
    )
    found: dict[str, list[datetime]] = {}
    for row in islice(rows, MOST_EVENTS):
        event = json.loads(row["CloudTrailEvent"])
        # A call that was refused has no machines.
        instances_set = (event.get("responseElements") or {}).get("instancesSet") or {}
        for machine in instances_set.get("items", []):
            instance_type = machine.get("instanceType", "")
            for kind in {instance_type, instance_type.partition(".")[0]}.intersection(kinds):
                found.setdefault(kind, []).append(datetime.fromisoformat(event["eventTime"]))
    return found


def waited(launches: Sequence[datetime], boot: timedelta, spare: int) -> int:
    """Return how many of these launches a person waited for, with so many spare machines: those of
    which as many others as there are spare ones came within the time of a boot before."""
    times = sorted(launches)
    if not spare:
        return len(times)
    # The spare machine that an earlier launch took is replaced after a boot.
    return sum(later - earlier < boot for earlier, later in zip(times, times[spare:], strict=False))


def lines(launches: Launches, kind: str, boot: timedelta, price: MachinePrices) -> Iterator[str]:
    """Lines for a terminal: a table of minutes waited and dollars by number of spare machines."""
    times, minutes = launches.by_kind.get(kind, []), boot / timedelta(minutes=1)
    if not times:
        yield f"nobody launched {kind} in the last seven days"
        return
    yield (
        f"who waited for {kind} in the last seven days, by CloudTrail: {len(times)} launches, a "
        f"boot of {minutes:.0f} minutes, {price.type or 'price not known'}"
    )
    rows = [_HEADS]
    for spare in range(MOST_SPARE + 1):
        count = waited(times, boot, spare)
        usd = None if price.hour is None else spare * price.hour * (_WEEK / timedelta(hours=1))
        mean = minutes * count / len(times)
        rows.append((str(spare), f"{count} of {len(times)}", f"{mean:.1f} min", units.dollars(usd)))
    for line in columns.aligned(rows):
        yield f"  {line}"
