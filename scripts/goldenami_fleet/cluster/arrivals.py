"""A week of people who need a machine: the last one as CloudTrail recorded it, or a made-up one."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

from goldenami.aws.calls import pages
from goldenami.aws.regions import in_parallel
from goldenami.aws.session import Account, Client
from goldenami.core import clock

from goldenami_fleet.cluster.waiting import WEEK_H, Visit

MOST_EVENTS = 1000
"""Events of each kind that are read: LookupEvents returns 50 at a time, and allows two calls a
second."""
_PEOPLE, _SEED = 8, 31
_DAY_H = 24.0
_COMES, _STAYS_H, _OVERNIGHT = (9.0, 0.75), 4.0, 0.15
"""A made-up day: the hour at which people come, with its standard deviation; how many hours they
stay on average; and the share of them that leave a job for the night."""


@dataclass(frozen=True)
class Trace:
    """The visits of each family or type, in hours after `begins`; `source` describes where they are
    from."""

    begins: datetime
    visits: dict[str, list[Visit]]
    source: str


def read(account: Account, region: str, kinds: Iterable[str], zone: str) -> Trace:
    """Return the launches of the last seven days in the region, by family or type. If CloudTrail
    has none, or cannot be read, return a made-up week in the time zone `zone`."""
    now, names = clock.now(), list(kinds)
    begins = now - timedelta(hours=WEEK_H)
    quick_account = account.with_short_timeouts()
    answers = in_parallel(
        {region: lambda: _launches(quick_account.client("cloudtrail", region), begins, now, names)}
    )
    launches = answers.done.get(region, {})
    if launches:
        return Trace(begins, launches, "CloudTrail's launches of the last seven days")
    cause = answers.causes.get(
        region, f"CloudTrail has no launch of {', '.join(names)} in seven days"
    )
    today = now.astimezone(ZoneInfo(zone)).replace(hour=0, minute=0, second=0)
    return Trace(
        today - timedelta(days=today.weekday()),
        {name: made_up() for name in names},
        f"a made-up week of {_PEOPLE} people ({cause})",
    )


def made_up() -> list[Visit]:
    """Return visits on five days: people come in the morning, and some leave a job for the
    night."""
    # A fixed seed, so that each run shows the same week.
    dice = random.Random(_SEED)  # noqa: S311 - a week to look at, and no secret
    visits = []
    for day in range(5):
        for _ in range(_PEOPLE):
            comes = _DAY_H * day + dice.gauss(*_COMES)
            stays = _DAY_H / 2 if dice.random() < _OVERNIGHT else dice.expovariate(1 / _STAYS_H)
            visits.append(Visit(round(comes, 3), round(max(0.25, stays), 3)))
    return sorted(visits, key=lambda visit: visit.at_h)


def peak(visits: list[Visit]) -> int:
    """Return the highest number of machines in use at once."""
    # -1 sorts before 1: a visit that ends frees its machine for one that begins then.
    changes = sorted(
        [
            *((visit.at_h, 1) for visit in visits),
            *((visit.at_h + visit.hours, -1) for visit in visits),
        ]
    )
    highest = in_use = 0
    for _, change in changes:
        in_use += change
        highest = max(highest, in_use)
    return highest


def _launches(
    cloudtrail: Client, begins: datetime, now: datetime, kinds: list[str]
) -> dict[str, list[Visit]]:
    end_times = {
        machine["instanceId"]: when
        for when, machine in _event_machines(cloudtrail, "TerminateInstances", begins)
    }
    visits: dict[str, list[Visit]] = {}
    for start, machine in _event_machines(cloudtrail, "RunInstances", begins):
        instance_type = machine.get("instanceType", "")
        for kind in {instance_type, instance_type.partition(".")[0]}.intersection(kinds):
            # A machine without a termination still runs.
            end = end_times.get(machine["instanceId"], now)
            hours = [duration.total_seconds() / 3600 for duration in (start - begins, end - start)]
            visits.setdefault(kind, []).append(Visit(hours[0], max(0.0, hours[1])))
    return visits


def _event_machines(
    cloudtrail: Client, name: str, begins: datetime
) -> Iterator[tuple[datetime, dict[str, Any]]]:
    """Yield time and machine of each event of that name. A refused call has no machines."""
    rows = pages(
        cloudtrail,
        "lookup_events",
        "Events",
        StartTime=begins,
        LookupAttributes=[{"AttributeKey": "EventName", "AttributeValue": name}],
    )
    for row in islice(rows, MOST_EVENTS):
        event = json.loads(row["CloudTrailEvent"])
        instances_set = (event.get("responseElements") or {}).get("instancesSet") or {}
        for machine in instances_set.get("items", []):
            yield datetime.fromisoformat(event["eventTime"]), machine
