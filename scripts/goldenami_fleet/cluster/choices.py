"""Compare a group's present setting with three others over a week: who waits, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import timedelta

from goldenami.core import units
from goldenami.core.terminal import columns
from goldenami.model.operation import working_hours
from goldenami.model.operation.cluster_section import ClusterSection, MachinesAhead
from goldenami.model.operation.working_hours import WorkingHours

from goldenami_fleet.cluster import arrivals, waiting
from goldenami_fleet.cluster.arrivals import Trace
from goldenami_fleet.cluster.cluster_costs import MachinePrices
from goldenami_fleet.cluster.cluster_template import MachineGroup
from goldenami_fleet.cluster.waiting import WEEK_H, Setting, Times
from goldenami_fleet.costs.region_advice import MONTH_H

OTHERS = 3
_USUAL = (working_hours.parse("Mon-Fri 08:00-19:00 UTC"),)
_HEADS = ("setting", "mean wait", "longest", "waited", "machine hours", "a week")


def settings(
    group: MachineGroup,
    section: ClusterSection | None,
    trace: Trace,
    least: int,
    most: int,
) -> list[Setting]:
    """Return the present setting, and the first three others that differ from it. `least` and
    `most` are the group's limits."""
    visits, ahead = trace.visits.get(group.kind, []), group.ahead
    calendar = section.calendar if section and section.hours else _USUAL
    usual = ahead.working_hours or max(1, math.ceil(arrivals.peak(visits) / 2))
    enough_machines = max(most, arrivals.peak(visits) + 1)
    always = ((0.0, least),)
    in_working_hours = _changes(calendar, section, trace, least, usual)
    hours = ", ".join(span.text for span in calendar)
    today = Setting(
        f"today: {_ahead_text(ahead)}, at most {most}",
        most,
        in_working_hours if ahead.working_hours else always,
        ahead.spare,
        ahead.stopped,
    )
    candidates = [
        Setting(f"nothing ahead, at most {enough_machines}", enough_machines, always),
        Setting(f"1 spare, at most {enough_machines}", enough_machines, always, 1),
        Setting(
            f"{usual} during {hours}, at most {enough_machines}", enough_machines, in_working_hours
        ),
        Setting(
            f"these and 1 spare, at most {enough_machines}", enough_machines, in_working_hours, 1
        ),
    ]
    today_values = (today.most, today.least, today.spare, today.stopped)
    different = [
        setting
        for setting in candidates
        if (setting.most, setting.least, setting.spare, setting.stopped) != today_values
    ]
    return [today, *different[:OTHERS]]


def _ahead_text(ahead: MachinesAhead) -> str:
    parts = list[str]()
    if ahead.working_hours:
        parts.append(f"{ahead.working_hours} in working hours")
    if ahead.spare:
        parts.append(f"{ahead.spare} spare")
    if ahead.stopped:
        parts.append(f"{ahead.stopped} stopped")
    return ", ".join(parts) or "nothing ahead"


def _changes(
    calendar: tuple[WorkingHours, ...],
    section: ClusterSection | None,
    trace: Trace,
    least: int,
    least_open: int,
) -> tuple[tuple[float, int], ...]:
    """Return the least number of running machines, with the hour of the trace from which it
    holds."""
    holidays = section.holidays if section else []
    until = trace.begins + timedelta(hours=WEEK_H)
    changes = list[tuple[float, int]]()
    for hours in calendar:
        for opens, closes in hours.openings(trace.begins, until, holidays):
            changes.append(((opens - trace.begins) / timedelta(hours=1), least_open))
            changes.append(((closes - trace.begins) / timedelta(hours=1), least))
    return ((0.0, least), *sorted(changes))


def lines(
    group: MachineGroup,
    section: ClusterSection | None,
    trace: Trace,
    price: MachinePrices,
    bounds: Mapping[str, int],
) -> Iterator[str]:
    """Lines for a terminal: a table of minutes waited and dollars by setting. `bounds` has
    MinInstances, MaxInstances and WarmUpSeconds."""
    times = Times(boot_h=bounds["WarmUpSeconds"] / 3600)
    visits = trace.visits.get(group.kind, [])
    yield (
        f"a week of {group.kind}: {len(visits)} people or jobs, a boot of "
        f"{times.boot_h * 60:.0f} minutes ({times.wake_h * 60:g} from stopped), "
        f"{price.type or 'price not known'}"
    )
    rows = []
    for setting in settings(group, section, trace, bounds["MinInstances"], bounds["MaxInstances"]):
        outcome = waiting.simulate(visits, setting, times)
        usd = None if price.hour is None else outcome.machine_h * price.hour
        if setting.stopped and usd is not None:
            usd += setting.stopped * (price.stopped_month or 0.0) * WEEK_H / MONTH_H
        rows.append(
            (
                setting.name,
                f"{outcome.mean_min:.1f} min",
                f"{outcome.longest_min:.0f} min",
                f"{outcome.waited} of {outcome.visits}",
                f"{outcome.machine_h:.0f}",
                units.dollars(usd),
            )
        )
    for line in columns.aligned([_HEADS, *rows]):
        yield f"  {line}"
