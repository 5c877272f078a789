"""The measured speedup of a build for the hardware over the index's wheel, and the rule that
decides by it. Pure.

roles/frameworks/files/measurements.json holds one entry for each framework, version and CPU; a
benchmark writes them, a person commits them. So a lock comes out the same on every machine,
whatever CPU that machine has.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from goldenami.core import records
from goldenami.core.records import Record
from goldenami.image.lock import cuda_wheels
from goldenami.model import program_files
from goldenami.model.locked.lockfile import Origin
from goldenami.model.roles.recipes import CudaWheel, Recipe

FILE = "roles/frameworks/files/measurements.json"
LEAST_SPEEDUP = 1.10
"""Least speedup over the wheel, over all workloads, at which a build for the hardware is taken."""
LEAST_OF_A_WORKLOAD = 0.95
"""Least speedup of each single workload: nobody trades one program's speed for another's."""


class Workload(Record):
    """One figure of a benchmark: the median of the ratios of neighbouring runs (image's build over
    generic one), and their quartiles. Above 1 the image's build is faster."""

    name: str
    ratio: float
    low: float
    high: float


class Measurement(Record):
    """A benchmark's outcome: `cpu` is the machine's micro-architecture, `against` the wheel or the
    CPU of the generic build, `key` the measured wheel's (wheel_builds.py)."""

    framework: str
    version: str
    cpu: str
    against: str
    machine: str
    rounds: int
    key: str
    workloads: list[Workload]

    @property
    def speedup(self) -> float:
        return round(statistics.geometric_mean(workload.ratio for workload in self.workloads), 2)

    @property
    def worst(self) -> Workload:
        return min(self.workloads, key=lambda workload: workload.ratio)


class Measurements(Record):
    """The content of measurements.json."""

    measurements: list[Measurement]


@dataclass(frozen=True)
class Decision:
    """Wheel or source, and why. `speedup`, `measured_on` and `key` (of the measured build) are None
    if nothing was measured on this micro-architecture."""

    origin: Origin
    why: str
    speedup: float | None = None
    measured_on: str | None = None
    key: str | None = None

    def of(self, key: str) -> Decision:
        """This decision for the build `key`. If another build was measured, its speedup is dropped
        and the reason says so."""
        if self.key in (None, key):
            return self
        return replace(
            self,
            speedup=None,
            measured_on=None,
            why=f"{self.why}; that was another build of this version: measure again",
        )


def load(root: Path) -> list[Measurement]:
    """All committed measurements: goldenami's, then those of the repository `root`."""
    # In goldenami's own checkout both are one file, which is read once.
    paths = dict.fromkeys([program_files.home(root) / FILE, root / FILE])
    rows = list[Measurement]()
    for path in paths:
        if path.exists():
            rows += records.read(path, Measurements).measurements
    return rows


def decide(
    name: str,
    recipe: Recipe,
    cpus: Sequence[str],
    sm: Sequence[str],
    measurements: Sequence[Measurement],
) -> Decision:
    """Whether the image for `cpus` and the CUDA architectures `sm` gets the index's wheel or a
    build of its own.

    Only measurements of the recipe's version over what it names as `against` count. If a CPU was
    not measured, the rule's default holds.
    """
    by_cpu = dict[str, Measurement]()
    for entry in measurements:
        measured = (entry.framework, entry.version, entry.against)
        if measured == (name, recipe.version, recipe.against):
            by_cpu[entry.cpu] = entry
    if unmeasured := [cpu for cpu in cpus if cpu not in by_cpu]:
        figure = f"not measured on {', '.join(unmeasured)}"
        return Decision(*_judged(recipe, cpus, sm, None, figure))
    # An image for several CPUs has one build, so the CPU with the least speedup decides.
    least = min((by_cpu[cpu] for cpu in cpus), key=lambda entry: entry.speedup)
    figure = f"{least.speedup:.2f}x over {least.against}, measured on {least.cpu}"
    return Decision(*_judged(recipe, cpus, sm, least, figure), least.speedup, least.cpu, least.key)


def _judged(
    recipe: Recipe,
    cpus: Sequence[str],
    sm: Sequence[str],
    measurement: Measurement | None,
    figure: str,
) -> tuple[Origin, str]:
    # The first case that holds decides, so the order matters: first what leaves no choice, then
    # the speed.
    wheel = recipe.wheel
    if not recipe.has_build:
        return Origin.WHEEL, "the recipe has no build"
    if recipe.build.not_run is not None:
        return Origin.WHEEL, f"recipe not run here: {recipe.build.not_run}"
    if wheel is None:
        return Origin.SOURCE, f"the index has no wheel; {figure}"
    if uncovered := cuda_wheels.uncovered(wheel, sm):
        why = f"the wheel has no code for sm_{', sm_'.join(uncovered)}; {figure}"
        return Origin.SOURCE, why
    if isinstance(wheel, CudaWheel) and recipe.build.cuda is None:
        return Origin.WHEEL, "a build would have no code for the GPUs"
    return _judged_by_speed(recipe.only, cpus, measurement, figure)


def _judged_by_speed(
    only: Sequence[str] | None,
    cpus: Sequence[str],
    measurement: Measurement | None,
    figure: str,
) -> tuple[Origin, str]:
    """The case of a recipe whose wheel and build both run; `only` are the CPUs that a build is
    for, or None for all."""
    if only is not None and (other_cpus := sorted(set(cpus) - set(only))):
        why = f"a build is for {', '.join(only)} only, not for {', '.join(other_cpus)}"
        return Origin.WHEEL, why
    if measurement is None:
        return Origin.WHEEL, f"the rule's default; {figure}"
    worst = measurement.worst
    if worst is not None and worst.ratio < LEAST_OF_A_WORKLOAD:
        return Origin.WHEEL, f"{worst.name} would be {worst.ratio:.2f}x; {figure}"
    if measurement.speedup < LEAST_SPEEDUP:
        return Origin.WHEEL, f"{figure}, less than {LEAST_SPEEDUP:.2f}x"
    return Origin.SOURCE, figure
