"""Weeks as a digest counts them, Monday to Sunday in UTC, and what was spent in each. Pure."""

from __future__ import annotations

import calendar
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from goldenami.core import units
from goldenami.core.records import Record
from goldenami.fleet.digest.findings import DigestFinding, Kind

WEEK = timedelta(days=7)
BEFORE = 4
"""The same week of the month before is the one four weeks earlier: it has the same days."""
WEEKS = 13
"""Weeks of bills that are asked for: a quarter, for the chart."""
MISSED = 4
"""Weeks of overspending that are looked at: those of runs that did not happen are told late."""
MORE_PERCENT, MORE_USD = 20.0, 25.0
"""What a week costs more than those that it is held against, to be told: both."""


@dataclass(frozen=True)
class Week:
    """The week that begins on this Monday at 00:00 UTC: each has 168 hours, whatever clocks do."""

    monday: date

    @classmethod
    def before(cls, moment: datetime) -> Week:
        """The last week that was over at that moment."""
        day = moment.astimezone(UTC).date()
        return cls(day - timedelta(days=day.weekday()) - WEEK)

    def back(self, weeks: int) -> Week:
        return Week(self.monday - weeks * WEEK)

    @property
    def name(self) -> str:
        """By ISO 8601, `2026-W48`; later weeks sort behind earlier ones."""
        year, week, _ = self.monday.isocalendar()
        return f"{year}-W{week:02}"

    @property
    def begin(self) -> datetime:
        return datetime(self.monday.year, self.monday.month, self.monday.day, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """The first moment after it."""
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
        """The same weeks in each digest: what has grown is told once in four weeks."""
        return int(self.week[-2:]) % BEFORE == 0


def spent(week: Week, days: Mapping[date, Mapping[str, float]]) -> list[WeekSpent]:
    """The weeks of a bill up to `week`, the oldest first; those before the first dollar are left
    out: the account has no history of them."""
    days, found = _with_fees_spread(days), list[WeekSpent]()
    for each in (week.back(number) for number in range(WEEKS - 1, -1, -1)):
        services: dict[str, float] = {}
        for day in range(7):
            for service, usd in days.get(each.monday + timedelta(days=day), {}).items():
                services[service] = services.get(service, 0.0) + usd
        if found or services:
            found.append(WeekSpent(week=each.name, services=services))
    return found


def _with_fees_spread(days: Mapping[date, Mapping[str, float]]) -> dict[date, dict[str, float]]:
    """The days with what a service bills on a 1st, beyond the days beside it, spread over that
    month: support, licences and taxes are no more spent on that day than on others."""
    spread = {day: dict(services) for day, services in days.items()}
    for first in (day for day in days if day.day == 1):
        beside = [days.get(first + timedelta(days=step), {}) for step in (-1, 1)]
        length = calendar.monthrange(first.year, first.month)[1]
        for service, usd in days[first].items():
            fee = max(0.0, usd - max(each.get(service, 0.0) for each in beside))
            spread[first][service] -= fee
            for number in range(length if fee else 0):
                of_day = spread.setdefault(first + timedelta(days=number), {})
                of_day[service] = of_day.get(service, 0.0) + fee / length
    return spread


def overspent(weeks: list[WeekSpent]) -> Iterator[DigestFinding]:
    """Weeks that cost much more than each of the four before, or, every fourth week, than each of
    the four that ended a month ago: growth by little each week. Told against the same week of the
    month before, with the service that grew most. Weeks of holidays make no other week dear."""
    jumps = {
        number
        for number in range(BEFORE, len(weeks))
        if _is_dear(weeks[number], weeks[number - BEFORE : number])
    }
    for number in range(max(BEFORE, len(weeks) - MISSED), len(weeks)):
        now, before = weeks[number], weeks[number - BEFORE]
        last = range(number - BEFORE + 1, number + 1)
        has_grown = (
            now.is_fourth
            and jumps.isdisjoint(last)
            and number >= 2 * BEFORE - 1
            and _is_dear(now, weeks[last.start - BEFORE : last.start])
        )
        if not (number in jumps or has_grown) or not before.usd:
            continue
        grew = {
            service: usd - before.services.get(service, 0.0)
            for service, usd in now.services.items()
        }
        by = max(grew, key=lambda service: grew[service])
        yield DigestFinding(
            kind=Kind.OVERSPENT,
            subject="the account",
            stage=now.week,
            usd_week=round(now.usd - before.usd, 2),
            what=f"{units.dollars(now.usd)} in {now.week}, {units.dollars(before.usd)} in "
            f"{before.week} ({units.change(now.usd, before.usd)}); most by {by}: "
            f"{units.dollars(grew[by])} more",
            todo="`golden costs --by account,region,type,owner` says by whom",
        )


def _is_dear(now: WeekSpent, earlier: list[WeekSpent]) -> bool:
    most = max(each.usd for each in earlier)
    return now.usd - most >= max(MORE_USD, most * MORE_PERCENT / 100)
