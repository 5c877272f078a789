"""`python -m goldenami.local.programs.benchmark PLAN`: a benchmark in two environments, in turns.

In turns, so that what else the machine does meets both alike; each run is a process of its own with
one thread.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from goldenami.core import shell
from goldenami.core.errors import StageFailed
from goldenami.local import events
from goldenami.local.programs import build_wheel
from goldenami.local.sandbox import program
from goldenami.model.builds.plans import BenchmarkPlan, BenchmarkResult, Side

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def measure(plan: BenchmarkPlan) -> BenchmarkResult:
    """Run the benchmark in both environments, `rounds` times each."""
    with build_wheel.tree(plan) as root:
        for side in Side:
            build_wheel.environment(root, side, plan.sides[side], plan.log)
        return BenchmarkResult(figures=_measure(plan, root))


def _measure(plan: BenchmarkPlan, root: Path) -> dict[Side, list[dict[str, float]]]:
    measured: dict[Side, list[dict[str, float]]] = {side: [] for side in Side}
    for number in range(plan.rounds):
        # Neither is always the one that finds warm caches.
        for side in list(Side)[::1 if number % 2 else -1]:
            measured[side].append(_run(plan, root, side))
        events.emit("say", text=f"{plan.name}: round {number + 1} of {plan.rounds}")
    return measured


def _run(plan: BenchmarkPlan, root: Path, side: Side) -> dict[str, float]:
    argv = ["chroot", str(root), "env", "-i", "HOME=/build", "TMPDIR=/tmp", "PATH=/usr/bin:/bin",
            "LC_ALL=C.UTF-8",
            "PYTHONPATH=/build/programs",
            *(f"{name}={value}" for name, value in ONE_THREAD.items()),
            f"/build/{side}/bin/python", "-B", f"/build/programs/{plan.name}/bench.py"]
    try:
        return figures(shell.output(argv), plan.name, side)
    except shell.CommandFailed as error:
        raise StageFailed(f"the benchmark of {plan.name} {error.message.partition(' ')[2]} with "
                          f"the {side} build", tail=error.tail,
                          hint="see roles/frameworks/files") from None


def figures(text: str, name: str, side: str) -> dict[str, float]:
    """The JSON object in the last line of a benchmark's output."""
    try:
        rates: dict[str, float] = json.loads((text.splitlines() or [""])[-1])
    except ValueError:
        raise StageFailed(f"the benchmark of {name} prints no figures with the {side} build",
                          tail=text,
                          hint="the last line of its bench.py has to be a JSON object of rates") from None
    return rates


if __name__ == "__main__":
    sys.exit(program.serve(BenchmarkPlan, measure))
