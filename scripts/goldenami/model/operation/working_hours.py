"""Hours of a week in a time zone, such as `Mon-Fri 08:00-19:00 Europe/Berlin`, without
holidays."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

from goldenami.core.yaml_lines import nearest

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
LEAD = timedelta(minutes=15)
"""Machines start so long before people do: a boot, drivers and containers."""
DAY_MIN = 24 * 60
_FORM = re.compile(r"(\w{3})(?:-(\w{3}))? (\d\d):(\d\d)-(\d\d):(\d\d) (\S+)")


@dataclass(frozen=True)
class WorkingHours:
    """`days` are numbers from Monday, 0, on; `opens` and `closes` are minutes of such a day in
    `zone`."""

    text: str
    days: tuple[int, ...]
    opens: int
    closes: int
    zone: str

    @property
    def lead_min(self) -> int:
        """Minutes from the start of machines to the hours. Those of whole days start a minute
        late, after the end of the day before: in a minute no machine is let go."""
        is_whole = (self.opens, self.closes) == (0, DAY_MIN) and len(self.days) > 1
        return -1 if is_whole else int(LEAD.total_seconds()) // 60

    @property
    def minutes_a_week(self) -> int:
        return len(self.days) * (self.closes - self.opens + self.lead_min)

    @property
    def starts(self) -> str:
        """A cron expression in the time zone."""
        return _cron(self.days, self.opens - self.lead_min)

    @property
    def ends(self) -> str:
        return _cron(self.days, self.closes)

    def openings(
        self, since: datetime, until: datetime, holidays: Collection[date]
    ) -> Iterator[tuple[datetime, datetime]]:
        """In UTC, the start ahead included."""
        day = since.astimezone(ZoneInfo(self.zone)).date()
        while self._start(day) < until:
            closes = self._at(day, timedelta(minutes=self.closes))
            if self._is_open(day, holidays) and since < closes:
                yield max(since, self._start(day)), min(until, closes)
            day += timedelta(days=1)

    def periods(
        self, holidays: Collection[date], now: datetime
    ) -> list[tuple[datetime | None, datetime | None]]:
        """When starts recur, from and until, in UTC: all time from `now` on without the holidays
        that have hours. None: without a bound.

        A period begins with a start: Auto Scaling acts at a StartTime whatever the recurrence says
        ("PutScheduledUpdateGroupAction").
        """
        begin: datetime | None = None
        next_start = self._next_start(now, holidays)
        found = []
        for day in sorted(each for each in set(holidays) if each.weekday() in self.days):
            stops = self._at(day, -LEAD)
            if self._start(day) < now:
                continue
            if next_start < stops:
                found.append((begin, stops))
            begin = next_start = self._next_start(stops, holidays)
        return [*found, (begin, None)]

    def _is_open(self, day: date, holidays: Collection[date]) -> bool:
        return day.weekday() in self.days and day not in holidays

    def _start(self, day: date) -> datetime:
        return self._at(day, timedelta(minutes=self.opens - self.lead_min))

    def _at(self, day: date, clock: timedelta) -> datetime:
        return (datetime.combine(day, time(), ZoneInfo(self.zone)) + clock).astimezone(UTC)

    def _next_start(self, moment: datetime, holidays: Collection[date]) -> datetime:
        day = moment.astimezone(ZoneInfo(self.zone)).date()
        while not self._is_open(day, holidays) or self._start(day) < moment:
            day += timedelta(days=1)
        return self._start(day)


@cache
def _zones() -> frozenset[str]:
    """Reading them takes a while."""
    return frozenset(available_timezones())


def _cron(days: tuple[int, ...], minutes: int) -> str:
    """Minute, hour and days from Sunday, 0, on; minutes beyond a day are of its neighbour."""
    shift, rest = divmod(minutes, DAY_MIN)
    shown = sorted((day + 1 + shift) % 7 for day in days)
    return f"{rest % 60} {rest // 60} * * {','.join(map(str, shown))}"


def parse(text: str) -> WorkingHours:
    """The hours; ValueError, in a person's words, for what are none."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError(
            f"`{text}` is not DAYS HH:MM-HH:MM ZONE, such as `Mon-Fri 08:00-19:00 Europe/Berlin`"
        )
    first, last, *clock, zone = match.groups()
    for name in (first, last or first):
        if name not in DAYS:
            raise ValueError(f"unknown day `{name}`; {nearest(name, DAYS)}")
    if zone not in _zones():
        raise ValueError(f"unknown time zone `{zone}`; {nearest(zone, _zones())}")
    begin, end = DAYS.index(first), DAYS.index(last or first)
    if end < begin:
        raise ValueError(f"`{text}`: {last} is before {first}; a week begins on Monday")
    hour, minute, to_hour, to_minute = map(int, clock)
    opens, closes = 60 * hour + minute, 60 * to_hour + to_minute
    if minute > 59 or to_minute > 59 or closes > DAY_MIN:
        raise ValueError(f"`{text}` has a time that no day has; the last is 24:00")
    if closes <= opens:
        raise ValueError(
            f"`{text}` ends before it begins; a job that runs on after the end is not "
            "ended, so nights need no hours"
        )
    return WorkingHours(text, tuple(range(begin, end + 1)), opens, closes, zone)


def clashes(hours: Collection[WorkingHours]) -> Iterator[str]:
    """Why these cannot stand together: where one ends, machines of another would be let go."""
    if len({each.zone for each in hours}) > 1:
        yield "name one time zone in all lines"
    lead = int(LEAD.total_seconds()) // 60
    slots = sorted(
        (day * DAY_MIN + each.opens - each.lead_min, day * DAY_MIN + each.closes, each.text)
        for each in hours
        for day in each.days
    )
    again = [(begin + 7 * DAY_MIN, end, text) for begin, end, text in slots[:1]]
    for (_, end, text), (begin, _, other) in pairwise([*slots, *again]):
        if begin < end:
            yield (
                f"less than {lead} minutes are between `{text}` and `{other}`, or its next day; "
                "write them as one, or let MinInstances run all day"
            )
