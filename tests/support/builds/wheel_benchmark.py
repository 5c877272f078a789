"""A recipe's benchmark in two environments, in turns: the image's build against a generic one.

In turns, so that what else the machine does meets both alike; each run is a process of its own with
one thread. `python -m support.builds.wheel_benchmark PLAN` runs them in a scratch tree.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from goldenami.core import shell
from goldenami.core.errors import StageFailed
from goldenami.core.records import Record
from goldenami.image.lock import frameworks
from goldenami.image.lock.build_decision import Workload
from goldenami.image.lock.compilation.wheel_builds import WheelBuild
from goldenami.image.lock.frameworks import FrameworkResolver
from goldenami.local.host import workspace
from goldenami.local.programs import build_wheel
from goldenami.local.sandbox import program
from goldenami.model.builds.plans import WheelPlan
from goldenami.model.locked.lockfile import Origin, Target
from goldenami.model.supported import instruction_sets
from goldenami.packages import local_repository
from goldenami.packages.pypi import PyFile

TESTS = Path(__file__).resolve().parents[2]
IMAGE, GENERIC = "image", "generic"
"""The sides: the build for the image's hardware, and the index's wheel or a portable build."""
ONE_THREAD = [
    f"{name}=1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
]
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
    with build_wheel.scratch_tree(plan) as tree:
        for side, wheels in plan.sides.items():
            build_wheel.environment(tree, side, wheels, plan.log)
        for number in range(plan.rounds):
            # Neither is always the one that finds warm caches.
            for side in sorted(figures, reverse=bool(number % 2)):
                figures[side].append(run(plan, tree, side))
    return BenchmarkResult(figures=figures)


def run(plan: BenchmarkPlan, tree: Path, side: str) -> Figures:
    """The JSON object in the last line of the benchmark's output."""
    argv = [
        "chroot",
        str(tree),
        "env",
        "-i",
        "HOME=/build",
        "TMPDIR=/tmp",
        "PATH=/usr/bin:/bin",
        "LC_ALL=C.UTF-8",
        "PYTHONPATH=/build/programs",
        *ONE_THREAD,
        f"/build/{side}/bin/python",
        "-B",
        f"/build/programs/{plan.name}/bench.py",
    ]
    try:
        figures: Figures = json.loads(shell.output(argv).splitlines()[-1])
    except (shell.CommandFailed, IndexError, ValueError) as error:
        raise StageFailed(
            f"the benchmark of {plan.name} gives no figures with the {side} build",
            tail=str(error),
            hint="see its bench.py",
        ) from None
    return figures


def sides(name: str, resolver: FrameworkResolver) -> tuple[WheelBuild, dict[str, list[PyFile]]]:
    """The build of the recipe `name`, and the wheels of both sides, built or fetched here.

    StageFailed where builds for different CPUs are the same bytes: then no flag reached the
    compiler.
    """
    fitted = resolver.fitting(name)
    recipe = fitted.recipe
    wanted = frameworks.requirements(fitted, Origin.SOURCE, resolver.request.target.sm)
    closure = resolver.index.resolve(wanted, [], resolver.image_python())
    pins = [f"{file.project}=={file.version}" for file in closure]
    theirs, runs_with = frameworks.parts(recipe, closure, {})
    build = resolver.wheel_build(name, recipe, runs_with, pins)
    ours = resolver.compiled(build).wheel
    if theirs is None:
        assert recipe.generic is not None
        gcc = resolver.request.gcc
        options = list(instruction_sets.baseline([recipe.generic], gcc).options)
        target = Target(cpu=recipe.generic, options=options)
        plain = replace(resolver, request=replace(resolver.request, target=target))
        theirs = plain.compiled(plain.wheel_build(name, recipe, runs_with, pins)).wheel
    if ours.sha256 == theirs.sha256:
        raise StageFailed(
            f"recipe {name}: the builds for different CPUs are the same bytes",
            hint="`{options}` does not reach the compiler",
        )
    resolver.fetch_debs(list(build.debs))
    resolver.index.fetch(
        [build.source, *build.requires, *build.tests, theirs, *runs_with], resolver.store
    )
    return build, {IMAGE: [ours, *runs_with], GENERIC: [theirs, *runs_with]}


def ratios(
    build: WheelBuild, wheels: dict[str, list[PyFile]], resolver: FrameworkResolver, rounds: int
) -> list[Workload]:
    """The recipe's benchmark on both sides, `rounds` times each."""
    with workspace.scratch_in(
        workspace.in_cache(resolver.store), f"bench-{build.key[:12]}"
    ) as work:
        plan = resolver.compiler.plan(build, work)
        placed = dict[str, list[str]]()
        for side, files in wheels.items():
            # Apart: two builds of one source have the same file name.
            folder = work / "wheels" / side
            folder.mkdir()
            for file in files:
                local_repository.link(resolver.store.path(file.sha256), folder / file.filename)
            placed[side] = [f"wheels/{side}/{file.filename}" for file in files]
        benchmark = BenchmarkPlan(**plan.model_dump(), rounds=rounds, sides=placed)
        os.environ["PYTHONPATH"] = str(TESTS)  # the program below is found there
        figures = program.call(
            "support.builds.wheel_benchmark", benchmark, BenchmarkResult, resolver.progress
        ).figures
    return compare(figures[GENERIC], figures[IMAGE])


def compare(generic: Sequence[Figures], image: Sequence[Figures]) -> list[Workload]:
    """The workloads of runs that alternated: figures are rates, so image over generic above 1 is a
    speedup."""
    workloads = []
    for name in image[0]:
        ratios = [ours[name] / theirs[name] for ours, theirs in zip(image, generic, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
        workloads.append(
            Workload(name=name, ratio=round(middle, 3), low=round(low, 3), high=round(high, 3))
        )
    return workloads


if __name__ == "__main__":
    sys.exit(program.serve(BenchmarkPlan, measure))
