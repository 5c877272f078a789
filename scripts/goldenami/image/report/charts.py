"""The page's one kind of chart: rows with a bar, whose length is a fraction of the longest.

It is drawn as a table, so one drawing serves a desktop, a phone, paper and a screen reader.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from goldenami.core import units
from goldenami.model.builds.build_records import BakeRecord, Timing

HAIRLINE = 0.0025
"""Least length of a bar, as a fraction: a step that took no time must still be seen."""


@dataclass(frozen=True)
class Bar:
    """One row. `note` is its share of the sum, or its change from the row before."""

    label: str
    value: str
    note: str
    width: float


@dataclass(frozen=True)
class Chart:
    """A bar chart. `noun` says what a row is, `note` what its second figure means."""

    title: str
    noun: str
    note: str
    bars: tuple[Bar, ...]


def shares(
    title: str,
    noun: str,
    rows: Sequence[tuple[str, float]],
    words: Callable[[Any], str],
) -> Chart | None:
    """A chart of values with each one's share of the sum; `words` formats a value. None if there
    are no rows."""
    total = sum(value for _, value in rows)
    noted = [(label, value, units.percent(value, total)) for label, value in rows]
    return _chart(title, noun, "Share", noted, words)


def history(
    title: str,
    rows: Sequence[tuple[str, float]],
    words: Callable[[Any], str],
    noun: str = "build",
) -> Chart | None:
    """A chart of values by build (or another `noun`), the oldest first, each with its change from
    the one before. None if there are fewer than two."""
    if len(rows) < 2:
        return None
    noted = list[tuple[str, float, str]]()
    _, previous_value = rows[0]
    for label, value in rows:
        noted.append((label, value, units.change(value, previous_value)))
        previous_value = value
    return _chart(title, noun, "Change", noted, words)


def _chart(
    title: str,
    noun: str,
    note: str,
    rows: Sequence[tuple[str, float, str]],
    words: Callable[[Any], str],
) -> Chart | None:
    if not rows:
        return None
    longest = max(value for _, value, _ in rows) or 1
    bars = list[Bar]()
    for label, value, row_note in rows:
        length = round(max(HAIRLINE, value / longest), 5)
        bars.append(Bar(label, words(value), row_note, length))
    return Chart(title, noun, note, tuple(bars))


def of_bake(bake: BakeRecord) -> list[Chart]:
    """The charts of bytes by component, the largest first, and of seconds by phase and role."""
    parts = sorted(bake.components, key=lambda part: (-part.bytes, part.name))
    sizes = [(part.name, part.bytes) for part in parts]
    charts = [
        shares("Bytes of each component", "component", sizes, units.size),
        _seconds("phase", bake.phases),
        _seconds("role", bake.roles),
    ]
    return [chart for chart in charts if chart]


def _seconds(noun: str, steps: Sequence[Timing]) -> Chart | None:
    rows = [(step.name, step.seconds) for step in steps]
    return shares(f"Seconds of each {noun}", noun, rows, units.duration)
