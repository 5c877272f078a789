"""Weeks as a digest counts them, Monday to Sunday in UTC, and what each cost. Pure."""

from __future__ import annotations

import calendar
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from goldenami.core import units
from goldenami.core.records import Record

from goldenami_fleet.digest.findings import DigestFinding, Kind

WEEK = timedelta(days=7)
BEFORE = 4
"""Weeks back to the week to compare with, called the same week of the month before."""
WEEKS = 13
"""Weeks of bills that are read: a quarter, for the chart."""
MISSED = 4
"""Weeks that are checked for overspending: if runs were missed, their weeks are reported late."""
MORE_PERCENT, MORE_USD = 20.0, 25.0
"""A week is reported if it exceeds the weeks before by this percentage and by these US dollars."""


@dataclass(frozen=True)
class Week:
    """The week that begins on this Monday at 00:00 UTC. It always has 168 hours: UTC has no summer
    time."""

    monday: date

    @classmethod
    def before(cls, moment: datetime) -> Week:
        """Return the last week that had ended at `moment`."""
        day = moment.astimezone(UTC).date()
        return cls(day - timedelta(days=day.weekday()) - WEEK)

    def back(self, weeks: int) -> Week:
        return Week(self.monday - weeks * WEEK)

    @property
    def name(self) -> str:
        """The name by ISO 8601, such as `2026-W48`. Names sort by time."""
        year, week, _ = self.monday.isocalendar()
        return f"{year}-W{week:02}"

    @property
    def begin(self) -> datetime:
        return datetime(self.monday.year, self.monday.month, self.monday.day, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """The first moment after the week."""
        return self.begin + WEEK


class WeekSpent(Record):
    """US dollars of one week by service."""

    week: str
    services: dict[str, float]

    @property
    def usd(self) -> float:
        return sum(self.services.values())

    @property
    def is_fourth(self) -> bool:
        """Whether this is one of every four weeks, the same ones in each digest: slow growth is
        reported once in four weeks."""
        return int(self.week[-2:]) % BEFORE == 0


def spent(week: Week, days: Mapping[date, Mapping[str, float]]) -> list[WeekSpent]:
    """Return the weeks of a bill up to `week`, the oldest first, from the first week with a bill
    on."""
    days, weeks = _with_fees_spread(days), list[WeekSpent]()
    for number in range(WEEKS - 1, -1, -1):
        earlier_week = week.back(number)
        services: dict[str, float] = {}
        for day in range(7):
            for service, usd in days.get(earlier_week.monday + timedelta(days=day), {}).items():
                services[service] = services.get(service, 0.0) + usd
        if weeks or services:
            weeks.append(WeekSpent(week=earlier_week.name, services=services))
    return weeks


def _with_fees_spread(days: Mapping[date, Mapping[str, float]]) -> dict[date, dict[str, float]]:
    """Return the days with monthly fees spread over their month. A fee is what a service bills on a
    1st beyond the days next to it: support, licences and taxes are not spent on that day alone."""
    spread = {day: dict(services) for day, services in days.items()}
    for first in days:
        if first.day != 1:
            continue
        neighbours = [days.get(first + timedelta(days=step), {}) for step in (-1, 1)]
        length = calendar.monthrange(first.year, first.month)[1]
        for service, usd in days[first].items():
            # The 1st also has its share of daily costs, about what the dearer neighbour cost.
            fee = max(0.0, usd - max(neighbour.get(service, 0.0) for neighbour in neighbours))
            if not fee:
                continue
            spread[first][service] -= fee
            for offset in range(length):
                day_services = spread.setdefault(first + timedelta(days=offset), {})
                day_services[service] = day_services.get(service, 0.0) + fee / length
    return spread


def overspent(weeks: list[WeekSpent]) -> Iterator[DigestFinding]:
    """Yield the weeks that cost much more than each of the four before. Every fourth week is also
    compared with each of the four weeks that ended a month ago, which shows slow growth. A finding
    names the same week of the month before and the service that grew most."""
    # Compared with each of the four weeks: a cheap week of holidays makes no other week expensive.
    jumps = {
        number
        for number in range(BEFORE, len(weeks))
        if _exceeds(weeks[number], weeks[number - BEFORE : number])
    }
    for number in range(max(BEFORE, len(weeks) - MISSED), len(weeks)):
        before = weeks[number - BEFORE]
        if before.usd and (number in jumps or _has_grown(weeks, number, jumps)):
            yield _overspending(weeks[number], before)


def _has_grown(weeks: list[WeekSpent], number: int, jumps: set[int]) -> bool:
    """Whether this is a fourth week that cost much more than each of the four weeks that ended a
    month ago, and none of the last four jumped."""
    last_four = range(number - BEFORE + 1, number + 1)
    return (
        weeks[number].is_fourth
        and jumps.isdisjoint(last_four)
        and number >= 2 * BEFORE - 1
        and _exceeds(weeks[number], weeks[last_four.start - BEFORE : last_four.start])
    )


def _overspending(week: WeekSpent, before: WeekSpent) -> DigestFinding:
    growth = {
        service: usd - before.services.get(service, 0.0) for service, usd in week.services.items()
    }
    most_grown = max(growth, key=lambda service: growth[service])
    return DigestFinding(
        kind=Kind.OVERSPENT,
        subject="the account",
        stage=week.week,
        usd_week=round(week.usd - before.usd, 2),
        what=f"{units.dollars(week.usd)} in {week.week}, {units.dollars(before.usd)} in "
        f"{before.week} ({units.change(week.usd, before.usd)}); most by {most_grown}: "
        f"{units.dollars(growth[most_grown])} more",
        todo="`golden costs --by account,region,type,owner` says by whom",
    )


def _exceeds(week: WeekSpent, earlier: list[WeekSpent]) -> bool:
    highest = max(earlier_week.usd for earlier_week in earlier)
    return week.usd - highest >= max(MORE_USD, highest * MORE_PERCENT / 100)
