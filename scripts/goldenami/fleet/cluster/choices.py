"""A week under a group's setting of today and under three others, for who has to choose."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import timedelta

from goldenami.core import units
from goldenami.core.terminal import columns
from goldenami.fleet.cluster import arrivals, waiting
from goldenami.fleet.cluster.arrivals import Trace
from goldenami.fleet.cluster.cluster_costs import MachinePrices
from goldenami.fleet.cluster.cluster_template import FamilyGroup
from goldenami.fleet.cluster.waiting import WEEK_H, Setting, Times
from goldenami.fleet.costs.region_advice import MONTH_H
from goldenami.model.operation import working_hours
from goldenami.model.operation.cluster_section import ClusterSection
from goldenami.model.operation.working_hours import WorkingHours

OTHERS = 3
_USUAL = (working_hours.parse("Mon-Fri 08:00-19:00 UTC"),)
_HEADS = ("setting", "mean wait", "longest", "waited", "machine hours", "a week")


def settings(
    group: FamilyGroup,
    section: ClusterSection | None,
    trace: Trace,
    least: int,
    most: int,
) -> list[Setting]:
    """Today's, and the first three others that differ from it. `least` and `most` are the
    group's."""
    visits, ahead = trace.visits.get(group.family, []), group.ahead
    calendar = section.calendar if section and section.hours else _USUAL
    usual = ahead.working_hours or max(1, math.ceil(arrivals.peak(visits) / 2))
    room = max(most, arrivals.peak(visits) + 1)
    always = ((0.0, least),)
    opened = _changes(calendar, section, trace, least, usual)
    hours = ", ".join(each.text for each in calendar)
    own = ", ".join(
        f"{count} {what}"
        for count, what in (
            (ahead.working_hours, "in working hours"),
            (ahead.spare, "spare"),
            (ahead.stopped, "stopped"),
        )
        if count
    )
    today = Setting(
        f"today: {own or 'nothing ahead'}, at most {most}",
        most,
        opened if ahead.working_hours else always,
        ahead.spare,
        ahead.stopped,
    )
    other = [
        Setting(f"nothing ahead, at most {room}", room, always),
        Setting(f"1 spare, at most {room}", room, always, 1),
        Setting(f"{usual} during {hours}, at most {room}", room, opened),
        Setting(f"these and 1 spare, at most {room}", room, opened, 1),
    ]
    same = (today.most, today.least, today.spare, today.stopped)
    kept = [each for each in other if (each.most, each.least, each.spare, each.stopped) != same]
    return [today, *kept[:OTHERS]]


def _changes(
    calendar: tuple[WorkingHours, ...],
    section: ClusterSection | None,
    trace: Trace,
    least: int,
    during: int,
) -> tuple[tuple[float, int], ...]:
    """From which hour of the trace on how many machines run at least."""
    holidays = section.holidays if section else []
    until = trace.begins + timedelta(hours=WEEK_H)
    moments = [
        (moment, count)
        for hours in calendar
        for opening in hours.openings(trace.begins, until, holidays)
        for moment, count in zip(opening, (during, least), strict=True)
    ]
    return (
        (0.0, least),
        *(
            ((moment - trace.begins) / timedelta(hours=1), count)
            for moment, count in sorted(moments)
        ),
    )


def show(
    group: FamilyGroup,
    section: ClusterSection | None,
    trace: Trace,
    price: MachinePrices,
    bounds: Mapping[str, int],
) -> Iterator[str]:
    """A table: minutes waited and dollars by setting. `bounds`: MinInstances, MaxInstances and
    WarmUpSeconds."""
    times = Times(boot_h=bounds["WarmUpSeconds"] / 3600)
    visits = trace.visits.get(group.family, [])
    yield (
        f"a week of {group.family}: {len(visits)} people or jobs, a boot of "
        f"{times.boot_h * 60:.0f} minutes ({times.wake_h * 60:g} from stopped), "
        f"{price.type or 'price not known'}"
    )
    rows = []
    for setting in settings(group, section, trace, bounds["MinInstances"], bounds["MaxInstances"]):
        found = waiting.simulate(visits, setting, times)
        usd = None if price.hour is None else found.machine_h * price.hour
        if setting.stopped and usd is not None:
            usd += setting.stopped * (price.stopped_month or 0.0) * WEEK_H / MONTH_H
        rows.append(
            (
                setting.name,
                f"{found.mean_min:.1f} min",
                f"{found.longest_min:.0f} min",
                f"{found.waited} of {found.visits}",
                f"{found.machine_h:.0f}",
                units.dollars(usd),
            )
        )
    yield from (f"  {line}" for line in columns.aligned([_HEADS, *rows]))
