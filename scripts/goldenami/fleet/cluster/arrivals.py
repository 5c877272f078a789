"""A week of people who want a machine: as CloudTrail saw the last one, or a made-up one."""

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
from goldenami.fleet.cluster.waiting import WEEK_H, Visit

MOST_EVENTS = 1000
"""Of each kind: LookupEvents gives 50 at a time, twice a second."""
_PEOPLE, _SEED = 8, 31
_DAY_H = 24.0
_COMES, _STAYS_H, _OVERNIGHT = (9.0, 0.75), 4.0, 0.15
"""Of a made-up day: the hour at which people come, with its spread, for how long they stay on
average, and how many of them leave a job for the night."""


@dataclass(frozen=True)
class Trace:
    """`visits` of each family from `begins` on; `source` says where they are from."""

    begins: datetime
    visits: dict[str, list[Visit]]
    source: str


def read(account: Account, region: str, families: Iterable[str], zone: str) -> Trace:
    """The launches of the last seven days in the region, of these families; a made-up week of the
    time zone where there are none, or nobody may look.
    """
    now, names = clock.now(), list(families)
    begins = now - timedelta(hours=WEEK_H)
    hasty = account.with_short_timeouts()
    asked = in_parallel(
        {region: lambda: _launches(hasty.client("cloudtrail", region), begins, now, names)}
    )
    found = asked.done.get(region, {})
    if found:
        return Trace(begins, found, "CloudTrail's launches of the last seven days")
    why = asked.causes.get(region, f"CloudTrail has no launch of {', '.join(names)} in seven days")
    today = now.astimezone(ZoneInfo(zone)).replace(hour=0, minute=0, second=0)
    return Trace(
        today - timedelta(days=today.weekday()),
        {name: made_up() for name in names},
        f"a made-up week of {_PEOPLE} people ({why})",
    )


def made_up() -> list[Visit]:
    """Five days of people who come in the morning; some leave a job for the night."""
    dice = random.Random(_SEED)  # noqa: S311 - a week to look at, and no secret
    found = []
    for day in range(5):
        for _ in range(_PEOPLE):
            comes = _DAY_H * day + dice.gauss(*_COMES)
            stays = _DAY_H / 2 if dice.random() < _OVERNIGHT else dice.expovariate(1 / _STAYS_H)
            found.append(Visit(round(comes, 3), round(max(0.25, stays), 3)))
    return sorted(found, key=lambda each: each.at_h)


def peak(visits: list[Visit]) -> int:
    """Most machines that are in use at once."""
    changes = sorted(
        [*((each.at_h, 1) for each in visits), *((each.at_h + each.hours, -1) for each in visits)]
    )
    most = now = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most


def _launches(
    cloudtrail: Client, begins: datetime, now: datetime, families: list[str]
) -> dict[str, list[Visit]]:
    ended = {
        machine["instanceId"]: when
        for when, machine in _machines(cloudtrail, "TerminateInstances", begins)
    }
    found: dict[str, list[Visit]] = {}
    for began, machine in _machines(cloudtrail, "RunInstances", begins):
        family = machine.get("instanceType", "").partition(".")[0]
        if family in families:
            until = ended.get(machine["instanceId"], now)
            hours = [each.total_seconds() / 3600 for each in (began - begins, until - began)]
            found.setdefault(family, []).append(Visit(hours[0], max(0.0, hours[1])))
    return found


def _machines(
    cloudtrail: Client, name: str, begins: datetime
) -> Iterator[tuple[datetime, dict[str, Any]]]:
    """When each machine was in an event of that name; a call that was refused has none."""
    rows = pages(
        cloudtrail,
        "lookup_events",
        "Events",
        StartTime=begins,
        LookupAttributes=[{"AttributeKey": "EventName", "AttributeValue": name}],
    )
    for row in islice(rows, MOST_EVENTS):
        event = json.loads(row["CloudTrailEvent"])
        told = (event.get("responseElements") or {}).get("instancesSet") or {}
        for machine in told.get("items", []):
            yield datetime.fromisoformat(event["eventTime"]), machine
