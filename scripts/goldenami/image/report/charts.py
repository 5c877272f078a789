"""Geometry of the report's charts: plain numbers that the template draws as SVG.

Positions and lengths are fractions of the plot's width, so that one drawing serves a desktop, a
phone and paper; only the template knows pixels.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import Any

from goldenami.core import units
from goldenami.model.builds.build_records import ROLES_JOINED_BY, BakeRecord, Check, Outcome, Timing

LABEL_LIMIT = 26.0
"""Widths of a letter that fit before the plot: 224 px (--from of report.css) at 8.5 px, the widest
of its fonts."""
TICK_LIMIT = 4
"""Most intervals of an axis: more labels would touch on a screen 375 px wide."""
HAIRLINE = 0.0025
"""Least length as a fraction: a step that took no time is still a step and must be seen."""
DIGITS = 5
"""Decimals of a fraction: a hundredth of a pixel on a plot 1000 px wide."""
HISTORY_LIMIT = 24
"""Most builds of a chart over time: two years of monthly ones; the table of builds has all."""
_TIME_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)


@dataclass(frozen=True)
class Bar:
    """One row: a bar from `start` of length `width`, beside the previous build's length if
    known."""

    label: str
    full: str
    value: str
    share: str
    change: str
    start: float
    width: float
    before: float | None
    before_value: str


@dataclass(frozen=True)
class Tick:
    """One labelled line of the axis."""

    at: float
    label: str


@dataclass(frozen=True)
class Chart:
    """A bar chart. `key` makes its element ids unique in the page; `desc` says what a reader should
    see in it."""

    key: str
    title: str
    desc: str
    noun: str
    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    compared: bool


@dataclass(frozen=True)
class Segment:
    """One outcome's part of the strip of all checks."""

    outcome: Outcome
    count: int
    start: float
    width: float


def shorten(text: str, limit: float = LABEL_LIMIT) -> str:
    """`text` with its middle left out where it is wider than `limit` letters: both ends of a name
    tell names apart."""
    if sum(map(_width, text)) <= limit:
        return text
    room = limit - _width("…")
    return f"{_fitting(text, room * 2 / 3)}…{_fitting(text[::-1], room / 3)[::-1]}"


def _fitting(text: str, room: float) -> str:
    widths = accumulate(map(_width, text))
    return text[:sum(1 for _ in takewhile(lambda width: width <= room, widths))]


def _width(letter: str) -> float:
    """Width against an average lower-case letter, on the wide side of what common sans-serif fonts
    have."""
    if unicodedata.east_asian_width(letter) in "WF":
        return 2.0
    return 1.65 if letter in "WMmw@%—…" else 1.3 if letter.isupper() else 1.0


def sizes(bake: BakeRecord, previous: BakeRecord | None) -> Chart | None:
    """Bytes of each component, largest first; None where none was recorded."""
    parts = sorted(bake.components, key=lambda part: (-part.bytes, part.name))
    if not parts:
        return None
    before = {part.name: part.bytes for part in previous.components} if previous else {}
    total = sum(part.bytes for part in parts)
    longest = max([1, *(part.bytes for part in parts),
                   *(before.get(part.name, 0) for part in parts)])
    bars = tuple(
        Bar(
            label=shorten(part.name), full=part.name, value=units.size(part.bytes),
            share=units.percent(part.bytes, total),
            change=_change(part.bytes, before.get(part.name), previous),
            start=0.0, width=_length(part.bytes, longest),
            before=_length(before[part.name], longest) if part.name in before else None,
            before_value=units.size(before[part.name]) if part.name in before else "",
        )
        for part in parts
    )
    desc = f"{len(bars)} components, {units.size(total)} together. Largest: {_listed(bars[:3])}."
    return Chart("sizes", "Bytes of each component", desc, "component", bars, (),
                 previous is not None)


def timings(bake: BakeRecord, previous: BakeRecord | None) -> tuple[Chart, ...]:
    """One chart of phases and one of roles over the same axis of seconds; empty ones are left
    out."""
    old_phases = {step.name: step.seconds for step in previous.phases} if previous else {}
    old_roles = {step.name: step.seconds for step in previous.roles} if previous else {}
    groups = (
        ("phases", "Seconds of each phase", "phase", bake.phases, _starts(bake.phases), old_phases),
        ("roles", "Seconds of each role", "role", bake.roles, _role_starts(bake), old_roles),
    )
    end = max((_end(steps, starts, old) for *_, steps, starts, old in groups), default=0.0) or 1.0
    return tuple(
        _gantt(key, title, noun, steps, starts, old, end, previous)
        for key, title, noun, steps, starts, old in groups if steps
    )


def history(
    key: str, title: str, rows: Sequence[tuple[str, str, float]], words: Callable[[Any], str],
) -> Chart | None:
    """Values by build, the oldest first, each with its change from the one before; None of fewer
    than two builds.

    A row has a label, the same in full, and the value; `words` says a value. The last HISTORY_LIMIT
    are drawn.
    """
    if len(rows) < 2:
        return None
    longest, before = max(value for *_, value in rows), [rows[0][2], *(value for *_, value in rows)]
    bars = tuple(
        Bar(label=shorten(label), full=full, value=words(value), share=units.change(value, last),
            change="", start=0.0,
            width=_length(value, longest), before=None, before_value="")
        for (label, full, value), last in zip(rows, before, strict=False)
    )[-HISTORY_LIMIT:]
    desc = f"{len(bars)} builds from {bars[0].full} with {bars[0].value} to {bars[-1].full} with {bars[-1].value}."
    return Chart(key, title, desc, "build", bars, (), False)


def outcomes(checks: Sequence[Check]) -> tuple[Segment, ...]:
    """How many checks ended in each outcome, as parts of one strip; outcomes that none had are left
    out."""
    counts = {outcome: sum(check.outcome is outcome for check in checks) for outcome in Outcome}
    segments: list[Segment] = []
    start = 0.0
    for outcome, count in counts.items():
        if count:
            width = count / len(checks)
            segments.append(Segment(outcome, count, round(start, DIGITS), round(width, DIGITS)))
            start += width
    return tuple(segments)


def _gantt(
    key: str, title: str, noun: str, steps: Sequence[Timing], starts: Sequence[float],
    old: Mapping[str, float],
    end: float, previous: BakeRecord | None,
) -> Chart:
    total = sum(step.seconds for step in steps)
    bars = tuple(
        Bar(
            label=shorten(step.name), full=step.name, value=units.duration(step.seconds),
            share=units.percent(step.seconds, total),
            change=_change(step.seconds, old.get(step.name), previous),
            start=round(start / end, DIGITS), width=_length(step.seconds, end),
            before=_length(old[step.name], end) if step.name in old else None,
            before_value=units.duration(old[step.name]) if step.name in old else "",
        )
        for step, start in zip(steps, starts, strict=True)
    )
    slowest = sorted(zip(steps, bars, strict=True), key=lambda pair: -pair[0].seconds)[:3]
    desc = (
        f"{len(bars)} {noun}s one after another, {units.duration(total)} together. "
        f"Slowest: {_listed([bar for _, bar in slowest])}."
    )
    return Chart(key, title, desc, noun, bars, _ticks(end), previous is not None)


def _starts(steps: Sequence[Timing], begin: float = 0.0) -> list[float]:
    return list(accumulate((step.seconds for step in steps[:-1]), initial=begin)) if steps else []


def _role_starts(bake: BakeRecord) -> list[float]:
    """Each role at the end of the phase whose name has it: the container boots first. One of no
    phase: at 0."""
    found: dict[str, float] = {}
    for phase, start in zip(bake.phases, _starts(bake.phases), strict=True):
        inner = [role for role in bake.roles if role.name in phase.name.split(ROLES_JOINED_BY)]
        boot = phase.seconds - sum(role.seconds for role in inner)
        found.update(zip((role.name for role in inner), _starts(inner, start + max(0.0, boot)),
                         strict=True))
    return [found.get(role.name, 0.0) for role in bake.roles]


def _end(steps: Sequence[Timing], starts: Sequence[float], old: Mapping[str, float]) -> float:
    ends = (start + max(step.seconds, old.get(step.name, 0.0))
            for step, start in zip(steps, starts, strict=True))
    return max(ends, default=0.0)


def _ticks(end: float) -> tuple[Tick, ...]:
    step = next((step for step in _TIME_STEPS if end / step <= TICK_LIMIT),
                math.ceil(end / TICK_LIMIT))
    count = int(end / step)
    return tuple(Tick(round(step * index / end, DIGITS), _tick_label(step * index))
                 for index in range(count + 1))


def _tick_label(seconds: float) -> str:
    if seconds >= 3600:
        return f"{seconds / 3600:g} h"
    return f"{seconds / 60:g} min" if seconds >= 60 else f"{seconds:g} s"


def _length(value: float, whole: float) -> float:
    return round(max(HAIRLINE, value / whole), DIGITS)


def _change(now: float, before: float | None, previous: BakeRecord | None) -> str:
    return units.change(now, before) if previous else ""


def _listed(bars: Sequence[Bar]) -> str:
    return ", ".join(f"{bar.full} {bar.value}" for bar in bars)
