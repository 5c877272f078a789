"""Hours of a calendar, who waits for a machine, and what of a cluster's or residency's section is
refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from goldenami.model.operation import working_hours
from goldenami.model.operation.cluster_section import ClusterSection
from goldenami_fleet.cluster import launches
from support.builds.definitions import IMAGE, edited, refused

BERLIN = working_hours.parse("Mon-Fri 08:00-19:00 Europe/Berlin")


@pytest.fixture(scope="module")
def shared(lockable: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout for all cases that put back what they edit."""
    return lockable(tmp_path_factory.mktemp("operation") / "checkout")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "starts", "ends"),
    [
        ("Mon-Fri 08:00-19:00 Europe/Berlin", "45 7 * * 1,2,3,4,5", "0 19 * * 1,2,3,4,5"),
        ("Sun 00:05-12:30 UTC", "50 23 * * 6", "30 12 * * 0"),  # its machines start on Saturday
        ("Sat-Sun 10:00-24:00 UTC", "45 9 * * 0,6", "0 0 * * 0,1"),
        # Whole days: each starts a minute after the one before has ended.
        ("Mon-Fri 00:00-24:00 UTC", "1 0 * * 1,2,3,4,5", "0 0 * * 2,3,4,5,6"),
    ],
)
def test_when_a_group_s_least_changes(text: str, starts: str, ends: str) -> None:
    hours = working_hours.parse(text)
    assert (hours.starts, hours.ends) == (starts, ends)


def test_whole_days_follow_one_another_and_leave_holidays_out() -> None:
    whole = working_hours.parse("Mon-Fri 00:00-24:00 UTC")
    assert not list(working_hours.clashes([whole]))
    assert whole.minutes_a_week == 5 * (24 * 60 - 1)
    monday, holiday = utc("2026-12-21T00:00"), date(2026, 12, 23)
    (_, stops), (begins, _) = whole.periods([holiday], monday)
    assert stops and begins
    assert utc("2026-12-22T00:01") < stops <= utc("2026-12-23T00:00")
    assert begins == utc("2026-12-24T00:01")


def test_a_holiday_may_stand_in_quotes() -> None:
    section = ClusterSection.model_validate(
        {
            "hours": [BERLIN.text],
            "holidays": ["2026-12-25", date(2027, 1, 1)],
            "machines": {"c7i": {"working_hours": 1}},
        }
    )
    assert section.holidays == [date(2026, 12, 25), date(2027, 1, 1)]


def test_holidays_part_the_starts() -> None:
    """One that is over, or on a day without hours, changes nothing; two in a row are one gap, up to
    the next day of work."""
    days = [
        date(2026, 12, 18),
        date(2026, 12, 24),
        date(2026, 12, 25),
        date(2026, 12, 26),
        date(2027, 1, 1),
    ]
    assert BERLIN.periods(days, utc("2026-12-20T12:00")) == [
        (None, utc("2026-12-23T22:45")),
        (utc("2026-12-28T06:45"), utc("2026-12-31T22:45")),
        (utc("2027-01-04T06:45"), None),
    ]
    assert BERLIN.periods([], utc("2026-12-20T12:00")) == [(None, None)]


@pytest.mark.parametrize(
    ("minutes", "waited"),
    [
        ([0], [1, 0, 0]),
        ([0, 5, 9, 60], [4, 2, 0]),
        ([9, 0, 60, 5], [4, 2, 0]),
        ([0, 0, 0, 6], [4, 2, 1]),  # after a boot it is replaced
        ([], [0, 0, 0]),
    ],
)
def test_who_waits_with_none_one_and_two_spare_machines(
    minutes: list[int], waited: list[int]
) -> None:
    """A boot takes six minutes."""
    times = [utc("2026-12-07T09:00") + timedelta(minutes=each) for each in minutes]
    boot = timedelta(minutes=6)
    assert [launches.waited(times, boot, spare) for spare in range(3)] == waited


HOURS = "hours: [Mon-Fri 08:00-19:00 Europe/Berlin]"
MACHINES = "machines: {c7i: {working_hours: 1}}"


@pytest.mark.parametrize(
    ("section", "complaint"),
    [
        (
            f"hours: [Mon-Fri 08:00-19:00 Europe/Berln], {MACHINES}",
            "cluster.hours: unknown time zone `Europe/Berln`; did you mean `Europe/Berlin`?",
        ),
        (f"hours: [Mon-Fri 19:00-08:00 UTC], {MACHINES}", "ends before it begins"),
        (f"hours: [Fri-Mon 08:00-19:00 UTC], {MACHINES}", "Mon is before Fri"),
        (f"hours: [Mon-Fri 08:00-25:00 UTC], {MACHINES}", "has a time that no day has"),
        (f"hours: [Mon-Fri 8-19], {MACHINES}", "is not DAYS HH:MM-HH:MM ZONE, such as"),
        (f"hours: [Mo-Fri 08:00-19:00 UTC], {MACHINES}", "is not DAYS HH:MM-HH:MM ZONE, such as"),
        (f"hours: [Mon-Sun 00:00-23:50 UTC], {MACHINES}", "less than 15 minutes are between"),
        (
            f"hours: [Mon-Fri 00:00-24:00 UTC, Sat 00:00-08:00 UTC], {MACHINES}",
            "less than 15 minutes are between",
        ),
        (
            f"hours: [Mon 08:00-12:00 UTC, Mon 13:00-15:00 Asia/Tokyo], {MACHINES}",
            "name one time zone in all lines",
        ),
        (f"{HOURS}, machines: {{c7i: {{spare: 1}}}}", "cluster: `hours` start nothing"),
        (MACHINES, "cluster: `working_hours` without `hours`"),
        (
            f"{HOURS}, holidays: [12-25], {MACHINES}",
            "holidays: `12-25` is not a day of one year; write each year's",
        ),
        (f"{HOURS}, holidays: [2026-02-30], {MACHINES}", "not usable YAML: day is out of range"),
        (
            f"{HOURS}, {MACHINES.replace('c7i', 'g5')}",
            "cluster.machines.g5: `g5` is not in `hardware`",
        ),
        (f"{HOURS}, {MACHINES}", "cluster.machines.c7i: needs the role golden_idle"),
        ("machines: {c7i: {spare: 1}}", "cluster.machines.c7i: needs the role golden_idle"),
        (
            "machines: {c7i: {stopped: 1}}",
            "machines.c7i.stopped: a warm pool has machines of one type",
        ),
        (
            "by: type, machines: {c7i: {}}",
            "cluster.machines.c7i: `c7i` is no type, and groups are by type",
        ),
        ("machines: {c7i.large: {}}", "`c7i.large` is a type, and groups are by family"),
        ("by: type, machines: {g5.xlarge: {}}", "`g5` is not in `hardware`"),
        (
            "by: type, machines: {c7i.metal-24xl: {}}",
            "EC2 would not launch the image on `c7i.metal-24xl`",
        ),
        ("machines: {}", "cluster.machines: dictionary should have at least 1 item"),
    ],
)
def test_a_cluster_that_cannot_be(shared: Path, section: str, complaint: str) -> None:
    with edited(shared, f"image: {IMAGE}", f"image: {IMAGE}\ncluster: {{{section}}}"):
        assert complaint in refused(shared)


def test_a_spare_machine_that_its_agent_ends(shared: Path) -> None:
    role = (
        "roles:\n  golden_idle:\n    golden_idle_action: leave_group\n"
        "    golden_idle_target: ssm:/golden-idle/x\n"
    )
    section = f"cluster: {{machines: {{c7i: {{spare: 1}}}}}}\n{role}"
    with edited(shared, "roles:\n", section):
        assert "cluster.machines.c7i.spare: a spare machine is idle, and the action" in refused(
            shared
        )


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        (
            "regions: [eu-*]",
            ": publish.regions.1: us-east-1 is not allowed: packer/residency.yml allows eu-*",
        ),
        ("regions: []", "packer/residency.yml:1: regions: list should have at least 1 item"),
        ("regions: [Frankfurt]", "packer/residency.yml:1: regions.1: string should match pattern"),
        (
            "regions: [us-*]\ndata_center: {latitude: 52.5, longitude: 13.4}",
            "packer/residency.yml:2: data_center: unknown key; gone since December 2026; "
            "`golden regions` says how far each region is",
        ),
    ],
)
def test_residency_that_cannot_be(shared: Path, rule: str, complaint: str) -> None:
    path = shared / "packer/residency.yml"
    path.write_text(rule, encoding="utf-8")
    try:
        assert complaint in refused(shared)
    finally:
        path.unlink()


def test_a_registry_where_nothing_may_be(shared: Path) -> None:
    path = shared / "packer/residency.yml"
    path.write_text("regions: [us-*]\n", encoding="utf-8")
    registry = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/ml"
    try:
        with edited(shared, "publish:\n", f"publish:\n  registries: [{registry}]\n"):
            assert ": publish.registries.1: eu-west-1 is not allowed: packer/" in refused(shared)
    finally:
        path.unlink()
