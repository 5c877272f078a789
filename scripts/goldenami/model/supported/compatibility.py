"""Compatibility of drivers, CUDA and GPUs: dated tables with their sources, and rules over them.
Does no I/O."""

from __future__ import annotations

from datetime import date, timedelta

from goldenami.core.errors import NoFit

CUDA_OF_BRANCH = {
    "470": "11.4",
    "510": "11.6",
    "515": "11.7",
    "520": "11.8",
    "525": "12.0",
    "530": "12.1",
    "535": "12.2",
    "545": "12.3",
    "550": "12.4",
    "555": "12.5",
    "560": "12.6",
    "565": "12.7",
    "570": "12.8",
    "575": "12.9",
    "580": "13.0",
    "590": "13.1",
    "595": "13.2",
}
"""Newest CUDA that each driver branch supports natively (NVIDIA, CUDA Toolkit release notes, table
3; read 2026-11)."""

MINIMUM_DRIVER = {"11": "450.80.02", "12": "525.60.13", "13": "580.65.06"}
"""Oldest driver for each CUDA major by minor-version compatibility (same document, table 2)."""

LOWEST_ARCHITECTURE = {"11": 35, "12": 50, "13": 75}
"""Lowest compute capability (times ten) for which a CUDA major compiles (its release notes, dropped
architectures)."""

NEWEST_ARCHITECTURE = {"11.0": 80, "11.1": 86, "11.4": 87, "11.8": 90, "12.8": 120, "12.9": 121}
"""CUDA releases that raised the highest compute capability (NVIDIA nvcc documentation, "GPU Feature
List", by release)."""

LATE_ARCHITECTURE = {"103": "12.9"}
"""Compute capabilities that a release added below the highest one of its time (same list: that of
B300 came after that of RTX)."""


def version_tuple(version: str) -> tuple[int, ...]:
    """Return NVIDIA's dotted numbers as integers: "535.309.01" -> (535, 309, 1)."""
    return tuple(int(part) for part in version.split("."))


def upstream(version: str) -> str:
    """Return the upstream part of a Debian version: "1:535.309.01-0+deb12u1" -> "535.309.01"."""
    return version.rpartition(":")[2].partition("-")[0].partition("~")[0]


def check_cuda(cuda: str, driver: str) -> str:
    """Return why `cuda` ("11.8") runs on `driver` ("535.309.01"). Raises NoFit with both if it does
    not."""
    major = cuda.partition(".")[0]
    branch = driver.partition(".")[0]
    native = CUDA_OF_BRANCH.get(branch)
    if native and version_tuple(cuda) <= version_tuple(native):
        return f"driver branch {branch} has CUDA {native}"
    minimum = MINIMUM_DRIVER.get(major)
    if minimum and version_tuple(driver) >= version_tuple(minimum):
        return f"minor-version compatibility: CUDA {major}.x needs driver {minimum} or newer"
    needed = minimum or "a newer driver"
    raise NoFit(
        f"CUDA {cuda} does not run on driver {driver}: CUDA {major}.x needs {needed}",
        hint="choose a newer nvidia_driver_branch or an older CUDA",
    )


def runs_on(least: str, driver: str) -> bool:
    """Whether software that needs at least the driver `least` runs on `driver`. "" means that none
    is needed, or that there is none."""
    return not least or (bool(driver) and version_tuple(driver) >= version_tuple(least))


def check_architectures(cuda: str, architectures: list[str]) -> None:
    """Raise NoFit if the toolkit `cuda` cannot compile for one of `architectures` ("86")."""
    lowest, highest = LOWEST_ARCHITECTURE.get(cuda.partition(".")[0], 0), 0
    for release, newest in NEWEST_ARCHITECTURE.items():
        if version_tuple(cuda) >= version_tuple(release):
            highest = newest
    if not lowest or not highest:
        raise NoFit(
            f"what CUDA {cuda} compiles for is not known",
            hint="add it to the tables of compatibility.py",
        )
    unsupported = list[str]()
    for sm in architectures:
        first_cuda = LATE_ARCHITECTURE.get(sm, "0")
        if not lowest <= int(sm) <= highest or version_tuple(cuda) < version_tuple(first_cuda):
            unsupported.append(f"sm_{sm}")
    if unsupported:
        raise NoFit(
            f"CUDA {cuda} compiles for sm_{lowest} to sm_{highest}, "
            f"not for {', '.join(unsupported)}",
            hint="take the family out of `hardware`, or choose another CUDA",
        )


def check_flavour(flavour: str, open_only: list[str], closed_only: list[str]) -> None:
    """Raise NoFit if the flavour of kernel modules cannot run a declared family's GPU. The lists
    have the families for which it has to be open, and those for which it can't be."""
    if flavour == "open" and closed_only:
        raise NoFit(
            f"open kernel modules need Turing or newer, which {', '.join(closed_only)} has not",
            hint="set nvidia_driver_flavour: proprietary, or take the family out of `hardware`",
        )
    if flavour == "proprietary" and open_only:
        raise NoFit(
            f"only the open kernel modules run the GPU of {', '.join(open_only)}",
            hint="set nvidia_driver_flavour: open, or take the family out of `hardware`",
        )


LAST_BRANCH = {70: "580"}
"""Last driver branch for GPUs up to a compute capability. R580 is the last one for Maxwell, Pascal
and Volta (NVIDIA, CUDA Toolkit 13 release notes, "Deprecated Architectures"; read 2026-11)."""


def branch_refusal(branch: str, architectures: list[str]) -> str:
    """Return why driver `branch` does not run one of the GPUs, or "". The first branch that runs an
    architecture is the one whose native CUDA first compiles for it, the last is in
    `LAST_BRANCH`."""
    for sm in architectures:
        last = next((name for limit, name in sorted(LAST_BRANCH.items()) if int(sm) <= limit), None)
        if last and int(branch) > int(last):
            return f"branch {branch} does not run sm_{sm}: {last} was the last branch that does"
        first = _first_branch(sm)
        if first and int(branch) < int(first):
            return f"branch {branch} does not run sm_{sm}: {first} is the first branch that does"
    return ""


def _first_branch(sm: str) -> str | None:
    cuda = next(
        (release for release, newest in NEWEST_ARCHITECTURE.items() if int(sm) <= newest), None
    )
    if cuda is None or cuda == next(iter(NEWEST_ARCHITECTURE)):
        return None  # older than these tables
    return next(
        branch
        for branch, native in CUDA_OF_BRANCH.items()
        if version_tuple(native) >= version_tuple(cuda)
    )


BRANCH_END = {"535": "2026-06-30", "570": "2026-02-28", "580": "2028-06-30", "595": "2027-03-31"}
"""Last day of support of driver branches (NVIDIA, data center driver `releases.json`, its lifecycle
page and "Supported Drivers and CUDA Toolkit Versions"; read 2026-11). If the source states only a
month, it is that month's last day."""

ENDED_BRANCHES = frozenset({"510", "515", "525", "550", "560", "565", "575"})
"""Branches that NVIDIA calls "end of life" without a date ("Supported Drivers and CUDA Toolkit
Versions", note below table 2; read 2026-11)."""


END_NOTICE = timedelta(days=90)
"""How long before its end a branch is reported: time to bake and try another one."""


def near_end(branch: str, end: date | None, today: date) -> str:
    """Return a message if `branch` ends within `END_NOTICE`, has ended, or has an unknown end; else
    ""."""
    if end is None and branch in ENDED_BRANCHES:
        return f"driver branch {branch} has ended, NVIDIA says: no more fixes of its own come"
    if end is None:
        return (
            f"the end of driver branch {branch} is not known: "
            "look it up, add it to BRANCH_END of compatibility.py"
        )
    if end - today > END_NOTICE:
        return ""
    if end < today:
        return f"driver branch {branch} ended on {end}: no more fixes come"
    return f"driver branch {branch} ends on {end}, in {(end - today).days} days"


def branch_end(branch: str) -> date | None:
    """Return the last day of `branch`, or None if the table lacks it."""
    return date.fromisoformat(BRANCH_END[branch]) if branch in BRANCH_END else None
