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
from pathlib import Path

from bench import harness
from bench.harness import ROOT
from goldenami.core.cache_paths import CachePaths
from goldenami.core.errors import BadInput, GoldenError
from goldenami.core.records import canonical, write_text
from goldenami.core.terminal.progress import Progress
from goldenami.image.lock import build_decision, from_index
from goldenami.image.lock.build_decision import Measurement
from goldenami.image.lock.opening import LockInputs, opened
from goldenami.model.definitions import definition_file
from goldenami.model.definitions.definition import Definition
from goldenami.model.locked import locked_hardware
from goldenami.model.roles import recipes
from goldenami.packages import store
from support.builds import wheel_benchmark

CPUINFO = Path("/proc/cpuinfo").read_text(encoding="utf-8")
LOG = ROOT / "build/bench/frameworks.log"
ROUNDS = 7


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
    return (
        f"{facts[0]}, family {facts[1]} model {facts[2]}, {os.cpu_count()} CPUs, "
        f"Linux {platform.release()}"
    )


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
        raise BadInput(
            "the image has no frameworks to compile",
            hint="make bench-frameworks IMAGE=debian-13-ml-frameworks",
        )
    return names


def measure(image: str, definition: Definition) -> list[Measurement]:
    """Build what is missing and run every benchmark."""
    cache = CachePaths.default()
    progress = Progress.of("bench", image, cache)
    LOG.parent.mkdir(parents=True, exist_ok=True)
    LOG.write_text("", encoding="utf-8")
    names, measured = runnable(definition.frameworks), []
    inputs = LockInputs(ROOT, definition, store.Store(cache.folder), progress, LOG)
    with opened(inputs) as resolution:
        resolver = from_index.framework_resolver(resolution)
        pairs = [wheel_benchmark.sides(name, resolver) for name in names]
    for build, wheels in pairs:
        measured.append(
            Measurement(
                framework=build.name,
                version=build.recipe.version,
                against=build.recipe.against,
                machine=machine(),
                rounds=ROUNDS,
                cpu=own_cpu(),
                key=build.key,
                workloads=wheel_benchmark.ratios(build, wheels, resolver, ROUNDS),
            )
        )
    return measured


def record(measured: list[Measurement]) -> None:
    """Put `measured` in the place of what was committed of the same framework and CPU."""
    rows = {(one.framework, one.cpu): one for one in [*build_decision.load(ROOT), *measured]}
    write_text(
        ROOT / build_decision.FILE,
        canonical({"measurements": [rows[key].model_dump(mode="json") for key in sorted(rows)]}),
    )


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
                raise BadInput(
                    f"not recorded: the image is for {', '.join(cpus)}, and this "
                    f"machine is {own_cpu()}",
                    hint="measure an image whose families have this machine's CPU only",
                )
        measured = measure(args.image, definition)
    except GoldenError as error:
        print(f"{error.message}\n{error.hint}\n{error.tail}", file=sys.stderr)
        return int(error.exit_code)
    if args.record:
        record(measured)
    show(measured)
    harness.keep(
        f"frameworks-{args.image}",
        {"image": args.image, "measurements": [one.model_dump(mode="json") for one in measured]},
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
