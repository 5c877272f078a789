"""Whether a machine is idle: a function of samples, lines and holds, and of nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from golden_idle.settings import Settings

PERIOD_S = 10
"""Seconds between samples."""
STALLED = 0.05
"""Part of the time. An idle machine's journal waits a thousandth; 100 requests of 1 ms a second, a
tenth."""
BOOT_S = 900
"""Seconds after the start in which user data, drivers and containers are busy by themselves."""
MISSING_S = 3 * PERIOD_S
"""Seconds without a sample after which nobody knows what happened: a suspend, a stopped agent, a
starved machine."""


@dataclass(frozen=True)
class Sample:
    """What was used since the sample before. `at` is of CLOCK_BOOTTIME: nobody sets it, and it
    counts a suspend."""

    at: float
    gpus: tuple[float, ...]
    """the highest utilization of each GPU since the sample before, percent"""
    lost: str
    """why a GPU cannot be asked; empty where all were"""
    cores: float
    """busy cores: 1.0 is one thread that never waits"""
    network_mb_s: float
    """MB/s received and sent, all network cards"""
    typed: bool
    """whether somebody typed at a terminal"""
    stalled: float = 0.0
    """part of the last minute in which something waited for disks, where it was looked at"""
    timer: str = ""
    """the unit of a timer, or cron, that ran: what the whole machine used is taken for its use"""
    spun: float = 0.0
    """cores that ask again and again and get nothing"""
    used: tuple[str, ...] = ()
    """signs of people, and of jobs that go on"""
    waits: tuple[str, ...] = ()
    """signs of jobs that wait for others"""
    waited_since: float = math.inf
    """when something but a wait was last seen"""


@dataclass(frozen=True)
class Hold:
    """A user's word that the machine is needed, until a time of CLOCK_BOOTTIME."""

    until: float
    user: str
    reason: str


@dataclass(frozen=True)
class Decision:
    """Idle or not, since when it has been quiet, and why in words for people."""

    idle: bool
    quiet_since: float | None
    """time of the last busy sample, or of the first sample; None while it is busy now"""
    reason: str


def decide(
    samples: Sequence[Sample], now: float, settings: Settings, holds: Sequence[Hold] = ()
) -> Decision:
    """Idle where samples without a gap cover the whole window before `now`, and every one is below
    every line.

    `samples` are in the order of time. Whatever cannot be known is busy.
    """
    begin = now - settings.window_s
    if not samples:
        return Decision(False, None, "no sample yet")
    covering = [index for index, sample in enumerate(samples) if sample.at <= begin]
    recent = samples[covering[-1] if covering else 0 :]
    over = [found for sample in recent[1:] for found in above(sample, settings)]
    kept = [(at, reason) for at, reason, lasts in over if lasts or at >= now]
    busy = max([*_gaps(recent, now), *kept], default=None)
    quiet_since = busy[0] if busy else recent[0].at
    minutes = max(0.0, now - quiet_since) / 60
    if current := [hold for hold in holds if hold.until > now]:
        last = max(current, key=lambda hold: hold.until)
        return Decision(
            False,
            quiet_since,
            f"held for {(last.until - now) / 60:.0f} more minutes by {last.user}: {last.reason}",
        )
    if busy:
        if busy[0] >= now:
            return Decision(False, None, f"{busy[1]}, now")
        return Decision(
            False,
            quiet_since,
            f"{busy[1]}, {minutes:.0f} minutes ago; idle after "
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
    """Whether nobody uses the machine, as seen in the window: it can be somebody's at once.

    Unlike an idle one it may have just started; what a boot itself uses is nobody's use.
    """
    seen = [
        replace(sample, cores=0.0, network_mb_s=0.0, stalled=0.0) if sample.at < BOOT_S else sample
        for sample in samples
        if sample.at > now - settings.window_s
    ]
    used = any(
        lasts or sample.at >= now for sample in seen for _, _, lasts in above(sample, settings)
    )
    return bool(seen) and not used and not any(hold.until > now for hold in holds)


def _gaps(samples: Sequence[Sample], now: float) -> Iterator[tuple[float, str]]:
    """Times at which nobody had looked for too long, and at which time went backwards."""
    for earlier, later in pairwise([*(sample.at for sample in samples), now]):
        if not 0 <= later - earlier <= MISSING_S:
            yield (
                later,
                f"nothing is known of {abs(later - earlier):.0f} s "
                "(suspended, or the agent did not run)",
            )


def waits_only(sample: Sample, settings: Settings) -> bool:
    """Whether nothing but waits keeps a machine at this sample."""
    return not any(lasts for _, _, lasts in above(replace(sample, waits=()), settings))


def above(sample: Sample, settings: Settings) -> Iterator[tuple[float, str, bool]]:
    """When and why something was in use, and whether that counts for a window: a timer's work
    counts while it runs.

    A figure that is no number is above its line.
    """
    at, lasts = sample.at, not sample.timer
    if sample.lost:
        yield at, f"a GPU cannot be asked: {sample.lost}", True
    for number, percent in enumerate(sample.gpus):
        if not percent <= settings.gpu_percent:
            yield at, f"GPU {number} at {_figure(percent)} %, line {settings.gpu_percent:g}", True
    for what, value, line in (
        ("cores", sample.cores - sample.spun, settings.cores),
        ("MB/s of network", sample.network_mb_s, settings.network_mb_s),
        ("of the time something waits for disks", sample.stalled, STALLED),
    ):
        if not value <= line:
            yield (
                at,
                f"{_figure(value)} {what}, line {line:g}" + f" ({sample.timer})" * (not lasts),
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
