"""What a machine uses, by the kernel's counters. A sample comes from two readings.

`root` is `/`, or in tests a folder that looks like it.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from golden_idle import evidence
from golden_idle.decide import Sample, waits_only
from golden_idle.evidence import LOOK_S, Look, Signs
from golden_idle.nvml import Gpu
from golden_idle.settings import Settings

NVIDIA, DISPLAY = "0x10de", "0x03"
"""PCI's vendor number, and the class of display controllers, which GPUs without a display have,
too."""
TIMER = 0.01
"""Cores that a timer's unit uses if it works. cron itself wakes each minute, and needs less than a
thousandth."""
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Reading:
    """The counters at a time of CLOCK_BOOTTIME, in seconds."""

    at: float
    busy_s: float
    """core-seconds of processes, of the kernel for them, and those that the host took away
    (steal)"""
    idle_s: float
    """core-seconds that the kernel counts as idle, without waits for disks"""
    all_s: float
    networks: Mapping[str, int]
    """bytes received and sent, by network card"""
    terminals: Mapping[str, int]
    """when a program last read what somebody typed, by terminal: nanoseconds, only compared for
    change"""
    stalled_s: float = 0.0
    """seconds in which something waited for disks (Documentation/accounting/psi.rst, `some` of
    io)"""
    timers: Mapping[str, float] = field(default_factory=dict)
    """core-seconds of cron and of each unit that a timer starts"""


def read(root: Path) -> Reading:
    """Read all counters."""
    fields = [
        int(word) / _TICKS for word in _text(root / "proc/stat").split("\n", 1)[0].split()[1:9]
    ]
    user, nice, system, idle, iowait, irq, softirq, steal = fields
    busy = user + nice + system + irq + softirq + steal
    return Reading(
        time.clock_gettime(time.CLOCK_BOOTTIME),
        busy,
        idle,
        busy + idle + iowait,
        dict(_networks(root)),
        dict(_terminals(root / "dev/pts")),
        _stalled(root / "proc/pressure/io"),
        dict(_timers(root)),
    )


def _stalled(path: Path) -> float:
    """Return the seconds in which something waited for disks, or 0 if the kernel keeps no
    pressure."""
    if not path.exists():
        return 0.0
    return int(_text(path).split("total=", 1)[1].split()[0]) / 1e6


@functools.cache
def _units(root: Path) -> frozenset[str]:
    """Return the units that timers start, with cron and atd."""
    units = {"cron.service", "atd.service"}
    for folder in ("etc", "usr/lib"):
        timers = (root / folder / "systemd/system").glob("*.timer")
        units |= {path.stem + ".service" for path in timers}
    return frozenset(units)


def _timers(root: Path) -> Iterator[tuple[str, float]]:
    for unit in _units(root):
        with suppress(OSError):  # the unit does not run
            yield (
                unit,
                int(_text(root / "sys/fs/cgroup/system.slice" / unit / "cpu.stat").split()[1])
                / 1e6,
            )


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _real(folder: Path) -> set[str]:
    """Return the names in a folder of /sys that are devices. Bytes of a partition, array, bridge or
    container's end would count twice."""
    if not folder.is_dir():
        return set()
    return {path.name for path in folder.iterdir() if (path / "device").exists()}


def _networks(root: Path) -> Iterator[tuple[str, int]]:
    names = _real(root / "sys/class/net")
    for line in _text(root / "proc/net/dev").splitlines()[2:]:
        name, _, numbers = line.partition(":")
        words = numbers.split()
        if name.strip() in names:
            yield name.strip(), int(words[0]) + int(words[8])


def _terminals(folder: Path) -> Iterator[tuple[str, int]]:
    """Yield each terminal's access time (ns): the kernel sets it when a program reads from the
    terminal (tty_update_time, in steps of 8 s)."""
    for path in folder.glob("[0-9]*"):
        try:
            yield path.name, path.stat().st_atime_ns
        except OSError:
            continue  # the terminal was closed meanwhile


def gpus_on_bus(root: Path) -> int:
    """Return the number of NVIDIA's GPUs on the PCI bus, whether or not a driver has them."""
    devices = (root / "sys/bus/pci/devices").glob("*")
    return sum(
        _text(device / "vendor").strip() == NVIDIA and _text(device / "class").startswith(DISPLAY)
        for device in devices
    )


def sample(earlier: Reading, later: Reading, gpus: list[Gpu], lost: str, at: float) -> Sample:
    """Return what was used between two readings, as of `at`. A new network card counts from the
    next reading on: its counter began before."""
    seconds = later.at - earlier.at
    return Sample(
        at=at,
        gpus=tuple(gpu.peak for gpu in gpus),
        lost=lost,
        cores=(later.busy_s - earlier.busy_s) / seconds if seconds > 0 else float("nan"),
        network_mb_s=_rate(earlier.networks, later.networks, seconds),
        typed=any(earlier.terminals.get(name) != at for name, at in later.terminals.items()),
        timer=_timer(earlier.timers, later.timers, seconds),
    )


def _timer(earlier: Mapping[str, float], later: Mapping[str, float], seconds: float) -> str:
    """Return the timer's unit that has just used most, or "" if none ran."""
    ran = {unit: used - earlier.get(unit, 0.0) for unit, used in later.items()}
    most = max(ran, key=lambda unit: ran[unit], default="")
    return most if most and ran[most] >= TIMER * seconds else ""


def _rate(earlier: Mapping[str, int], later: Mapping[str, int], seconds: float) -> float:
    moved = sum(max(0, count - earlier.get(name, count)) for name, count in later.items())
    return moved / 1e6 / seconds if seconds > 0 else float("nan")


class Sampler:
    """Completes samples, which are taken every ten seconds, with signs from looks every minute,
    when one is `due`."""

    def __init__(self, settings: Settings, now: float) -> None:
        self.seen: Look | None = None
        self._settings, self._looked_at, self._waited_since = settings, now - LOOK_S, now
        self._signs, self._gpus_spin = Signs(), True
        self._looked: Reading | None = None
        self._timer = ""

    def due(self, now: float) -> bool:
        """Return whether a look is due."""
        return now - self._looked_at >= LOOK_S

    def complete(
        self, result: Sample, later: Reading, gpus: list[Gpu], look: Look | None = None
    ) -> Sample:
        """Return the sample with signs. `later` and `gpus` are what it was made from, `look` is the
        look that was taken with it, if one was due."""
        now = result.at
        self._timer = self._timer or result.timer
        self._gpus_spin &= bool(gpus) and all(gpu.spins or not gpu.peak for gpu in gpus)
        if look is not None:
            self._signs = Signs()
            if self.seen:
                self._signs = evidence.signs(self.seen, look, self._gpus_spin)
            result = replace(
                result, used=self._signs.used, waits=self._signs.waits, stalled=self._stalled(later)
            )
            self.seen, self._looked_at, self._gpus_spin = look, now, True
            self._looked, self._timer = later, ""
        if self._signs.gpus_spin:
            result = replace(result, gpus=tuple(0 if gpu.spins else gpu.peak for gpu in gpus))
        # Signs are of a minute, a sample of ten seconds: no more cores poll than are busy.
        result = replace(result, spun=min(self._signs.spun, result.cores))
        if not waits_only(result, self._settings):
            self._waited_since = now
        return replace(result, waited_since=self._waited_since)

    def _stalled(self, later: Reading) -> float:
        """Return the share of the time since the last look in which something waited for disks, or
        0 if a timer ran or a process is stuck."""
        earlier = self._looked
        if earlier is None or later.at <= earlier.at or self._timer or self._signs.stuck:
            return 0.0
        return (later.stalled_s - earlier.stalled_s) / (later.at - earlier.at)
