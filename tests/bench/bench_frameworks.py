"""The image's builds of frameworks against the generic ones, in turns. `make bench-frameworks IMAGE=...`.

    bench_frameworks.py IMAGE [--rounds N] [--record] [FRAMEWORK...]

Prints a table and writes build/bench/frameworks-<image>.json. With --record the figures become part of
roles/frameworks/files/measurements.json, by which a lock decides between wheel and source; review and commit them.
Ratios above 1: the image's build is faster. A busy machine widens the quartiles, not so much the medians.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import re
import statistics
import sys
from pathlib import Path

from goldenami import definition, frameworks, gains, lock, recipes, store, wheels
from goldenami.errors import BadInput, GoldenError
from goldenami.gains import Measurement
from goldenami.progress import Progress
from goldenami.records import canonical, write_text

ROOT = Path(__file__).resolve().parents[2]
CPUINFO = Path("/proc/cpuinfo")


def machine() -> str:
    """The CPU as the kernel describes it."""
    text = CPUINFO.read_text(encoding="utf-8")
    facts = [re.search(rf"^{name}\s*: (.*)$", text, re.MULTILINE) for name in ("model name", "cpu family", "model")]
    name, family, model = (match[1] if match else "?" for match in facts)
    return f"{name}, family {family} model {model}, {os.cpu_count()} CPUs, Linux {platform.release()}"


def measure(image: str, names: list[str], rounds: int) -> list[Measurement]:
    """Build what is missing and run every benchmark."""
    kept, progress = store.Store(store.default_root()), Progress.of("bench", image, store.default_root())
    log = ROOT / "build/bench/frameworks.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("", encoding="utf-8")
    wanted = definition.load(ROOT, definition.path_of(ROOT, image))
    chosen = [name for name in names or wanted.frameworks if not recipes.load(ROOT, name).build.not_run]
    if not chosen:
        raise BadInput(f"{image} has no frameworks", hint="make bench-frameworks IMAGE=debian-12-ml-frameworks")
    found = []
    with lock.opened(ROOT, wanted, kept, progress, log) as resolution:
        request, around = lock.wanted_frameworks(resolution)
        compared = {name: frameworks.sides(name, request, around) for name in chosen}
    for name, sides in compared.items():
        ours, theirs = wheels.compare(ROOT, sides.order, sides.image, sides.generic, kept, progress,
                                      rounds=rounds, log=log)
        found.append(Measurement(
            framework=name, version=sides.order.recipe.version, against=sides.against, machine=machine(), rounds=rounds,
            cpu=gains.micro_architecture(CPUINFO.read_text(encoding="utf-8")), key=sides.order.key,
            workloads=gains.compare(theirs, ours)))
    return found


def show(found: list[Measurement]) -> dict[str, float]:
    """Print the table; returns the geometric means that the README states as aims."""
    taken = []
    for one in found:
        origin = gains.decide(one.framework, recipes.load(ROOT, one.framework), [one.cpu], [], found).origin.value
        print(f"{one.framework} {one.version} over {one.against}: {one.gain:.2f}x, so {origin}")
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
    args = parser.parse_args()
    try:
        found = measure(args.image, args.framework, args.rounds)
    except GoldenError as error:
        print(f"{error.message}\n{error.hint}\n{error.tail}", file=sys.stderr)
        return int(error.exit_code)
    aims = show(found)
    target = ROOT / "build/bench" / f"frameworks-{args.image}.json"
    write_text(target, canonical({
        "image": args.image, "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "load_1m": os.getloadavg()[0], "aims": aims, "measurements": [one.model_dump(mode="json") for one in found],
    }))
    print(f"written to {target.relative_to(ROOT)}")
    if args.record:
        write_text(ROOT / gains.FILE, gains.merged(gains.load(ROOT), found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
