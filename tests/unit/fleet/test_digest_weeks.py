"""Weeks of a digest across years and changes of clocks, and which of them cost too much."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from goldenami.aws.pricing.billing import CostAnomaly
from goldenami.model.builds.build_records import Outcome
from goldenami.model.builds.security_records import CveRecord, Feed, Vulnerability
from goldenami.model.supported import support
from goldenami.model.supported.scales import Rating
from goldenami_fleet.digest import from_records, weeks
from goldenami_fleet.digest.findings import DigestFinding, Kind, saving
from goldenami_fleet.digest.weeks import Week
from support.builds import digest_data, report_data
from support.builds.tools import ROOT


@pytest.mark.parametrize(
    ("moment", "name"),
    [
        ("2026-12-01T06:23+00:00", "2026-W48"),
        ("2026-11-30T00:00+00:00", "2026-W48"),
        ("2026-11-29T23:59+00:00", "2026-W47"),
        ("2026-11-29T20:00-05:00", "2026-W48"),
        ("2027-01-05T06:23+00:00", "2026-W53"),
        ("2027-01-12T06:23+00:00", "2027-W01"),
    ],
)
def test_the_week_is_the_last_that_was_over(moment: str, name: str) -> None:
    assert Week.before(datetime.fromisoformat(moment)).name == name


def test_names_sort_as_weeks_do_and_clocks_change_nothing() -> None:
    """Two years of mornings in Berlin: each Tuesday has a week of its own, of 168 hours."""
    tuesdays = [
        datetime(2026, 1, 6, 7, tzinfo=ZoneInfo("Europe/Berlin")) + number * weeks.WEEK
        for number in range(104)
    ]
    seen = [Week.before(tuesday) for tuesday in tuesdays]
    assert [week.name for week in seen] == sorted({week.name for week in seen})
    assert {(week.end - week.begin) / timedelta(hours=1) for week in seen} == {168.0}


@pytest.mark.parametrize(
    ("usd", "dear"),
    [
        ([700, 700, 700, 700, 900], [4]),
        ([700, 700, 700, 700, 835], []),  # +19 %
        ([70, 70, 70, 70, 94], []),  # $24 more
        ([200, 700, 700, 700, 710], []),  # holidays four weeks earlier
        ([700, 700, 200, 200, 710, 700], []),
        ([700, 700, 700, 700, 900, 900, 900], [4]),
        ([0, 700, 700, 700, 700], []),
        ([700] * 4, []),
        ([700] * 8 + [900] + [700] * 4, []),
    ],
)
def test_a_week_is_dear_against_each_of_the_four_before(usd: list[float], dear: list[int]) -> None:
    last = Week(date(2026, 11, 23))
    first = last.back(len(usd) - 1).monday
    days = {
        first + timedelta(weeks=number, days=2): {"S3": 1.0 * each}
        for number, each in enumerate(usd)
        if each
    }
    found = [one.stage for one in weeks.overspent(weeks.spent(last, days))]
    assert found == [last.back(len(usd) - 1 - number).name for number in dear]


def bills(weekly: list[float], fee: float = 0.0) -> list[list[str]]:
    """Of which weeks each of so many digests tells, by a bill whose days cost a seventh of their
    week, with a fee on each 1st."""
    first = date(2026, 1, 5)
    days = {
        first + timedelta(days=day): {"EC2": weekly[day // 7] / 7} for day in range(7 * len(weekly))
    }
    for day, services in days.items():
        services |= {"Support": fee} if fee and day.day == 1 else {}
    told = list[list[str]]()
    for number in range(len(weekly)):
        week = Week(first + number * weeks.WEEK)
        known = {
            day: services
            for day, services in days.items()
            if week.back(weeks.WEEKS - 1).monday.replace(day=1) <= day < week.end.date()
        }
        told.append([one.stage for one in weeks.overspent(weeks.spent(week, known))])
    return told


def test_a_fee_of_each_month_is_no_overspending() -> None:
    """Two years with what support costs on each 1st; what costs more from a 1st on is told."""
    assert not any(bills([700.0] * 104, fee=300.0))
    risen = [700.0] * 8 + [1400.0] * 5  # 2026-03-02 is the first Monday of the dearer ones
    assert bills(risen)[8] == ["2026-W10"]


@pytest.mark.parametrize("percent", [6, 15])
def test_growth_by_little_each_week_is_told_once_in_four(percent: int) -> None:
    said = bills([700 * (1 + percent / 100) ** number for number in range(40)])
    for digest in said[12:]:
        assert len(digest) == 1, "of the four weeks that a digest looks at"
    assert len({week for digest in said[12:] for week in digest}) in (7, 8)
    for before in range(8, 12):
        step = bills([700.0] * before + [900.0] * 12)
        assert len({week for digest in step for week in digest}) == 1, "told as it came"
    holidays = [700.0] * 10 + [200.0] * 3 + [700.0] * 14
    assert not any(bills(holidays))


def vulnerability(number: int, **changes: Any) -> Vulnerability:
    return Vulnerability(
        id=f"CVE-2026-{number}", feed=Feed.DEBIAN, part="linux", version="6.1", rating=Rating.HIGH
    ).model_copy(update=changes)


def vulnerable(*found: Vulnerability) -> list[DigestFinding]:
    return list(
        from_records.vulnerable(
            {
                "ml": [
                    CveRecord(
                        image="ml",
                        build_id="0" * 12,
                        lock_sha256="0" * 64,
                        checked_at="2026-01-01T00:00:00Z",
                        fail_on=Rating.CRITICAL,
                        feeds=[],
                        findings=list(found),
                        warnings=[],
                        outcome=Outcome.UNREACHABLE,
                    )
                ]
            }
        )
    )


def test_vulnerabilities_are_one_finding_for_each_package_and_remedy() -> None:
    many = [vulnerability(number) for number in range(9000, 9040)]
    [one] = vulnerable(*many)
    assert one.subject == "ml linux" and "nothing mends this yet" in one.what
    assert "CVE-2026-9039, CVE-2026-9038, CVE-2026-9037 and 37 more, high" in one.what
    assert "without" not in one.todo and "waive it" in one.todo
    [again] = vulnerable(*many[1:])
    assert again.key == one.key, "one that was waived is no news"
    for news in (vulnerability(10000), vulnerability(9039, exploited=True)):
        [other] = vulnerable(*many[:-1], news)
        assert other.key != one.key and news.id in other.what
    first, second = vulnerable(*many, vulnerability(1, fix="6.2"))
    assert first.key == one.key and "6.2 mends this" in second.what


def test_a_branch_ends_once_whatever_its_point_release() -> None:
    def keys(kernel: str) -> set[str]:
        lock = report_data.lock(kernel={"release": kernel, "version": "1", "package": "x"})
        return {
            one.key
            for one in from_records.ended({"ml": support.of_lock(ROOT, lock)}, date(2035, 1, 1))
        }

    assert keys("6.12.1-1-cloud") == keys("6.12.2-1-cloud") != keys("6.1.2-1-cloud")


def test_an_anomaly_has_dollars_of_no_week() -> None:
    [one] = from_records.anomalies([CostAnomaly(id="a", begins="2026-01-01", usd=70.5, cause="c")])
    assert one.usd_week is None and "$70.50 more than expected since 2026-01-01" in one.what


def test_urgency_and_what_could_be_saved_are_said() -> None:
    """An hour of a machine that is idle and too large counts once, and its disk beside it."""

    def one(kind: Kind, usd: float | None, subject: str = "m") -> DigestFinding:
        return DigestFinding(kind=kind, subject=subject, what="w", todo="t", usd_week=usd)

    assert (
        saving(
            [
                one(Kind.IDLE, 30.0),
                one(Kind.UNDERUSED, 50.0),
                one(Kind.EMPTY_DISK, 2.0),
                one(Kind.UNUSED, 1.0, "b"),
                one(Kind.HELD, None, "h"),
                one(Kind.OVERSPENT, 900.0),
                one(Kind.ANOMALY, 900.0, "a"),
            ]
        )
        == 53.0
    )
    said = digest_data.text()
    assert "up to $3,568.50 a week could be saved" in said.splitlines()[0]
    order = [said.index(word) for word in ("\nNow:\n- ", "\nSoon:\n- ")]
    assert order == sorted(order)
    page = digest_data.page()
    for number, words in enumerate(("Now", "Soon", "When there is time")):
        assert f'class="urgency-{number}">{words}<' in page


def test_the_site_holds_what_strangers_wrote_as_text() -> None:
    page = digest_data.page("<b>x")
    assert "<b>x" not in page and "&lt;b&gt;x" in page
    said = digest_data.page()
    assert "reservations are used to 71 % in the last 30 days, and cover 44 % of the need" in said
    assert "saves $75.00 a month; begin with 50 % of it" in said and "before you buy: one" in said
