"""Metrics of a minute, with the names, dimensions and units of CloudWatch's own agent, so that its
dashboards fit.

The names are from "Metrics collected by the CloudWatch agent on Linux" and "Collect NVIDIA GPU
metrics" of CloudWatch's guide. `golden_idle` and `golden_idle_gpu_lost` are this project's: the
share of a minute's samples for which that was so.
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
"""Metrics that are also sent by the group alone, with their names there. `golden_idle` has another
name: a sum over all machines is taken from its own."""


@dataclass(frozen=True)
class Figure:
    """A metric's value at a sample. `dimensions` are its own, without the instance's."""

    name: str
    value: float
    unit: str = UNIT_NONE
    dimensions: tuple[tuple[str, str], ...] = ()


@dataclass
class Statistic:
    """Values of a metric within a minute, as PutMetricData takes them."""

    count: int = 0
    total: float = 0.0
    least: float = float("inf")
    most: float = float("-inf")

    def add(self, value: float) -> None:
        """Add a value."""
        self.include(Statistic(1, value, value, value))

    def include(self, other: Statistic) -> None:
        """Add another statistic's values."""
        self.count += other.count
        self.total += other.total
        self.least, self.most = min(self.least, other.least), max(self.most, other.most)


Minute = dict[tuple[str, str, tuple[tuple[str, str], ...]], Statistic]
"""A minute's statistics, by name, unit and dimensions."""


def add(minute: Minute, figures: Iterator[Figure]) -> None:
    """Add a sample's figures to a minute."""
    for figure in figures:
        minute.setdefault((figure.name, figure.unit, figure.dimensions), Statistic()).add(
            figure.value
        )


def data(minute: Minute, at: float, instance: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return PutMetricData's `MetricData` for a minute that ended at `at`, in seconds since 1970.

    In a group the use of all GPUs is sent once more, by the group alone, for target tracking: it
    finds a metric by all of its dimensions (the other agent's "aggregation_dimensions"). So are the
    shares of machines that are free and unused.
    """
    rows = [
        _row(name, unit, at, (*own, *instance.items()), statistic)
        for (name, unit, own), statistic in minute.items()
        if name != FREE
    ]
    if GROUP in instance:
        rows += [
            _row(OF_GROUP[name], unit, at, ((GROUP, instance[GROUP]),), statistic)
            for (name, unit, _), statistic in minute.items()
            if name in OF_GROUP
        ]
    total = Statistic()
    for (name, _, _), statistic in minute.items():
        if name == GPU_USE:
            total.include(statistic)
    if total.count and GROUP in instance:
        rows.append(_row(GPU_USE, UNIT_NONE, at, ((GROUP, instance[GROUP]),), total))
    return rows


def _row(
    name: str, unit: str, at: float, dimensions: Iterable[tuple[str, str]], statistic: Statistic
) -> dict[str, Any]:
    return {
        "MetricName": name,
        "Unit": unit,
        "Timestamp": at,
        "Dimensions": [
            # CloudWatch takes only ASCII.
            {"Name": key, "Value": value.encode("ascii", "replace").decode()}
            for key, value in dimensions
        ],
        "StatisticValues": {
            "SampleCount": statistic.count,
            "Sum": statistic.total,
            "Minimum": statistic.least,
            "Maximum": statistic.most,
        },
    }


def figures(root: Path, earlier: Reading, later: Reading, gpus: list[Gpu]) -> Iterator[Figure]:
    """Yield all figures of a sample except the decision's."""
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
    """Return the percentage of memory in use, without buffers, cache and reclaimable slabs, which
    the kernel gives up at once."""
    rows = (
        line.split() for line in (root / "proc/meminfo").read_text(encoding="utf-8").splitlines()
    )
    kib = {row[0].rstrip(":"): int(row[1]) for row in rows}
    free = sum(kib.get(name, 0) for name in ("MemFree", "Buffers", "Cached", "SReclaimable"))
    return 100 * (1 - free / kib["MemTotal"])


def _disks(root: Path) -> Iterator[Figure]:
    """Yield the use of each mounted block device once, at its first mount point."""
    counted: set[str] = set()
    # PID 1's mounts: this unit's sandbox has mounts of its own.
    for line in (root / "proc/1/mounts").read_text(encoding="utf-8").splitlines():
        device, path, file_system = line.split()[:3]
        # A squashfs or ISO image is always full.
        if (
            not device.startswith("/dev/")
            or device in counted
            or file_system in ("squashfs", "iso9660")
        ):
            continue
        counted.add(device)
        try:
            space = os.statvfs(path)
        except OSError:
            continue
        used = space.f_blocks - space.f_bfree
        # As df(1): blocks that are reserved for root are neither used nor free.
        if used + space.f_bavail:
            own = (
                ("path", path),
                ("device", device.removeprefix("/dev/")),
                ("fstype", file_system),
            )
            yield Figure("disk_used_percent", 100 * used / (used + space.f_bavail), PERCENT, own)
