"""`python -m bench.wheel_benchmark PLAN`: a recipe's benchmark in two environments, in turns.

In turns, so that what else the machine does meets both alike; each run is a process of its own with
one thread.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from goldenami.core import shell
from goldenami.core.errors import StageFailed
from goldenami.core.records import Record
from goldenami.local.programs import build_wheel
from goldenami.local.sandbox import program
from goldenami.model.builds.plans import WheelPlan

ONE_THREAD = [f"{name}=1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS",
                                       "MKL_NUM_THREADS")]
Figures = dict[str, float]
"""Rates by workload."""


class BenchmarkPlan(WheelPlan):
    """The wheels of each side, as paths below /build, and how often each is measured."""

    rounds: int
    sides: dict[str, list[str]]


class BenchmarkResult(Record):
    """The figures of each side's rounds."""

    figures: dict[str, list[Figures]]


def measure(plan: BenchmarkPlan) -> BenchmarkResult:
    """Run the benchmark of each side `rounds` times."""
    figures: dict[str, list[Figures]] = {side: [] for side in plan.sides}
    with build_wheel.tree(plan) as root:
        for side, wheels in plan.sides.items():
            build_wheel.environment(root, side, wheels, plan.log)
        for number in range(plan.rounds):
            # Neither is always the one that finds warm caches.
            for side in sorted(figures, reverse=bool(number % 2)):
                figures[side].append(run(plan, root, side))
    return BenchmarkResult(figures=figures)


def run(plan: BenchmarkPlan, root: Path, side: str) -> Figures:
    """The JSON object in the last line of the benchmark's output."""
    argv = ["chroot", str(root), "env", "-i", "HOME=/build", "TMPDIR=/tmp", "PATH=/usr/bin:/bin",
            "LC_ALL=C.UTF-8", "PYTHONPATH=/build/programs", *ONE_THREAD,
            f"/build/{side}/bin/python", "-B", f"/build/programs/{plan.name}/bench.py"]
    try:
        figures: Figures = json.loads(shell.output(argv).splitlines()[-1])
    except (shell.CommandFailed, IndexError, ValueError) as error:
        raise StageFailed(f"the benchmark of {plan.name} gives no figures with the {side} build",
                          tail=str(error), hint="see its bench.py") from None
    return figures


if __name__ == "__main__":
    sys.exit(program.serve(BenchmarkPlan, measure))
