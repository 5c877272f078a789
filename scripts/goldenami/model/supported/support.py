"""Ends of support of an image's parts: dated tables with their sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Any

from goldenami.model.supported import compatibility
from goldenami.model.supported.compatibility import DriverBranch, DriverTable
from goldenami.model.supported.platforms import RELEASES, RELEASES_SOURCE, Distribution

KERNELS = {
    "5.15": date(2026, 12, 31),
    "6.1": date(2027, 12, 31),
    "6.6": date(2027, 12, 31),
    "6.12": date(2028, 12, 31),
    "6.18": date(2028, 12, 31),
}
KERNELS_SOURCE = (
    "https://www.kernel.org/category/releases.html, projected EOL as of 2026-03; "
    "a month is its last day"
)
CUDA_SOURCE = (
    "https://gitlab.com/nvidia/container-images/cuda, doc/support-policy.md: CUDA ends "
    "with the driver branch that it came with; read 2026-11"
)


DRIVER_MOVE = (
    "docs/drivers-and-repositories.md#to-another-branch has the two lines of a definition that "
    "make the same image with a long-term branch, from NVIDIA itself"
)
"""Advice on a driver branch that ends: Debian has none that lasts."""


class SupportState(StrEnum):
    """State of support on a day. A part whose end is in no table is `unknown`, never
    `supported`."""

    SUPPORTED = "supported"
    ENDING = "ends soon"
    ENDED = "ended"
    UNKNOWN = "not known"


@dataclass(frozen=True)
class PartSupport:
    """Support of one part of an image. `ends` is the last day of its `branch`, or None if unknown.
    `over` is true if support has ended on an unknown day.

    `note` says who gives the support, `source` where the date was read, `move` how to leave the
    part once its support ends.
    """

    part: str
    version: str
    ends: date | None
    source: str
    branch: str
    note: str = ""
    over: bool = False
    move: str = "plan the move to a newer one"

    def state(self, day: date) -> SupportState:
        if self.over or (self.ends and self.ends < day):
            return SupportState.ENDED
        if self.ends is None:
            return SupportState.UNKNOWN
        if self.ends - day <= compatibility.END_NOTICE:
            return SupportState.ENDING
        return SupportState.SUPPORTED

    def advice(self, day: date) -> str:
        """Return `move` if support ends soon or has ended, else ""."""
        is_due = self.state(day) in (SupportState.ENDING, SupportState.ENDED)
        return self.move if is_due else ""

    def words(self, day: date) -> str:
        state = self.state(day)
        if self.ends is None:
            return "ended, the day is not known" if state is SupportState.ENDED else "not known"
        return {
            SupportState.SUPPORTED: f"supported until {self.ends}",
            SupportState.ENDED: f"ended {self.ends}",
            SupportState.ENDING: f"ends {self.ends}, in {(self.ends - day).days} days",
        }[state]


def of_lock(root: Path, lock: Mapping[str, Any]) -> list[PartSupport]:
    """Return the support of distribution, kernel, driver and CUDA of a lock of the repository
    `root`, given as plain JSON."""
    drivers, locked = compatibility.load(root), filter(None, [lock.get("driver")])
    return [
        _distribution(lock["base"]),
        _kernel(lock),
        *(driver_branch(drivers, driver["version"], driver["branch"]) for driver in locked),
        *_cuda(drivers, lock.get("cuda")),
    ]


def _distribution(base: Mapping[str, Any]) -> PartSupport:
    platform, name = RELEASES.get(base["release"]), f"{base['distribution']} {base['release']}"
    if platform is None:
        return PartSupport("Distribution", name, None, RELEASES_SOURCE, name)
    note = f"by the security team until {platform.regular}, then as long-term support"
    return PartSupport(
        "Distribution",
        name,
        platform.last,
        RELEASES_SOURCE,
        name,
        note if platform.last > platform.regular else "",
    )


def _kernel(lock: Mapping[str, Any]) -> PartSupport:
    # Debian follows a longterm series of kernel.org. Ubuntu keeps a series of its own as long as
    # its release.
    release, base = str(lock["kernel"]["release"]), lock["base"]
    series = ".".join(release.split(".")[:2])
    if base["distribution"] == Distribution.UBUNTU:
        platform = RELEASES.get(base["release"])
        return PartSupport(
            "Kernel",
            release,
            platform.last if platform else None,
            RELEASES_SOURCE,
            series,
            "as long as the release",
        )
    return PartSupport(
        "Kernel",
        release,
        KERNELS.get(series),
        KERNELS_SOURCE,
        series,
        f"longterm series {series} of kernel.org",
    )


def driver_branch(drivers: DriverTable, version: str, branch: str) -> PartSupport:
    """Return the support of an NVIDIA driver."""
    row, note = drivers.branches.get(branch, DriverBranch()), f"branch {branch}"
    source = row.source or f"{drivers.source}; read {drivers.read}"
    part = PartSupport("NVIDIA driver", version, None, source, branch, note, move=DRIVER_MOVE)
    return _branch(part, row)


def _cuda(drivers: DriverTable, cuda: Mapping[str, Any] | None) -> list[PartSupport]:
    if not cuda:
        return []
    release = ".".join(str(cuda["version"]).split(".")[:2])
    branch = next((name for name, row in drivers.branches.items() if row.cuda == release), "")
    note = "the driver branch that it came with is not known"
    if branch:
        note = f"came with driver branch {branch}"
    row = drivers.branches.get(branch, DriverBranch())
    part = PartSupport("CUDA", str(cuda["version"]), None, CUDA_SOURCE, release, note)
    return [_branch(part, row)]


def _branch(part: PartSupport, row: DriverBranch) -> PartSupport:
    return replace(part, ends=row.last_day, over=row.ends == "ended")
