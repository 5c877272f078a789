"""The image's builds of frameworks against the generic ones, in turn.

    make bench-frameworks IMAGE=... [RECORD=1]

Ratios above 1: the image's build is faster. With RECORD=1 (--record) the figures become part of
roles/frameworks/files/measurements.json, by which a lock decides between wheel and source; review
and commit them. They are refused where the image is not for this machine's CPU alone: the figure
would be of another build than it says. A busy machine widens the quartiles, not so much the
medians.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench import harness
from bench.harness import ROOT
from bench.wheel_benchmark import BenchmarkPlan, BenchmarkResult, Figures
from goldenami.core.cache_paths import CachePaths
from goldenami.core.errors import BadInput, GoldenError, StageFailed
from goldenami.core.records import canonical, write_text
from goldenami.core.terminal.progress import Progress
from goldenami.image.lock import build_decision, frameworks, resolve
from goldenami.image.lock.build_decision import Measurement, Workload
from goldenami.image.lock.compilation import wheel_builds
from goldenami.image.lock.compilation.wheel_builds import WheelBuild
from goldenami.image.lock.frameworks import FrameworkRequest, ResolverContext
from goldenami.image.lock.resolution import opened
from goldenami.local import workspace
from goldenami.local.sandbox import program
from goldenami.model.builds import locked_hardware
from goldenami.model.builds.lockfile import Origin, Target
from goldenami.model.definitions import definition_file, recipes
from goldenami.model.definitions.definition import Definition
from goldenami.model.supported import instruction_sets
from goldenami.packages import local_repository, store
from goldenami.packages.pypi import PyFile

CPUINFO = Path("/proc/cpuinfo").read_text(encoding="utf-8")
LOG = ROOT / "build/bench/frameworks.log"
ROUNDS = 7
IMAGE, GENERIC = "image", "generic"
"""The sides: the build for the image's hardware, and the index's wheel or a portable build."""


def own_cpu() -> str:
    """This machine's micro-architecture by GCC's name."""
    argv = ["gcc", "-march=native", "-Q", "--help=target"]
    shown = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    found = re.search(r"^ *-march=\s+(\S+)$", shown, re.MULTILINE)
    assert found is not None, shown
    return found[1]


def machine() -> str:
    """The CPU as the kernel describes it."""
    facts = []
    for name in ("model name", "cpu family", "model"):
        match = re.search(rf"^{name}\s*: (.*)$", CPUINFO, re.MULTILINE)
        facts.append(match[1] if match else "?")
    return (f"{facts[0]}, family {facts[1]} model {facts[2]}, {os.cpu_count()} CPUs, "
            f"Linux {platform.release()}")


def runnable(wanted: list[str]) -> list[str]:
    """The frameworks whose recipe can run here; prints why the others cannot."""
    names = []
    for name in wanted:
        recipe = recipes.load(ROOT, name)
        if not recipe.has_build or recipe.build.not_run:
            print(f"{name}: its recipe is not built here: {recipe.build.not_run or 'no build'}")
        else:
            names.append(name)
    if not names:
        raise BadInput("the image has no frameworks to compile",
                       hint="make bench-frameworks IMAGE=debian-13-ml-frameworks")
    return names


def sides(
    name: str, request: FrameworkRequest, context: ResolverContext
) -> tuple[WheelBuild, dict[str, list[PyFile]]]:
    """The build of the recipe `name`, and the wheels of both sides, built or fetched here.

    StageFailed where builds for different CPUs are the same bytes: then no flag reached the
    compiler.
    """
    fitted = frameworks.fitting(name, request, context)
    recipe = fitted.recipe
    wanted = frameworks.requirements(fitted, Origin.SOURCE, request.target.sm)
    closure = context.index.resolve(wanted, [], frameworks.image_python(context))
    pins = [f"{file.project}=={file.version}" for file in closure]
    theirs, runs_with = frameworks.parts(recipe, closure, {})
    build = frameworks.wheel_build(name, recipe, request, context, runs_with, pins)
    ours = frameworks.compiled(build, context).wheel
    if theirs is None:
        assert recipe.generic is not None
        options = list(instruction_sets.baseline([recipe.generic], request.gcc).options)
        plain = replace(request, target=Target(cpu=recipe.generic, options=options))
        portable = frameworks.wheel_build(name, recipe, plain, context, runs_with, pins)
        theirs = frameworks.compiled(portable, context).wheel
    if ours.sha256 == theirs.sha256:
        raise StageFailed(f"recipe {name}: the builds for different CPUs are the same bytes",
                          hint="`{options}` does not reach the compiler")
    context.fetch_debs(list(build.debs))
    context.index.fetch([build.source, *build.requires, *build.tests, theirs, *runs_with],
                        context.store)
    return build, {IMAGE: [ours, *runs_with], GENERIC: [theirs, *runs_with]}


def run(
    build: WheelBuild, wheels: dict[str, list[PyFile]], context: ResolverContext
) -> list[Workload]:
    """The recipe's benchmark on both sides."""
    with workspace.scratch_in(workspace.in_cache(context.store), f"bench-{build.key[:12]}") as work:
        plan = wheel_builds.plan(ROOT, build, context.store, work, LOG)
        placed = dict[str, list[str]]()
        for side, files in wheels.items():
            # Apart: two builds of one source have the same file name.
            folder = work / "wheels" / side
            folder.mkdir()
            for file in files:
                local_repository.link(context.store.path(file.sha256), folder / file.filename)
            placed[side] = [f"wheels/{side}/{file.filename}" for file in files]
        benchmark = BenchmarkPlan(**plan.model_dump(), rounds=ROUNDS, sides=placed)
        os.environ["PYTHONPATH"] = str(ROOT / "tests")  # the program below is found there
        figures = program.call("bench.wheel_benchmark", benchmark, BenchmarkResult,
                               context.progress).figures
    return compare(figures[GENERIC], figures[IMAGE])


def compare(generic: Sequence[Figures], image: Sequence[Figures]) -> list[Workload]:
    """The workloads of runs that alternated: figures are rates, so image over generic above 1 is a
    speedup."""
    workloads = []
    for name in image[0]:
        ratios = [ours[name] / theirs[name] for ours, theirs in zip(image, generic, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
        workloads.append(Workload(name=name, ratio=round(middle, 3), low=round(low, 3),
                                  high=round(high, 3)))
    return workloads


def measure(image: str, definition: Definition) -> list[Measurement]:
    """Build what is missing and run every benchmark."""
    cache = CachePaths.default()
    progress = Progress.of("bench", image, cache)
    LOG.parent.mkdir(parents=True, exist_ok=True)
    LOG.write_text("", encoding="utf-8")
    names, measured = runnable(definition.frameworks), []
    with opened(ROOT, definition, store.Store(cache.root), progress, LOG) as resolution:
        request, around = resolve.framework_request(resolution)
        pairs = [sides(name, request, around) for name in names]
    for build, wheels in pairs:
        measured.append(Measurement(
            framework=build.name, version=build.recipe.version, against=build.recipe.against,
            machine=machine(), rounds=ROUNDS, cpu=own_cpu(), key=build.key,
            workloads=run(build, wheels, around)))
    return measured


def record(measured: list[Measurement]) -> None:
    """Put `measured` in the place of what was committed of the same framework and CPU."""
    rows = {(one.framework, one.cpu): one for one in [*build_decision.load(ROOT), *measured]}
    write_text(ROOT / build_decision.FILE, canonical(
        {"measurements": [rows[key].model_dump(mode="json") for key in sorted(rows)]}))


def show(measured: list[Measurement]) -> None:
    """Print ratios, then the two figures that `test_build_decision.py` holds the committed ones
    to."""
    ratios = []
    for one in measured:
        recipe = recipes.load(ROOT, one.framework)
        origin = build_decision.decide(one.framework, recipe, [one.cpu], [], measured).origin.value
        print(f"{one.framework} {one.version} over {one.against}: {one.speedup:.2f}x, so {origin}")
        for workload in one.workloads:
            quartiles = f"x (quartiles {workload.low:.2f} to {workload.high:.2f})"
            harness.show(f"  {workload.name}", workload.ratio, unit=quartiles)
        if origin == "source":
            ratios += [workload.ratio for workload in one.workloads]
    if ratios:
        harness.show("source: geometric mean (aim over 2)", statistics.geometric_mean(ratios), "x")
        harness.show("source: lowest (aim over 0.95)", min(ratios), "x")


def main() -> int:
    """Measure one image's frameworks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image")
    parser.add_argument("--record", action="store_true")
    args = parser.parse_args()
    try:
        definition = definition_file.load(ROOT, definition_file.path_of(ROOT, args.image))
        if args.record:  # before anything is compiled
            cpus = locked_hardware.derive(ROOT, definition).cpus
            if cpus != [own_cpu()]:
                raise BadInput(f"not recorded: the image is for {', '.join(cpus)}, and this "
                               f"machine is {own_cpu()}",
                               hint="measure an image whose families have this machine's CPU only")
        measured = measure(args.image, definition)
    except GoldenError as error:
        print(f"{error.message}\n{error.hint}\n{error.tail}", file=sys.stderr)
        return int(error.exit_code)
    if args.record:
        record(measured)
    show(measured)
    harness.keep(f"frameworks-{args.image}", {
        "image": args.image, "measurements": [one.model_dump(mode="json") for one in measured]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
