"""Weeks of a digest across years and changes of clocks, and which of them cost too much."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from goldenami.fleet.digest import weeks
from goldenami.fleet.digest.weeks import Week
from support.builds import digest_data


@pytest.mark.parametrize(("moment", "name"), [
    ("2026-12-01T06:23+00:00", "2026-W48"), ("2026-11-30T00:00+00:00", "2026-W48"),
    ("2026-11-29T23:59+00:00", "2026-W47"), ("2026-11-29T20:00-05:00", "2026-W48"),
    ("2027-01-05T06:23+00:00", "2026-W53"), ("2027-01-12T06:23+00:00", "2027-W01")])
def test_the_week_is_the_last_that_was_over(moment: str, name: str) -> None:
    assert Week.before(datetime.fromisoformat(moment)).name == name


def test_names_sort_as_weeks_do_and_clocks_change_nothing() -> None:
    """Two years of mornings in Berlin: each Tuesday has a week of its own, of 168 hours."""
    tuesdays = [datetime(2026, 1, 6, 7, tzinfo=ZoneInfo("Europe/Berlin")) + number * weeks.WEEK
                for number in range(104)]
    seen = [Week.before(tuesday) for tuesday in tuesdays]
    assert [week.name for week in seen] == sorted({week.name for week in seen})
    assert {(week.end - week.begin) / timedelta(hours=1) for week in seen} == {168.0}


@pytest.mark.parametrize(("usd", "dear"), [
    ([700, 700, 700, 700, 900], [4]), ([700, 700, 700, 700, 835], []),  # +19 %
    ([70, 70, 70, 70, 94], []),  # $24 more
    ([200, 700, 700, 700, 710], []),  # holidays four weeks earlier
    ([700, 700, 200, 200, 710, 700], []), ([700, 700, 700, 700, 900, 900, 900], [4]),
    ([0, 700, 700, 700, 700], []), ([700] * 4, []), ([700] * 8 + [900] + [700] * 4, []),
])
def test_a_week_is_dear_against_each_of_the_four_before(usd: list[float], dear: list[int]) -> None:
    last = Week(date(2026, 11, 23))
    first = last.back(len(usd) - 1).monday
    days = {first + timedelta(weeks=number, days=2): {"S3": 1.0 * each}
            for number, each in enumerate(usd) if each}
    found = [one.stage for one in weeks.overspent(weeks.spent(last, days))]
    assert found == [last.back(len(usd) - 1 - number).name for number in dear]


def test_pages_hold_what_strangers_wrote_as_text() -> None:
    for page in (digest_data.page("<b>x"), digest_data.review("<b>x")):
        assert "<b>x" not in page and "&lt;b&gt;x" in page
    said = digest_data.page()
    assert "reservations are used to 71 % in the last 30 days, and cover 44 % of the need" in said
    assert "saves $75.00 a month; begin with 50 % of it" in said and "before you buy: one" in said
