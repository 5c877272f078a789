"""How far a program in the namespaces is, by the files that it leaves: its parent looks, the
program knows nothing.

Each function is asked with a step's name, and answers None where it has nothing to count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from goldenami.core.terminal.meter import BYTES, Counted
from goldenami.model.builds.build_records import ROLES_JOINED_BY
from goldenami.model.builds.lockfile import Lock
from goldenami.model.builds.plans import BakePlan

_PACKAGES = "var/lib/dpkg/info/*.list"
"""One for each package, written as it is unpacked (dpkg's own database)."""
_WHEELS = "opt/ml/*/lib/python3*/site-packages/*.dist-info"
"""One for each wheel of an environment."""
_SOURCES = "var/lib/dkms/*/*/build/**/*.c"
"""Where DKMS compiles a copy of a driver's sources, each to an object beside it; all of them are in
the driver."""
SUFFIX = ".progress"
"""Of a file in which pytest's plugin, beside `checks.json`, and the coverage check say `DONE
TOTAL`."""


@dataclass(frozen=True)
class Expected:
    """What a step will have unpacked at its end: packages of dpkg, and wheels."""

    packages: int = 0
    wheels: int = 0


def expected(lock: Lock) -> dict[str, Expected]:
    """What each step of a bake will have unpacked."""
    first = len(lock.cuda.wheels) if lock.cuda else 0
    others = sum(len(files) for files in lock.environments().values()) - first
    steps = {ROLES_JOINED_BY.join(step.roles): Expected(
        len(step.packages), first * ("cuda" in step.roles) + others * ("frameworks" in step.roles))
        for step in lock.steps}
    return {"base": Expected(len(lock.base_packages)), **steps}


def of_bake(plan: BakePlan, steps: Mapping[str, Expected], name: str) -> Counted | None:
    """Packages or wheels that the step `name` has unpacked, of those that `steps` says; of the disk
    the bytes that are written."""
    if name == "coverage":
        return _said(plan.work, f"{name}{SUFFIX}", "programs")
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
    whole = steps.get(name, Expected())
    if wheels:
        return wheels, max(wheels, whole.wheels), "Python packages"
    return (packages, max(packages, whole.packages), "packages") if packages else None


def of_compilation(work: Path, _name: str = "") -> Counted | None:
    """Files that were compiled in the work folder of a compilation, whose tree is an overlay:
    DKMS's of how many."""
    sources = [path for path in (work / "layer/upper").glob(_SOURCES)
               if not path.name.endswith(".mod.c")]
    if sources:
        return sum(path.with_suffix(".o").exists()
                   for path in sources), len(sources), "files compiled:"
    objects = sum(1 for _ in (work / "layer/upper").rglob("*.o"))
    return (objects, 0, "files compiled:") if objects else None


def say(work: Path, name: str, done: int, total: int) -> None:
    """Say in `work` how far the step `name` is."""
    (work / f"{name}{SUFFIX}").write_text(f"{done} {total}", encoding="utf-8")


def of_checks(work: Path, name: str) -> Counted | None:
    """Checks that have ended, of all that were collected."""
    return _said(work, f"*{SUFFIX}", name) if name == "checks" else None


def _said(work: Path, names: str, unit: str) -> Counted | None:
    counts = [path.read_text(encoding="utf-8").split() for path in work.glob(names)]
    done, total = (sum(int(each[place]) for each in counts if len(each) == 2) for place in (0, 1))
    return (done, total, unit) if total else None
