"""What a machine uses, from the kernel's counters: two readings make a sample.

`root` is `/`, or for tests a folder that looks like it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from golden_idle.decide import Sample
from golden_idle.nvml import Gpu

SECTOR = 512
"""Bytes; /proc/diskstats counts in these whatever the disk's own are (Documentation/admin-guide/iostats.rst)."""
NVIDIA, DISPLAY = "0x10de", "0x03"
"""PCI's number of the vendor, and the class of display controllers, which GPUs without a display have, too."""
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Reading:
    """The counters at a time of CLOCK_BOOTTIME, in seconds."""

    at: float
    busy_s: float
    """core-seconds of processes and of the kernel for them"""
    idle_s: float
    """core-seconds that the kernel counts as idle, waits for disks not among them"""
    all_s: float
    disks: Mapping[str, int]
    """bytes read and written, by disk"""
    networks: Mapping[str, int]
    """bytes received and sent, by network card"""
    terminals: Mapping[str, int]
    """when a program last read what somebody typed, by terminal; ns, compared for change alone"""


def read(root: Path) -> Reading:
    """Read all counters."""
    fields = [int(word) / _TICKS for word in _text(root / "proc/stat").split("\n", 1)[0].split()[1:9]]
    user, nice, system, idle, iowait, irq, softirq, steal = fields
    busy = user + nice + system + irq + softirq
    return Reading(time.clock_gettime(time.CLOCK_BOOTTIME), busy, idle, busy + idle + iowait + steal,
                   dict(_disks(root)), dict(_networks(root)), dict(_terminals(root / "dev/pts")))


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _real(folder: Path) -> set[str]:
    """Names in a folder of /sys that are devices; a partition, array, bridge or container's end would count twice."""
    return {path.name for path in folder.iterdir() if (path / "device").exists()} if folder.is_dir() else set()


def _disks(root: Path) -> Iterator[tuple[str, int]]:
    names = _real(root / "sys/block")
    for line in _text(root / "proc/diskstats").splitlines():
        words = line.split()
        if words[2] in names:
            yield words[2], (int(words[5]) + int(words[9])) * SECTOR


def _networks(root: Path) -> Iterator[tuple[str, int]]:
    names = _real(root / "sys/class/net")
    for line in _text(root / "proc/net/dev").splitlines()[2:]:
        name, _, numbers = line.partition(":")
        words = numbers.split()
        if name.strip() in names:
            yield name.strip(), int(words[0]) + int(words[8])


def _terminals(folder: Path) -> Iterator[tuple[str, int]]:
    """The kernel sets a terminal's access time when a program reads from it (tty_update_time, in steps of 8 s)."""
    for path in folder.glob("[0-9]*"):
        try:
            yield path.name, path.stat().st_atime_ns
        except OSError:
            continue  # closed meanwhile


def gpus_on_bus(root: Path) -> int:
    """GPUs that the PCI bus shows, whether or not a driver has them."""
    folder = root / "sys/bus/pci/devices"
    devices = folder.iterdir() if folder.is_dir() else ()
    return sum(_text(device / "vendor").strip() == NVIDIA and _text(device / "class").startswith(DISPLAY)
               for device in devices)


def sample(earlier: Reading, later: Reading, gpus: list[Gpu], lost: str, at: float) -> Sample:
    """What was used between two readings, as of `at`. What is new counts from now on: it brings a past of its own."""
    seconds = later.at - earlier.at
    return Sample(
        at=at, gpus=tuple(gpu.peak for gpu in gpus), lost=lost,
        cores=(later.busy_s - earlier.busy_s) / seconds if seconds > 0 else float("nan"),
        disk_mb_s=_rate(earlier.disks, later.disks, seconds),
        network_mb_s=_rate(earlier.networks, later.networks, seconds),
        typed=any(earlier.terminals.get(name) != at for name, at in later.terminals.items()),
    )


def _rate(earlier: Mapping[str, int], later: Mapping[str, int], seconds: float) -> float:
    moved = sum(max(0, count - earlier.get(name, count)) for name, count in later.items())
    return moved / 1e6 / seconds if seconds > 0 else float("nan")
