"""How many slower builds the figures name, and how many equal ones, on this machine now.

    make bench-figures [RECORD=1]

With RECORD=1 (--record) the timings become those of tests/unit/model/test_figures.py.

Python's own modules stand for a framework, measured by the program that measures frameworks in an
image (tests/image/frameworks/test_figures.py). A slower build does that share of its work twice.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import ModuleType

from bench import harness
from goldenami.core import shell
from goldenami.core.records import write_text
from support.builds.figure_timings import TIMINGS, Timing
from support.programs import load

MODULES = "decimal, email, http.client, logging.handlers, sqlite3"
SLOWER = """
extra = time.process_time() + {share} * (time.process_time() - began)
while time.process_time() < extra:
    pass
"""
BENCH = """
import hashlib, json, random
from timing import rates
share, owed = {share}, dict.fromkeys(("sort", "json", "sha256"), 0.0)
numbers = [random.Random(1).random() for _ in range(6000)]
table = {{str(key): [key, key * 1.5, str(key)] for key in range(600)}}
blob = bytes(range(256)) * 1024
def slower(name, call):
    def work():
        call()
        owed[name] += share
        if owed[name] >= 1:
            owed[name] -= 1
            call()
    return work
calls = {{
    "sort": lambda: sorted(numbers),
    "json": lambda: json.loads(json.dumps(table)),
    "sha256": lambda: hashlib.sha256(blob).digest(),
}}
print(json.dumps(rates({{name: slower(name, call) for name, call in calls.items()}}, 0.07)))
"""
SHARES = [*(round(0.05 + 0.25 * number / 19, 3) for number in range(20)), *[0.0] * 50]
"""By which share each build is slower."""


def text(checks: ModuleType, share: float) -> str:
    """A round of a build."""
    timing = (harness.ROOT / "roles/frameworks/files/timing.py").read_text(encoding="utf-8")
    module = MODULES + (SLOWER.format(share=share) if share else "")
    return str(checks.program(module, BENCH.format(share=share), timing))


def measure(checks: ModuleType, share: float) -> Timing:
    """A build and the one before, in turn."""

    def one(program: str) -> dict[str, float]:
        output = shell.output([sys.executable, "-I", "-B", "-c", program])
        return dict(checks.figures_of(output))

    now, before = checks.in_turn(
        [partial(one, text(checks, share)), partial(one, text(checks, 0.0))]
    )
    sides = [
        {name: [float(f"{each[name]:.4g}") for each in rounds] for name in rounds[0]}
        for rounds in (now, before)
    ]
    return Timing(slower=share, values=sides[0], before=sides[1])


def main() -> None:
    """Time all builds, two at a time, and judge them."""
    checks = load(harness.ROOT / "tests/image/frameworks/test_figures.py", "figures_of_an_image")
    timings = list[Timing]()
    with ThreadPoolExecutor(2) as pool:
        for timing in pool.map(partial(measure, checks), SHARES):
            timings.append(timing)
            print(f"{timing.slower:.1%} slower: {timing.named()}", flush=True)
    named = [bool(timing.named()) for timing in timings if timing.slower]
    alarms = [bool(timing.named()) for timing in timings if not timing.slower]
    harness.show(f"slower builds named, of {len(named)}", sum(named), unit="")
    harness.show(f"false alarms, of {len(alarms)} equal builds", sum(alarms), unit="", aim=1)
    rows = [timing.model_dump(mode="json") for timing in timings]
    harness.keep("figures", {"timings": rows})
    if "--record" in sys.argv:
        # A line a build: a diff of numbers one below the other would be thousands of lines.
        lines = [json.dumps(row, separators=(",", ":")) for row in rows]
        write_text(TIMINGS, "[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
