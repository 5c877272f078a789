"""Numbers as people read them."""

from __future__ import annotations

import pytest
from goldenami.core import units


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (1024 * 1024 - 1, "1.00 MiB"),
        (121 << 20, "121 MiB"),
        (10 << 30, "10.0 GiB"),
        (5000 << 40, "5000 TiB"),
    ],
)
def test_size(count: int, text: str) -> None:
    assert units.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.00 s"),
        (4.211, "4.21 s"),
        (9.996, "10.0 s"),
        (41.24, "41.2 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (221.4, "3 min 41 s"),
        (3599.6, "1 h 00 min"),
        (3840, "1 h 04 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert units.duration(seconds) == text


@pytest.mark.parametrize(
    ("now", "before", "text"),
    [
        (108, 100, "+8.0 %"),
        (50, 100, "\N{MINUS SIGN}50 %"),
        (5, 5, "="),
        (5, None, "new"),
        (5, 0, "new"),
        (0, 0, "="),
        (5, -2, "more"),
        (-5, -2, "less"),
        (100_001, 100_000, "+<0.1 %"),
    ],
)
def test_change(now: float, before: float | None, text: str) -> None:
    assert units.change(now, before) == text


def test_growth_and_percent() -> None:
    grown = [units.growth(count) for count in (2048, -2048, 0)]
    assert grown == ["2.00 KiB more", "2.00 KiB less", "no more and no less"]
    assert [units.percent(part, 1000) for part in (0, 0.4, 4, 340)] == [
        "0 %",
        "<0.1 %",
        "0.4 %",
        "34 %",
    ]
    assert units.percent(1, 0) == ""


def test_a_sum_of_dollars_is_known_where_each_is() -> None:
    assert [units.total(amounts) for amounts in ([], [1.5, 2.0], [1.5, None], [None])] == [
        0,
        3.5,
        None,
        None,
    ]
