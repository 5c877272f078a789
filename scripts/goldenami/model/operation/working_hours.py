"""Working hours of a week in a time zone, such as `Mon-Fri 08:00-19:00 Europe/Berlin`, and their
schedule around holidays."""

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
"""How long before the hours machines start: time for a boot, drivers and containers."""
DAY_MIN = 24 * 60
_FORM = re.compile(r"(\w{3})(?:-(\w{3}))? (\d\d):(\d\d)-(\d\d):(\d\d) (\S+)")


@dataclass(frozen=True)
class WorkingHours:
    """Hours on `days`, which count from Monday, 0. `opens` and `closes` are minutes of a day in
    `zone`."""

    text: str
    days: tuple[int, ...]
    opens: int
    closes: int
    zone: str

    @property
    def lead_min(self) -> int:
        """Minutes from the start of machines to the hours; -1 for whole days."""
        # With whole days, one day's end and the next one's start coincide. A start one minute after
        # the end keeps their order, and no machine is let go within a minute.
        is_whole = (self.opens, self.closes) == (0, DAY_MIN) and len(self.days) > 1
        return -1 if is_whole else int(LEAD.total_seconds()) // 60

    @property
    def minutes_a_week(self) -> int:
        return len(self.days) * (self.closes - self.opens + self.lead_min)

    @property
    def starts(self) -> str:
        """The start of machines as a cron expression in the time zone."""
        return _cron(self.days, self.opens - self.lead_min)

    @property
    def ends(self) -> str:
        return _cron(self.days, self.closes)

    def periods(
        self, holidays: Collection[date], now: datetime
    ) -> list[tuple[datetime | None, datetime | None]]:
        """Return the periods, from and until, in which starts recur, in UTC: all time from `now` on
        but for the holidays that have hours. None means unbounded.
        """
        begin: datetime | None = None
        next_start = self._next_start(now, holidays)
        periods = []
        for day in sorted(holiday for holiday in set(holidays) if holiday.weekday() in self.days):
            stops = self._at(day, -LEAD)
            if self._start(day) < now:
                continue
            if next_start < stops:
                periods.append((begin, stops))
            # A period has to begin with a start: Auto Scaling acts at a StartTime whatever the
            # recurrence says ("PutScheduledUpdateGroupAction").
            begin = next_start = self._next_start(stops, holidays)
        return [*periods, (begin, None)]

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
    """Return the names of all time zones."""
    # Cached, since reading them takes a while.
    return frozenset(available_timezones())


def _cron(days: tuple[int, ...], minutes: int) -> str:
    """Return a cron expression with minute, hour and days, which count from Sunday, 0. Minutes
    before or after a day move it to its neighbour."""
    shift, rest = divmod(minutes, DAY_MIN)
    shown = sorted((day + 1 + shift) % 7 for day in days)
    return f"{rest % 60} {rest // 60} * * {','.join(map(str, shown))}"


def parse(text: str) -> WorkingHours:
    """Return the hours of a text. Raises ValueError with a message for the user if it has none."""
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
    first_day, last_day = DAYS.index(first), DAYS.index(last or first)
    if last_day < first_day:
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
    return WorkingHours(text, tuple(range(first_day, last_day + 1)), opens, closes, zone)


def clashes(hours: Collection[WorkingHours]) -> Iterator[str]:
    """Yield reasons why these hours do not go together."""
    if len({line.zone for line in hours}) > 1:
        yield "name one time zone in all lines"
    lead = int(LEAD.total_seconds()) // 60
    # At the end of one line the group lets machines go, also those that another line needs.
    slots = list[tuple[int, int, str]]()
    for line in hours:
        for day in line.days:
            midnight = day * DAY_MIN
            slots.append((midnight + line.opens - line.lead_min, midnight + line.closes, line.text))
    slots.sort()
    next_week = [(begin + 7 * DAY_MIN, end, text) for begin, end, text in slots[:1]]
    for (_, end, text), (begin, _, next_text) in pairwise([*slots, *next_week]):
        if begin < end:
            yield (
                f"less than {lead} minutes are between `{text}` and `{next_text}`, or its next "
                "day; write them as one, or let MinInstances run all day"
            )
