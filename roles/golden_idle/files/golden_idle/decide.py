"""Whether a machine is idle: a function of samples, lines and holds, and of nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from golden_idle.settings import Settings

PERIOD_S = 10
"""Seconds between samples."""
MISSING_S = 3 * PERIOD_S
"""Seconds without a sample after which nobody knows what happened: a suspend, a stopped agent, a starved machine."""


@dataclass(frozen=True)
class Sample:
    """What was used since the sample before. `at` is of CLOCK_BOOTTIME: nobody sets it, and it counts a suspend."""

    at: float
    gpus: tuple[float, ...]
    """the highest utilization of each GPU since the sample before, percent"""
    lost: str
    """why a GPU cannot be asked; empty where all were"""
    cores: float
    """busy cores: 1.0 is one thread that never waits"""
    disk_mb_s: float
    """MB/s read and written, all disks"""
    network_mb_s: float
    """MB/s received and sent, all network cards"""
    typed: bool
    """whether somebody typed at a terminal"""


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


def decide(samples: Sequence[Sample], now: float, settings: Settings, holds: Sequence[Hold] = ()) -> Decision:
    """Idle where samples without a gap cover the whole window before `now`, and every one is below every line.

    `samples` are in the order of time. Whatever cannot be known is busy.
    """
    begin = now - settings.window_s
    if not samples:
        return Decision(False, None, "no sample yet")
    covering = [index for index, sample in enumerate(samples) if sample.at <= begin]
    recent = samples[covering[-1] if covering else 0:]
    busy = max([*_gaps(recent, now), *_over(recent[1:], settings)], default=None)
    quiet_since = busy[0] if busy else recent[0].at
    minutes = max(0.0, now - quiet_since) / 60
    if current := [hold for hold in holds if hold.until > now]:
        last = max(current, key=lambda hold: hold.until)
        return Decision(False, quiet_since, f"held for {(last.until - now) / 60:.0f} more minutes by {last.user}: "
                                            f"{last.reason}")
    if busy:
        if busy[0] >= now:
            return Decision(False, None, f"{busy[1]}, now")
        return Decision(False, quiet_since, f"{busy[1]}, {minutes:.0f} minutes ago; idle after "
                                            f"{settings.window_minutes} quiet ones")
    if not covering:
        return Decision(False, quiet_since, f"watched for {minutes:.0f} of {settings.window_minutes} minutes")
    return Decision(True, quiet_since, f"every sample of {settings.window_minutes} minutes is below every line")


def _gaps(samples: Sequence[Sample], now: float) -> Iterator[tuple[float, str]]:
    """Times at which nobody had looked for too long, and at which time went backwards."""
    for earlier, later in pairwise([*(sample.at for sample in samples), now]):
        if not 0 <= later - earlier <= MISSING_S:
            yield later, f"nothing is known of {abs(later - earlier):.0f} s (suspended, or the agent did not run)"


def _over(samples: Sequence[Sample], settings: Settings) -> Iterator[tuple[float, str]]:
    """Times at which something was in use. A figure that is no number is above its line."""
    for sample in samples:
        if sample.lost:
            yield sample.at, f"a GPU cannot be asked: {sample.lost}"
        for number, percent in enumerate(sample.gpus):
            if not percent <= settings.gpu_percent:
                yield sample.at, f"GPU {number} at {_figure(percent)} %, line {settings.gpu_percent:g}"
        for what, value, line in (("cores", sample.cores, settings.cores),
                                  ("MB/s of disks", sample.disk_mb_s, settings.disk_mb_s),
                                  ("MB/s of network", sample.network_mb_s, settings.network_mb_s)):
            if not value <= line:
                yield sample.at, f"{_figure(value)} {what}, line {line:g}"
        if sample.typed:
            yield sample.at, "somebody typed at a terminal"


def _figure(value: float) -> str:
    return "unknown" if math.isnan(value) else f"{value:.2f}".rstrip("0").rstrip(".")
