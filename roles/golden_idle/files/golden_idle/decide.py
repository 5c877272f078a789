"""The decision whether a machine is idle: a function of samples, limits and holds alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from golden_idle.settings import Settings

PERIOD_S = 10
"""Seconds between samples."""
STALLED = 0.05
"""Limit for the share of time in which something waits for disks: an idle machine's journal waits a
thousandth, 100 requests of 1 ms a second a tenth."""
BOOT_S = 900
"""Seconds after boot in which user data, drivers and containers are busy by themselves."""
MISSING_S = 3 * PERIOD_S
"""Seconds without a sample after which nobody knows what happened: a suspend, a stopped agent, a
starved machine."""


@dataclass(frozen=True)
class Sample:
    """What was used since the sample before. `at` is in seconds of CLOCK_BOOTTIME, which nobody
    sets and which counts a suspend."""

    at: float
    gpus: tuple[float, ...]
    """the highest utilization of each GPU since the sample before, percent"""
    lost: str
    """why a GPU cannot be asked, or "" if all answered"""
    cores: float
    """busy cores: 1.0 is one thread that never waits"""
    network_mb_s: float
    """MB/s received and sent, all network cards"""
    typed: bool
    """whether somebody typed at a terminal"""
    stalled: float = 0.0
    """share of the time since the last look in which something waited for disks; 0 between looks"""
    timer: str = ""
    """the unit of a timer, or cron, that ran: all use of the machine counts as its use"""
    spun: float = 0.0
    """busy cores of programs that only poll"""
    used: tuple[str, ...] = ()
    """signs of people, and of jobs that make progress"""
    waits: tuple[str, ...] = ()
    """signs of jobs that wait for an answer"""
    waited_since: float = math.inf
    """when something other than a wait was last seen"""


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
    """Decide: a machine is idle if samples without a gap cover the whole window before `now`, and
    every one is below every limit.

    `samples` are in the order of time. Anything unknown counts as busy.
    """
    begin = now - settings.window_s
    if not samples:
        return Decision(False, None, "no sample yet")
    # The last sample before the window belongs to it: without one, the window is not covered.
    covering = [index for index, sample in enumerate(samples) if sample.at <= begin]
    recent = samples[covering[-1] if covering else 0 :]
    uses = [use for sample in recent[1:] for use in above(sample, settings)]
    # A timer's work keeps the machine busy only while it goes on.
    busy_times = [(at, reason) for at, reason, lasts in uses if lasts or at >= now]
    last_busy = max([*_gaps(recent, now), *busy_times], default=None)
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
        True, quiet_since, f"every sample of {settings.window_minutes} minutes is below every line"
    )


def is_free(
    samples: Sequence[Sample], now: float, settings: Settings, holds: Sequence[Hold] = ()
) -> bool:
    """Return whether nobody has used the machine in the window, so that somebody can have it at
    once.

    Unlike an idle machine it may have just started: what the boot itself uses is nobody's use.
    """
    recent = [
        replace(sample, cores=0.0, network_mb_s=0.0, stalled=0.0) if sample.at < BOOT_S else sample
        for sample in samples
        if sample.at > now - settings.window_s
    ]
    used = any(
        lasts or sample.at >= now for sample in recent for _, _, lasts in above(sample, settings)
    )
    return bool(recent) and not used and not any(hold.until > now for hold in holds)


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


def waits_only(sample: Sample, settings: Settings) -> bool:
    """Return whether nothing but waits keeps the machine busy at this sample."""
    return not any(lasts for _, _, lasts in above(replace(sample, waits=()), settings))


def above(sample: Sample, settings: Settings) -> Iterator[tuple[float, str, bool]]:
    """Yield (time, reason, lasts) for each use above its limit. `lasts` says whether the use counts
    for a whole window: a timer's work counts only while it runs.

    A figure that is not a number is above its limit.
    """
    at, lasts = sample.at, not sample.timer
    if sample.lost:
        yield at, f"a GPU cannot be asked: {sample.lost}", True
    for number, percent in enumerate(sample.gpus):
        if not percent <= settings.gpu_percent:
            yield at, f"GPU {number} at {_figure(percent)} %, line {settings.gpu_percent:g}", True
    for name, value, limit in (
        ("cores", sample.cores - sample.spun, settings.cores),
        ("MB/s of network", sample.network_mb_s, settings.network_mb_s),
        ("of the time something waits for disks", sample.stalled, STALLED),
    ):
        # Not `value > limit`: NaN, which is unknown, has to count as above.
        if not value <= limit:
            yield (
                at,
                f"{_figure(value)} {name}, line {limit:g}" + f" ({sample.timer})" * (not lasts),
                lasts,
            )
    if sample.typed:
        yield at, "somebody typed at a terminal", True
    for sign in sample.used:
        yield at, sign, True
    longest = settings.longest_wait_hours * 3600 or math.inf
    if sample.waits and at - sample.waited_since <= longest:
        yield at, sample.waits[0], True


def _figure(value: float) -> str:
    return "unknown" if math.isnan(value) else f"{value:.2f}".rstrip("0").rstrip(".")
