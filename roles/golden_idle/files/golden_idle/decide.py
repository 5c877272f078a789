"""The decision whether a machine is idle: sums over a window, signs, limits and holds alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from golden_idle.settings import GPU, Settings

PERIOD_S = 10
"""Seconds between samples."""
BOOT_S = 900
"""Seconds after boot in which user data, drivers and containers are busy by themselves."""
BURST = 1 / 15
"""The part of an hour's CPU seconds that is work if a minute needs it."""
MISSING_S = 3 * PERIOD_S
"""Seconds without a sample after which nobody knows what happened: a suspend, a stopped agent, a
starved machine."""


@dataclass(frozen=True)
class Sample:
    """What was used since the sample before. `at` is in seconds of CLOCK_BOOTTIME, which nobody
    sets and which counts a suspend."""

    at: float
    amounts: Mapping[str, float] = field(default_factory=dict)
    """by the names of the lines; a look takes off what only spun, so they may be negative"""
    burst: float = 0.0
    """CPU seconds since the last look, without what only spun; 0 between looks"""
    lost: str = ""
    """why a GPU cannot be asked, or "" if all answered"""
    timer: str = ""
    """the unit of a timer, or cron, that ran"""
    used: tuple[str, ...] = ()
    """signs of people, and of jobs that make progress or wait for an answer"""


@dataclass(frozen=True)
class Hold:
    """A user's statement that the machine is needed, until a time of CLOCK_BOOTTIME."""

    until: float
    user: str
    reason: str


@dataclass(frozen=True)
class Decision:
    """Whether the machine is idle, since when it has been quiet, and why, in words for people."""

    idle: bool
    quiet_since: float | None
    """time of the last busy sample, or of the first sample; None while it is busy now"""
    reason: str


def decide(
    samples: Sequence[Sample], now: float, settings: Settings, holds: Sequence[Hold] = ()
) -> Decision:
    """Decide: a machine is idle if samples without a gap cover the whole window before `now`, none
    shows a sign of work, and the sum of each amount is below its line.

    `samples` are in the order of time. Anything unknown counts as busy.
    """
    begin = now - settings.window_s
    if not samples:
        return Decision(False, None, "no sample yet")
    # The last sample before the window belongs to it: without one, the window is not covered.
    covering = [index for index, sample in enumerate(samples) if sample.at <= begin]
    recent = samples[covering[-1] if covering else 0 :]
    found = uses(recent[1:], now, settings)
    last_busy = max([*_gaps(recent, now), *found], default=None)
    quiet_since = last_busy[0] if last_busy else recent[0].at
    minutes = max(0.0, now - quiet_since) / 60
    if current := [hold for hold in holds if hold.until > now]:
        last = max(current, key=lambda hold: hold.until)
        return Decision(
            False,
            quiet_since,
            f"held for {(last.until - now) / 60:.0f} more minutes by {last.user}: {last.reason}",
        )
    if last_busy:
        if last_busy[0] >= now:
            return Decision(False, None, f"{last_busy[1]}, now")
        return Decision(
            False,
            quiet_since,
            f"{last_busy[1]}, {minutes:.0f} minutes ago; idle after "
            f"{settings.window_minutes} quiet ones",
        )
    if not covering:
        return Decision(
            False, quiet_since, f"watched for {minutes:.0f} of {settings.window_minutes} minutes"
        )
    return Decision(
        True,
        quiet_since,
        f"in {settings.window_minutes} minutes no sign of work, and every sum is below its line",
    )


def is_free(
    samples: Sequence[Sample], now: float, settings: Settings, holds: Sequence[Hold] = ()
) -> bool:
    """Return whether nobody has used the machine in the window, so that somebody can have it at
    once.

    Unlike an idle machine it may have just started: what the boot itself uses is nobody's use.
    """
    recent = [
        replace(sample, amounts={GPU: sample.amounts.get(GPU, 0.0)}, burst=0.0)
        if sample.at < BOOT_S
        else sample
        for sample in samples
        if sample.at > now - settings.window_s
    ]
    is_used = any(uses(recent, now, settings)) or any(hold.until > now for hold in holds)
    return bool(recent) and not is_used


def _gaps(samples: Sequence[Sample], now: float) -> Iterator[tuple[float, str]]:
    """Yield (time, reason) of the gaps in which no sample was taken for too long, and of steps
    backwards in time."""
    for earlier, later in pairwise([*(sample.at for sample in samples), now]):
        if not 0 <= later - earlier <= MISSING_S:
            yield (
                later,
                f"nothing is known of {abs(later - earlier):.0f} s "
                "(suspended, or the agent did not run)",
            )


def uses(samples: Sequence[Sample], now: float, settings: Settings) -> Iterator[tuple[float, str]]:
    """Yield (time, reason) of each sign in a window's samples, and of each sum above its line with
    the time when it last grew faster than its line."""
    for sample in samples:
        if sample.lost:
            yield sample.at, f"a GPU cannot be asked: {sample.lost}"
        for sign in sample.used:
            yield sample.at, sign
        if sample.burst > settings.cpu_seconds * BURST:
            yield sample.at, f"{_figure(sample.burst)} CPU seconds in a minute"
        # A timer's work keeps the machine busy only while it goes on.
        if sample.timer and sample.at >= now:
            yield sample.at, f"{sample.timer} runs"
    for name, line in settings.lines.items():
        total = sum(sample.amounts.get(name, 0.0) for sample in samples)
        # Not `total > line`: NaN, which is unknown, has to count as above.
        if not total <= line:
            share = line * PERIOD_S / settings.window_s
            fast = [each.at for each in samples if not each.amounts.get(name, 0.0) <= share]
            yield (
                max(fast, default=now),
                f"{_figure(total)} {name} in {settings.window_minutes} minutes, "
                f"line {_figure(line)}",
            )


def _figure(value: float) -> str:
    return "unknown" if math.isnan(value) else f"{value:.1f}".removesuffix(".0")
