"""The image's builds of frameworks against the generic ones, in turns.

    make bench-frameworks IMAGE=... [RECORD=1] [CCACHE=1]
    PYTHONPATH=scripts:tests .venv/bin/python tests/bench/bench_frameworks.py IMAGE [--rounds N] [FRAMEWORK...]

Prints a table and writes build/bench/frameworks-<image>.json. With RECORD=1 (--record) the figures become part of
roles/frameworks/files/measurements.json, by which a lock decides between wheel and source; review and commit them. They
are refused where the image is not for this machine's CPU alone: the figure would be of another build than it says.
Ratios above 1: the image's build is faster. A busy machine widens the quartiles, not so much the medians.
With CCACHE=1 (--ccache) it compiles each framework twice instead, with an empty cache and with what that left.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import re
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from goldenami.core.cache_paths import CachePaths
from goldenami.core.errors import BadInput, GoldenError
from goldenami.core.records import canonical, write_text
from goldenami.core.terminal.progress import Progress
from goldenami.image.lock import build_decision, frameworks, resolve
from goldenami.image.lock.build_decision import Measurement
from goldenami.image.lock.compilation import wheel_builds
from goldenami.image.lock.compilation.wheel_builds import WheelBuild
from goldenami.image.lock.frameworks import FrameworkRequest, ResolverContext
from goldenami.image.lock.resolution import opened
from goldenami.local import workspace
from goldenami.model.builds import lockfile
from goldenami.model.definitions import definition_file, recipes
from goldenami.packages import store

ROOT = Path(__file__).resolve().parents[2]
CPUINFO = Path("/proc/cpuinfo")
LOG = ROOT / "build/bench/frameworks.log"
WARM_SHARE = 0.05
"""Aim: seconds of a compilation that ccache knows, as a share of those of one that it does not."""


def machine() -> str:
    """The CPU as the kernel describes it."""
    text = CPUINFO.read_text(encoding="utf-8")
    facts = [re.search(rf"^{name}\s*: (.*)$", text, re.MULTILINE) for name in ("model name", "cpu family", "model")]
    name, family, model = (match[1] if match else "?" for match in facts)
    return f"{name}, family {family} model {model}, {os.cpu_count()} CPUs, Linux {platform.release()}"


def runnable(names: Sequence[str]) -> list[str]:
    """Those of the frameworks whose recipe can be run; says of the others why not."""
    found = []
    for name in names:
        if reason := recipes.load(ROOT, name).build.not_run:
            print(f"{name}: recipe not run here: {reason}")
        else:
            found.append(name)
    return found


@contextmanager
def resolving(image: str, names: list[str]) -> Iterator[tuple[FrameworkRequest, ResolverContext, list[str]]]:
    """What the frameworks of `image` are resolved and built with, and the names of those whose recipes ever ran."""
    kept, progress = store.Store(CachePaths.default().root), Progress.of("bench", image, CachePaths.default())
    LOG.parent.mkdir(parents=True, exist_ok=True)
    LOG.write_text("", encoding="utf-8")
    wanted = definition_file.load(ROOT, definition_file.path_of(ROOT, image))
    chosen = runnable(names or wanted.frameworks)
    if not chosen:
        raise BadInput(f"{image} has no frameworks to compile",
                       hint="make bench-frameworks IMAGE=debian-12-ml-frameworks")
    with opened(ROOT, wanted, kept, progress, LOG) as resolution:
        yield *resolve.framework_request(resolution), chosen


def this_cpu() -> str:
    """This machine's micro-architecture."""
    return build_decision.micro_architecture(CPUINFO.read_text(encoding="utf-8"))


def measure(image: str, names: list[str], rounds: int) -> list[Measurement]:
    """Build what is missing and run every benchmark."""
    with resolving(image, names) as (request, around, chosen):
        compared = {name: frameworks.benchmark_pair(name, request, around) for name in chosen}
    found = []
    for name, pair in compared.items():
        ours, theirs = wheel_builds.compare(ROOT, pair.build, pair.image, pair.generic, around.store,
                                            around.progress,
                                      rounds=rounds, log=LOG)
        found.append(Measurement(
            framework=name, version=pair.build.recipe.version, against=pair.against, machine=machine(), rounds=rounds,
            cpu=this_cpu(), key=pair.build.key,
            workloads=build_decision.compare(theirs, ours)))
    return found


def compile_twice(image: str, names: list[str]) -> dict[str, dict[str, float]]:
    """Seconds that each build for the image's hardware takes with an empty ccache, and again with what that left.

    It happens in a cache folder of its own, with the real one's packages and trees.
    """
    with resolving(image, names) as (request, around, chosen):
        orders = {name: frameworks.standalone_build(name, request, around)[0] for name in chosen}
    found = {}
    for name, order in orders.items():
        with workspace.scratch_in(workspace.in_cache(around.store), f"ccache-{name}") as folder:
            cold, warm = (_compiled(order, own_cache(folder, around.store), around.progress) for _ in range(2))
        found[name] = {"cold": cold.seconds, "warm": warm.seconds, "jobs": cold.jobs, "hits": warm.cache["hits"],
                       "misses": warm.cache["misses"]}
        print(f"{name}: {said_of(cold, warm)}")
    return found


def own_cache(folder: Path, kept: store.Store) -> store.Store:
    """A cache in `folder` without wheels and compilations, but with the packages and trees beside `kept`."""
    (folder / "wheels").mkdir(exist_ok=True)
    for shared in ("store", "repos", "layers", "control"):
        real = (kept.cache.root / shared).resolve()
        real.mkdir(exist_ok=True)  # behind a link that leads nowhere no folder can be made
        if not (folder / shared).exists():
            (folder / shared).symlink_to(real)
    return store.Store(folder)


def said_of(cold: wheel_builds.WheelOutcome, warm: wheel_builds.WheelOutcome) -> str:
    """A compilation with an empty ccache and with a full one, against the aim."""
    share = warm.seconds / cold.seconds
    return (f"{cold.seconds:.1f} s cold, {warm.seconds:.1f} s warm: {share:.1%} (aim {WARM_SHARE:.0%}: "
            f"{'met' if share <= WARM_SHARE else 'missed'}), {warm.cache['hits']} of {sum(warm.cache.values())} known")


def _compiled(order: WheelBuild, kept: store.Store, progress: Progress) -> wheel_builds.WheelOutcome:
    wheel_builds.path_of(kept, order.key).unlink(missing_ok=True)
    return wheel_builds.compile_wheel(ROOT, order, kept, progress, log=LOG)


def show(found: list[Measurement]) -> dict[str, float]:
    """Print the table; returns the geometric means that the README states as aims."""
    taken = []
    for one in found:
        origin = build_decision.decide(one.framework, recipes.load(ROOT, one.framework), [one.cpu], [],
                                       found).origin.value
        print(f"{one.framework} {one.version} over {one.against}: {one.speedup:.2f}x, so {origin}")
        for workload in one.workloads:
            print(f"  {workload.name:24} {workload.ratio:6.2f}x  (quartiles {workload.low:.2f} to {workload.high:.2f})")
        taken += [workload.ratio for workload in one.workloads if origin == "source"]
    mean = statistics.geometric_mean(taken) if taken else 1.0
    lowest = min(taken, default=1.0)
    print(f"where source is chosen: geometric mean {mean:.2f}x (aim 2), lowest {lowest:.2f}x (aim 0.95)")
    return {"geometric_mean": round(mean, 3), "lowest": lowest}


def main() -> int:
    """Measure one image's frameworks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image")
    parser.add_argument("framework", nargs="*")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--ccache", action="store_true")
    args = parser.parse_args()
    try:
        figures = _ccache(args) if args.ccache else _ratios(args)
    except GoldenError as error:
        print(f"{error.message}\n{error.hint}\n{error.tail}", file=sys.stderr)
        return int(error.exit_code)
    target = ROOT / "build/bench" / f"{'ccache' if args.ccache else 'frameworks'}-{args.image}.json"
    write_text(target, canonical({
        "image": args.image, "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "load_1m": os.getloadavg()[0], "machine": machine(), **figures,
    }))
    print(f"written to {target.relative_to(ROOT)}")
    return 0


def _ccache(args: argparse.Namespace) -> dict[str, Any]:
    return {"seconds": compile_twice(args.image, args.framework)}


def _ratios(args: argparse.Namespace) -> dict[str, Any]:
    if args.record:  # before anything is compiled
        wanted = definition_file.load(ROOT, definition_file.path_of(ROOT, args.image))
        build_decision.demand_own_cpu(lockfile.derive_hardware(ROOT, wanted).cpus, this_cpu())
    found = measure(args.image, args.framework, args.rounds)
    if args.record:
        write_text(ROOT / build_decision.FILE, build_decision.merged(build_decision.load(ROOT), found))
    return {"aims": show(found), "measurements": [one.model_dump(mode="json") for one in found]}


if __name__ == "__main__":
    sys.exit(main())
