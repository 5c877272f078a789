"""How far a program in the namespaces is, by the files that it leaves.

Each function is asked with a step's name, and answers None where it has nothing to count.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from goldenami.core.terminal.meter import Counted
from goldenami.model.builds.build_records import ROLES_JOINED_BY
from goldenami.model.builds.plans import BakePlan
from goldenami.model.locked.lockfile import Lock

_PACKAGES = "var/lib/dpkg/info/*.list"
"""One for each package, written as it is unpacked (dpkg's own database)."""
_WHEELS = "opt/ml/*/lib/python3*/site-packages/*.dist-info"
"""One for each wheel of an environment."""
_SOURCES = "var/lib/dkms/*/*/build/**/*.c"
"""Where DKMS compiles a copy of a driver's sources, each to an object beside it; all of them are in
the driver."""
SUFFIX = ".progress"
"""Of a file in which pytest's plugin says `DONE TOTAL`, beside `checks.json`."""


def expected(lock: Lock) -> dict[str, int]:
    """How many packages each step of a bake will have unpacked."""
    steps = {ROLES_JOINED_BY.join(step.roles): len(step.packages) for step in lock.steps}
    return {"base": len(lock.base_packages), **steps}


def of_bake(plan: BakePlan, steps: Mapping[str, int], name: str) -> Counted | None:
    """Packages that the step `name` has unpacked, of those that `steps` says, or wheels."""
    keys = {"base": plan.base_key, **{step.name: step.key for step in plan.steps}}
    if name not in keys:
        return None
    uppers = [plan.layers / f"{keys[name]}.part/upper", plan.work / "layer/upper"]
    upper = next((folder for folder in uppers if folder.is_dir()), None)
    if upper is None:
        return None
    trees = [upper, *upper.glob("root*")] if name == "base" else [upper]
    packages = sum(1 for tree in trees for _ in tree.glob(_PACKAGES))
    if wheels := sum(1 for _ in upper.glob(_WHEELS)):
        return wheels, 0, "Python packages"
    return (packages, max(packages, steps.get(name, 0)), "packages") if packages else None


def of_compilation(work: Path, _name: str = "") -> Counted | None:
    """Files that were compiled in the work folder of a compilation, whose tree is an overlay:
    DKMS's of how many."""
    sources = [
        path for path in (work / "layer/upper").glob(_SOURCES) if not path.name.endswith(".mod.c")
    ]
    if sources:
        return (
            sum(path.with_suffix(".o").exists() for path in sources),
            len(sources),
            "files compiled:",
        )
    objects = sum(1 for _ in (work / "layer/upper").rglob("*.o"))
    return (objects, 0, "files compiled:") if objects else None


def of_checks(work: Path, name: str) -> Counted | None:
    """Checks that have ended, of all that were collected."""
    if name != "checks":
        return None
    counts = [path.read_text(encoding="utf-8").split() for path in work.glob(f"*{SUFFIX}")]
    done, total = (sum(int(each[place]) for each in counts if len(each) == 2) for place in (0, 1))
    return (done, total, name) if total else None
