"""Hours of machines' lives as the samples that the agent would take, with when each machine was
needed.

Rates are those of the last ten seconds, as the agent measures them. `needed` is what a person would
say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from golden_idle.decide import PERIOD_S, Hold, Sample, decide
from golden_idle.settings import CPU, DISKS, GPU, NETWORK, Action, Settings

MINUTE, HOUR = 60, 3600
LONG = 4 * HOUR
"""Seconds that a trace has: longer than two windows."""
AMOUNTS = {"cpu_s": CPU, "gpu_s": GPU, "network_mb": NETWORK, "disks_mb": DISKS}
TYPED = ("somebody typed at a terminal",)
BOOTED = 30.0
"""Seconds since the machine started at which the agent looks first."""


def settings(**changed: Any) -> Settings:
    """The defaults of the role, with some values changed."""
    known = Settings(
        action=Action.NONE,
        target="",
        window_minutes=60,
        grace_minutes=15,
        cpu_seconds=75,
        gpu_seconds=10,
        network_mb=5,
        disks_mb=60,
        longest_hold_hours=72,
        metrics_enabled=True,
        protection_enabled=True,
        poweroff_command=("systemctl", "poweroff"),
        keep="",
    )
    return replace(known, **changed)


@dataclass(frozen=True)
class Trace:
    """A machine with `cpus` cores: what it uses at each time (None: no sample is taken), and when
    it is needed."""

    name: str
    use: Callable[[float], Sample | None]
    needed: Callable[[float], bool]
    cpus: int = 8
    holds: tuple[Hold, ...] = ()

    def samples(self) -> Iterator[Sample]:
        """All samples, in the order in which they are taken."""
        for step in range(LONG // PERIOD_S):
            if (sample := self.use(BOOTED + step * PERIOD_S)) is not None:
                yield sample


def quiet(at: float, **used: Any) -> Sample:
    """What a machine uses that nobody uses, but for `used`: daemons, time, a browser that asks a
    notebook server. Amounts are those of ten seconds."""
    amounts = {CPU: 0.1, GPU: 0.0, NETWORK: 0.004, DISKS: 0.0}
    given = {name: used.pop(key) for key, name in AMOUNTS.items() if key in used}
    return replace(Sample(at=at, amounts={**amounts, **given}), **used)


def _every(minutes: float, for_s: float) -> Callable[[float], bool]:
    return lambda at: at % (minutes * MINUTE) < for_s


def _when(condition: Callable[[float], bool], **used: Any) -> Callable[[float], Sample | None]:
    return lambda at: quiet(at, **used) if condition(at) else quiet(at)


def _always(_at: float) -> bool:
    return True


def _first_hour(at: float) -> bool:
    return at < HOUR


def _asleep(at: float) -> bool:
    return 2 * HOUR <= at < 2 * HOUR + 40 * MINUTE


def _starved(at: float) -> Sample | None:
    """A machine so short of memory that the agent runs every 50 seconds; what it does is on no
    counter."""
    return quiet(at) if at % 50 < PERIOD_S else None


TRACES: Sequence[Trace] = (
    Trace("one busy thread of 96 cores", _when(_always, cpu_s=10.2), _always, cpus=96),
    Trace("a job at 3 % of a core", _when(_always, cpu_s=0.3), _always),
    Trace("a GPU burst of 4 s every 20 minutes", _when(_every(20, 10), gpu_s=3.9), _always),
    Trace("a slow download, 20 kB/s", _when(_always, network_mb=0.2), _always),
    Trace("2 MB a minute by short connections", _when(_always, network_mb=0.333 / 12), _always),
    Trace("a data loader that waits for a disk", _when(_always, disks_mb=1.0), _always),
    Trace("a batch job of 2 minutes every 45", _when(_every(45, 120), cpu_s=40.0), _always),
    Trace("somebody types every 25 minutes", _when(_every(25, 10), used=TYPED), _always),
    Trace(
        "a GPU that is lost after ten minutes",
        lambda at: quiet(at, lost="it fell off the bus" if at > 10 * MINUTE else ""),
        _always,
    ),
    Trace("a starved agent", _starved, _always, cpus=2),
    Trace(
        "a hold over a machine that does nothing",
        quiet,
        _always,
        holds=(Hold(BOOTED + 2 * LONG, "ann", "a demo at noon"),),
    ),
    Trace("the first hour after boot", quiet, _first_hour),
    Trace(
        "training for an hour, then nothing",
        _when(_first_hour, gpu_s=9.9, cpu_s=60.0),
        _first_hour,
    ),
    Trace(
        "asleep for 40 minutes, then used again",
        lambda at: None if _asleep(at) else quiet(at),
        lambda at: at < HOUR or _asleep(at) or 0 <= at - (2 * HOUR + 40 * MINUTE) < HOUR,
    ),
    Trace("an SSH tunnel, nobody types", _when(_always, network_mb=0.1 / 12), _first_hour),
    Trace(
        "a debugger at a breakpoint since the first hour, GPU memory held",
        _when(_first_hour, gpu_s=6.0, used=TYPED),
        _first_hour,
    ),
)
"""A tunnel and a debugger that wait for nobody are idle: the notice names the holder, and a hold
keeps the machine."""

Rule = Callable[[Trace, Sequence[Sample], float], bool]
"""Whether a machine counts as idle at a time, by the samples until then."""


def ours(trace: Trace, samples: Sequence[Sample], now: float) -> bool:
    """The agent's decision."""
    return decide(samples, now, settings(), trace.holds).idle


def wrong(trace: Trace, rule: Rule, every: int = 1) -> int:
    """Decisions of `rule` that are wrong, asked at each `every`th sample: idle while needed, or
    never idle at the end.

    A machine that nobody needs for the last two hours has to be idle at the end.
    """
    samples, mistakes, idle = list(trace.samples()), 0, False
    for index in range(0, len(samples), every):
        now = samples[index].at
        first = max(0, index - 2 * HOUR // PERIOD_S)
        idle = rule(trace, samples[first : index + 1], now)
        mistakes += idle and trace.needed(now)
    needed_lately = any(
        trace.needed(sample.at) for sample in samples if sample.at > LONG - 2 * HOUR
    )
    return mistakes + (not idle and not needed_lately)
