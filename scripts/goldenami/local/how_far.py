"""How far a program in the namespaces is, by the files that it leaves: its parent looks, the program knows nothing.

Each function is asked with a step's name, and answers None where it has nothing to count.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from goldenami.core.meter import BYTES, Counted
from goldenami.model.plans import BakePlan

_PACKAGES = "var/lib/dpkg/info/*.list"
"""One for each package, written as it is unpacked (dpkg's own database)."""
_WHEELS = "opt/ml/*/lib/python3*/site-packages/*.dist-info"
"""One for each wheel of an environment."""
CHECKS_SUFFIX = ".progress"
"""Of the file beside `checks.json` in which pytest's plugin says `DONE TOTAL`."""


def of_bake(plan: BakePlan, totals: Mapping[str, int], name: str) -> Counted | None:
    """Packages that the step `name` has unpacked, of its `totals`; of the disk the bytes that are written."""
    if name == "disk":
        disk = plan.work / "out/.disk.raw.work/disk"  # where disk.py writes it, until it is whole
        return (disk.stat().st_blocks * 512, 0, BYTES) if disk.exists() else None
    keys = {"base": plan.base_key, **{step.name: step.key for step in plan.steps}}
    if name not in keys:
        return None
    uppers = [plan.layers / f"{keys[name]}.part/upper", plan.work / "layer/upper"]
    upper = next((folder for folder in uppers if folder.is_dir()), None)
    if upper is None:
        return None
    trees = [upper, *upper.glob("root*")] if name == "base" else [upper]
    packages = sum(1 for tree in trees for _ in tree.glob(_PACKAGES))
    wheels = sum(1 for _ in upper.glob(_WHEELS))
    if wheels:
        return wheels, 0, "Python packages"
    return (packages, max(packages, totals.get(name, 0)), "packages") if packages else None


def of_compilation(work: Path, _name: str = "") -> Counted | None:
    """Files that were compiled in the work folder of a compilation, whose tree is an overlay."""
    objects = sum(1 for _ in (work / "layer/upper").rglob("*.o"))
    return (objects, 0, "files compiled:") if objects else None


def of_checks(work: Path, name: str) -> Counted | None:
    """Checks that have ended, of all that were collected."""
    if name != "checks":
        return None
    counts = [path.read_text(encoding="utf-8").split() for path in work.glob(f"*{CHECKS_SUFFIX}")]
    done, total = (sum(int(each[place]) for each in counts if len(each) == 2) for place in (0, 1))
    return (done, total, "checks") if total else None
