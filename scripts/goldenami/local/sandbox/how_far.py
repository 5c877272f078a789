"""Progress of a program in the namespaces, measured by the files that it leaves.

Each function is called with a step's name, and returns None if it has nothing to count.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from goldenami.core.terminal.meter import Counted
from goldenami.model.builds.build_records import ROLES_JOINED_BY
from goldenami.model.builds.plans import BakePlan
from goldenami.model.locked.lockfile import Lock

_PACKAGES = "var/lib/dpkg/info/*.list"
"""One file for each package, written as it is unpacked (dpkg's own database)."""
_WHEELS = "opt/ml/*/lib/python3*/site-packages/*.dist-info"
"""One folder for each wheel of an environment."""
_SOURCES = "var/lib/dkms/*/*/build/**/*.c"
"""Files of the copy of a driver's sources that DKMS compiles, each to an object beside it. All of
them come with the driver."""
SUFFIX = ".progress"
"""Suffix of a file beside `checks.json` in which pytest's plugin writes `DONE TOTAL`."""


def expected(lock: Lock) -> dict[str, int]:
    """Return how many packages each step of a bake will have unpacked."""
    steps = {ROLES_JOINED_BY.join(step.roles): len(step.packages) for step in lock.steps}
    return {"base": len(lock.base_packages), **steps}


def of_bake(plan: BakePlan, steps: Mapping[str, int], name: str) -> Counted | None:
    """Return the packages that the step `name` has unpacked, of those that `steps` expects, or its
    wheels."""
    keys = {"base": plan.base_key, **{step.name: step.key for step in plan.steps}}
    if name not in keys:
        return None
    uppers = [plan.layers / f"{keys[name]}.part/upper", plan.work / "layer/upper"]
    upper = next((folder for folder in uppers if folder.is_dir()), None)
    if upper is None:
        return None
    if wheels := _count(upper, _WHEELS):
        return wheels, 0, "Python packages"
    packages = _count(upper, _PACKAGES)
    if name == "base":
        packages += sum(_count(tree, _PACKAGES) for tree in upper.glob("root*"))
    if not packages:
        return None
    return packages, max(packages, steps.get(name, 0)), "packages"


def _count(folder: Path, pattern: str) -> int:
    return sum(1 for _ in folder.glob(pattern))


def of_compilation(work: Path, _name: str = "") -> Counted | None:
    """Return how many files were compiled in a compilation's work folder, whose tree is an overlay;
    for DKMS also of how many."""
    upper = work / "layer/upper"
    # The kernel's build generates the .mod.c files: they are not in the driver.
    sources = [path for path in upper.glob(_SOURCES) if not path.name.endswith(".mod.c")]
    if sources:
        compiled = sum(path.with_suffix(".o").exists() for path in sources)
        return compiled, len(sources), "files compiled:"
    if objects := _count(upper, "**/*.o"):
        return objects, 0, "files compiled:"
    return None


def of_checks(work: Path, name: str) -> Counted | None:
    """Return how many checks have ended, of all that were collected."""
    if name != "checks":
        return None
    ended = total = 0
    for path in work.glob(f"*{SUFFIX}"):
        figures = path.read_text(encoding="utf-8").split()
        if len(figures) == 2:
            ended += int(figures[0])
            total += int(figures[1])
    return (ended, total, name) if total else None
