"""Weeks as a digest counts them, Monday to Sunday in UTC, and what was spent in each. Pure."""

from __future__ import annotations

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


def spent(week: Week, days: Mapping[date, Mapping[str, float]]) -> list[WeekSpent]:
    """The weeks of a bill up to `week`, the oldest first; those before the first dollar are left
    out: the account has no history of them."""
    found = list[WeekSpent]()
    for each in (week.back(number) for number in range(WEEKS - 1, -1, -1)):
        services: dict[str, float] = {}
        for day in range(7):
            for service, usd in days.get(each.monday + timedelta(days=day), {}).items():
                services[service] = services.get(service, 0.0) + usd
        if found or services:
            found.append(WeekSpent(week=each.name, services=services))
    return found


def overspent(weeks: list[WeekSpent]) -> Iterator[DigestFinding]:
    """Weeks that cost much more than each of the four before, against the first of them, with the
    service that grew most. Weeks of holidays among the four make no other week dear."""
    for number in range(max(BEFORE, len(weeks) - MISSED), len(weeks)):
        now, (before, *others) = weeks[number], weeks[number - BEFORE:number]
        most = max(before.usd, *(each.usd for each in others))
        if now.usd - most < max(MORE_USD, most * MORE_PERCENT / 100) or not before.usd:
            continue
        grew = {service: usd - before.services.get(service, 0.0)
                for service, usd in now.services.items()}
        by = max(grew, key=lambda service: grew[service])
        yield DigestFinding(
            kind=Kind.OVERSPENT, subject="the account", stage=now.week,
            usd_week=round(now.usd - before.usd, 2),
            what=f"{units.dollars(now.usd)} in {now.week}, {units.dollars(before.usd)} in "
                 f"{before.week} ({units.change(now.usd, before.usd)}); most by {by}: "
                 f"{units.dollars(grew[by])} more",
            todo="`golden costs --by account,region,type,owner` says by whom")
