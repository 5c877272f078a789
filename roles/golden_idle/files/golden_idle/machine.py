"""What a machine uses, by the kernel's counters. A sample comes from two readings.

`root` is `/`, or in tests a folder that looks like it.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from golden_idle import daemons, evidence
from golden_idle.decide import Sample
from golden_idle.evidence import LOOK_S, Look, Signs
from golden_idle.nvml import Gpu
from golden_idle.settings import CPU, DISKS, GPU, NETWORK

NVIDIA, DISPLAY = "0x10de", "0x03"
"""PCI's vendor number, and the class of display controllers, which GPUs without a display have,
too."""
TIMER = 0.01
"""Cores that a timer's unit uses if it works. cron itself wakes each minute, and needs less than a
thousandth."""
DAEMONS = 1 / 12
"""The part of CPU time that counts of the image's own daemons, and of network traffic that is no
job's own: metrics, logs and health checks are never zero."""
_SYSTEM = "system.slice"
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Reading:
    """The counters at a time of CLOCK_BOOTTIME, in seconds."""

    at: float
    idle_s: float
    """core-seconds that the kernel counts as idle, without waits for disks"""
    all_s: float
    groups: Mapping[str, float]
    """core-seconds of each topmost control group, ended processes and groups within it included"""
    daemons: Mapping[str, float]
    """core-seconds of each of the image's own daemons, which are in one of those groups"""
    networks: Mapping[str, int]
    """bytes received and sent, by network card"""
    terminals: Mapping[str, int]
    """when a program last read what somebody typed, by terminal: nanoseconds, only compared for
    change"""
    timers: Mapping[str, float] = field(default_factory=dict)
    """core-seconds of cron and of each unit that a timer starts"""


def read(root: Path) -> Reading:
    """Read all counters."""
    words = _text(root / "proc/stat").split("\n", 1)[0].split()[1:9]
    fields = [int(word) / _TICKS for word in words]
    # Without cgroups of version 2 all use of the machine counts.
    used = dict(_usage(root / "sys/fs/cgroup")) or {"": sum(fields) - fields[3] - fields[4]}
    system = dict(_usage(root / "sys/fs/cgroup" / _SYSTEM))
    for group in [name for name in system if name.endswith(".slice")]:
        system |= _usage(root / "sys/fs/cgroup" / _SYSTEM / group)
    units = daemons.timers(root)
    return Reading(
        time.clock_gettime(time.CLOCK_BOOTTIME),
        fields[3],
        sum(fields),
        {name: seconds for name, seconds in used.items() if name != "init.scope"},
        {name: seconds for name, seconds in system.items() if daemons.is_daemon(root, name)},
        dict(_networks(root)),
        dict(_terminals(root / "dev")),
        {name: seconds for name, seconds in system.items() if name in units},
    )


def _usage(folder: Path) -> Iterator[tuple[str, float]]:
    """Yield the control groups in a folder, with the CPU seconds of each."""
    for path in folder.glob("*/cpu.stat"):
        with suppress(OSError):  # the group has ended meanwhile
            yield path.parent.name, int(_text(path).split()[1]) / 1e6


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
    for path in chain(folder.glob("pts/[0-9]*"), folder.glob("tty[0-9S]*")):
        try:
            yield str(path), path.stat().st_atime_ns
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
    known = {name: later.networks.get(name, 0) for name in earlier.networks}
    ran = _grown(earlier.timers, later.timers)
    timer = next((unit for unit, used in ran.items() if used >= TIMER * seconds), "")
    own = sum(_grown(earlier.daemons, later.daemons).values())
    moved = sum(_grown(earlier.networks, known).values()) / 1e6
    amounts = {
        CPU: sum(_grown(earlier.groups, later.groups).values()) - own * (1 - DAEMONS),
        GPU: sum(gpu.mean for gpu in gpus) / 100 * seconds,
        # What a timer's unit moves is a daemon's, too, and more than others'.
        NETWORK: 0.0 if timer else moved * DAEMONS,
    }
    typed = any(earlier.terminals.get(name) != at for name, at in later.terminals.items())
    # Two readings at one time tell nothing.
    amounts = amounts if seconds > 0 else dict.fromkeys(amounts, float("nan"))
    used = ("somebody typed at a terminal",) if typed else ()
    return Sample(at, amounts, lost=lost, timer=timer, used=used)


def _grown(earlier: Mapping[str, float], later: Mapping[str, float]) -> dict[str, float]:
    """Return by how much each counter grew; one that is new, or began again, from zero."""
    return {
        name: value - earlier.get(name, 0.0) if value >= earlier.get(name, 0.0) else value
        for name, value in later.items()
    }


class Sampler:
    """Completes samples, which are taken every ten seconds, with signs from looks every minute,
    when one is `due`."""

    def __init__(self, now: float) -> None:
        self.seen: Look | None = None
        self._looked_at = now - LOOK_S
        self._since, self._spins = Counter[str](), set[bool]()

    def due(self, now: float) -> bool:
        """Return whether a look is due."""
        return now - self._looked_at >= LOOK_S

    def complete(self, result: Sample, gpus: list[Gpu], look: Look | None = None) -> Sample:
        """Return the sample with signs. `gpus` is what it was made from, `look` is the look that
        was taken with it, if one was due."""
        self._since.update(result.amounts)
        self._spins |= {gpu.spins for gpu in gpus if gpu.spins or gpu.mean}
        if look is None:
            return result
        signs = evidence.signs(self.seen, look, self._spins == {True}) if self.seen else Signs()
        amounts = dict(result.amounts)
        amounts[CPU] -= signs.spun
        amounts[GPU] -= self._since[GPU] if signs.gpus_spin else 0.0
        amounts[NETWORK] += signs.moved / 1e6
        amounts[DISKS] = signs.stored / 1e6
        burst = self._since[CPU] - signs.spun
        self.seen, self._looked_at = look, result.at
        self._since, self._spins = Counter(), set()
        return replace(result, amounts=amounts, burst=burst, used=(*result.used, *signs.used))
