"""Figures of a minute, with the names, dimensions and units of CloudWatch's own agent, so that its
dashboards fit.

Names: "Metrics collected by the CloudWatch agent on Linux" and "Collect NVIDIA GPU metrics" of
CloudWatch's guide. `golden_idle` and `golden_idle_gpu_lost` are ours: the part of a minute's
samples for which that was so.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golden_idle.machine import Reading
from golden_idle.nvml import Gpu

NAMESPACE = "CWAgent"
PERCENT, UNIT_NONE = "Percent", "None"
GPU_USE, GROUP = "nvidia_smi_utilization_gpu", "AutoScalingGroupName"
IDLE, FREE = "golden_idle", "golden_free"
OF_GROUP = {IDLE: "golden_unused", FREE: FREE}
"""What comes by the group alone, and its name there: of `golden_idle` another one, since a sum over
all machines is taken from its own."""


@dataclass(frozen=True)
class Figure:
    """A metric's value at one sample. `dimensions` are its own, without those of the instance."""

    name: str
    value: float
    unit: str = UNIT_NONE
    dimensions: tuple[tuple[str, str], ...] = ()


@dataclass
class Statistic:
    """Values of one metric within a minute, as PutMetricData takes them."""

    count: int = 0
    total: float = 0.0
    least: float = float("inf")
    most: float = float("-inf")

    def add(self, value: float) -> None:
        """One more value."""
        self.count += 1
        self.total += value
        self.least, self.most = min(self.least, value), max(self.most, value)


Minute = dict[tuple[str, str, tuple[tuple[str, str], ...]], Statistic]
"""A minute's statistics, by name, unit and dimensions."""


def add(minute: Minute, figures: Iterator[Figure]) -> None:
    """Add what one sample has."""
    for figure in figures:
        minute.setdefault((figure.name, figure.unit, figure.dimensions), Statistic()).add(
            figure.value
        )


def data(minute: Minute, at: float, instance: Mapping[str, str]) -> list[dict[str, Any]]:
    """PutMetricData's `MetricData` of a minute that ended at `at`, in seconds since 1970.

    In a group the use of all GPUs comes once more, by the group alone: what target tracking can
    scale by, which finds a metric by all of its dimensions (the other agent's
    "aggregation_dimensions"). So do the shares of machines that are free and unused.
    """
    rows = [
        _row(name, unit, at, (*own, *instance.items()), each)
        for (name, unit, own), each in minute.items()
        if name != FREE
    ]
    if GROUP in instance:
        rows += [
            _row(OF_GROUP[name], unit, at, ((GROUP, instance[GROUP]),), each)
            for (name, unit, _), each in minute.items()
            if name in OF_GROUP
        ]
    gpus = [each for (name, _, _), each in minute.items() if name == GPU_USE]
    if gpus and GROUP in instance:
        total = Statistic(
            sum(each.count for each in gpus),
            sum(each.total for each in gpus),
            min(each.least for each in gpus),
            max(each.most for each in gpus),
        )
        rows.append(_row(GPU_USE, UNIT_NONE, at, ((GROUP, instance[GROUP]),), total))
    return rows


def _row(
    name: str, unit: str, at: float, dimensions: Iterable[tuple[str, str]], each: Statistic
) -> dict[str, Any]:
    return {
        "MetricName": name,
        "Unit": unit,
        "Timestamp": at,
        "Dimensions": [
            {"Name": key, "Value": value.encode("ascii", "replace").decode()}
            for key, value in dimensions
        ],
        "StatisticValues": {
            "SampleCount": each.count,
            "Sum": each.total,
            "Minimum": each.least,
            "Maximum": each.most,
        },
    }


def figures(root: Path, earlier: Reading, later: Reading, gpus: list[Gpu]) -> Iterator[Figure]:
    """All of one sample but the decision's."""
    if later.all_s > earlier.all_s:
        idle = (later.idle_s - earlier.idle_s) / (later.all_s - earlier.all_s)
        yield Figure("cpu_usage_active", 100 * (1 - idle), PERCENT, (("cpu", "cpu-total"),))
    yield Figure("mem_used_percent", _memory(root), PERCENT)
    for gpu in gpus:
        own = (("index", str(gpu.index)), ("name", gpu.name), ("arch", gpu.architecture))
        yield Figure(GPU_USE, gpu.utilization, dimensions=own)
        yield Figure("nvidia_smi_memory_used", gpu.memory_used, dimensions=own)
        yield Figure("nvidia_smi_memory_total", gpu.memory_total, dimensions=own)
    yield from _disks(root)


def _memory(root: Path) -> float:
    """Percent in use, without what the kernel gives up at once: buffers, cache and reclaimable
    slabs."""
    rows = (
        line.split() for line in (root / "proc/meminfo").read_text(encoding="utf-8").splitlines()
    )
    kib = {row[0].rstrip(":"): int(row[1]) for row in rows}
    free = sum(kib.get(name, 0) for name in ("MemFree", "Buffers", "Cached", "SReclaimable"))
    return 100 * (1 - free / kib["MemTotal"])


def _disks(root: Path) -> Iterator[Figure]:
    """Each mounted block device once, where it is mounted first; PID 1's view, since ours has
    mounts of its own."""
    seen: set[str] = set()
    for line in (root / "proc/1/mounts").read_text(encoding="utf-8").splitlines():
        device, path, kind = line.split()[:3]
        if not device.startswith("/dev/") or device in seen or kind in ("squashfs", "iso9660"):
            continue
        seen.add(device)
        try:
            space = os.statvfs(path)
        except OSError:
            continue
        used = space.f_blocks - space.f_bfree
        if used + space.f_bavail:
            own = (("path", path), ("device", device.removeprefix("/dev/")), ("fstype", kind))
            yield Figure("disk_used_percent", 100 * used / (used + space.f_bavail), PERCENT, own)
