"""The rule between wheel and source, each of its cases, and what was measured."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

import pytest
from goldenami.image.lock import build_decision
from goldenami.image.lock.build_decision import Measurement, Workload
from goldenami.model.locked import lockfile
from goldenami.model.locked.lockfile import Origin
from goldenami.model.roles import recipes
from goldenami.model.roles.recipes import BuildInstructions, Recipe, Wheel
from support import trees

ROOT = Path(__file__).resolve().parents[3]
WHEEL = Recipe(
    version="1.0",
    distribution="demo",
    module="demo",
    wheel=Wheel(distribution="demo"),
    build=BuildInstructions(requires=[], memory_mib=100),
)
NONE = WHEEL.model_copy(update={"wheel": None, "generic": "x86-64-v3"})
GPU = WHEEL.model_copy(update={"wheel": Wheel(distribution="demo", sm=["80", "90"])})
ZEN4 = WHEEL.model_copy(update={"only": ["znver4"]})
WHEEL_ONLY = Recipe(
    version="1.0", distribution="demo", module="demo", wheel=Wheel(distribution="demo")
)
NOT_RUN = WHEEL.model_copy(
    update={"build": BuildInstructions(requires=[], memory_mib=100, not_run="too long")}
)


def measured(
    *ratios: float, cpu: str = "znver4", version: str = "1.0", over: str = "the wheel"
) -> Measurement:
    return Measurement(
        framework="demo",
        version=version,
        cpu=cpu,
        against=over,
        machine="m",
        rounds=3,
        key="0",
        workloads=[
            Workload(name=f"w{number}", ratio=ratio, low=ratio, high=ratio)
            for number, ratio in enumerate(ratios)
        ],
    )


UNMEASURED = "the rule's default; not measured on znver4"
ON_ZEN4 = "over the wheel, measured on znver4"


@pytest.mark.parametrize(
    ("recipe", "cpus", "sm", "found", "origin", "why"),
    [
        (
            WHEEL,
            ["znver4"],
            [],
            [measured(1.09)],
            Origin.WHEEL,
            f"1.09x {ON_ZEN4}, less than 1.10x",
        ),
        (WHEEL, ["znver4"], [], [measured(1.1)], Origin.SOURCE, f"1.10x {ON_ZEN4}"),
        (
            WHEEL,
            ["znver4"],
            [],
            [measured(5, 0.94)],
            Origin.WHEEL,
            f"w1 would be 0.94x; 2.17x {ON_ZEN4}",
        ),
        (WHEEL, ["znver4"], [], [measured(5, version="0.9")], Origin.WHEEL, UNMEASURED),
        (WHEEL, ["znver4"], [], [measured(5, over="x86-64")], Origin.WHEEL, UNMEASURED),
        (
            WHEEL,
            ["icelake-server", "znver4"],
            [],
            [measured(5)],
            Origin.WHEEL,
            "the rule's default; not measured on icelake-server",
        ),
        (
            WHEEL,
            ["icelake-server", "znver4"],
            [],
            [measured(5), measured(1.05, cpu="icelake-server")],
            Origin.WHEEL,
            "1.05x over the wheel, measured on icelake-server, less than 1.10x",
        ),
        (
            NONE,
            ["znver4"],
            [],
            [measured(1.0, over="x86-64-v3")],
            Origin.SOURCE,
            "the index has no wheel; 1.00x over x86-64-v3, measured on znver4",
        ),
        (
            NONE,
            ["znver4"],
            [],
            [measured(1.0, over="x86-64")],
            Origin.SOURCE,
            "the index has no wheel; not measured on znver4",
        ),
        (
            GPU,
            ["znver4"],
            ["70", "80"],
            [],
            Origin.SOURCE,
            "the wheel has no code for sm_70; not measured on znver4",
        ),
        (GPU, ["znver4"], ["80"], [], Origin.WHEEL, UNMEASURED),
        (
            ZEN4,
            ["sapphirerapids"],
            [],
            [],
            Origin.WHEEL,
            "a build is for znver4 only, not for sapphirerapids",
        ),
        (ZEN4, ["znver4"], [], [measured(3)], Origin.SOURCE, f"3.00x {ON_ZEN4}"),
        (WHEEL_ONLY, ["znver4"], ["70"], [measured(3)], Origin.WHEEL, "the recipe has no build"),
        (NOT_RUN, ["znver4"], ["70"], [measured(3)], Origin.WHEEL, "recipe not run here: too long"),
    ],
)
def test_the_rule(
    recipe: Recipe,
    cpus: list[str],
    sm: list[str],
    found: list[Measurement],
    origin: Origin,
    why: str,
) -> None:
    decision = build_decision.decide("demo", recipe, cpus, sm, found)
    assert (decision.origin, decision.why) == (origin, why)


def test_a_gain_in_a_committed_lock_is_of_the_build_that_the_lock_names() -> None:
    measured = {(one.framework, one.version, one.cpu): one.key for one in build_decision.load(ROOT)}
    compared = 0
    for path in trees.scanned(5, ROOT, "packer/locks/*.lock.json"):
        for one in lockfile.read(path)[0].frameworks:
            if one.made:
                key = measured.get((one.name, one.version, one.made.target.cpu))
                assert (one.gain is not None) == (key == one.made.key), f"{path.name}: {one.name}"
                compared += 1
    assert compared


def test_a_gain_of_another_build_of_the_same_version_says_so() -> None:
    decision = build_decision.decide("demo", WHEEL, ["znver4"], [], [measured(1.5)])
    assert decision.of("0") == decision
    other = decision.of("1")
    assert (other.origin, other.speedup, other.measured_on) == (Origin.SOURCE, None, None)
    assert other.why == (
        "1.50x over the wheel, measured on znver4; that was another build of this version: "
        "measure again"
    )
    unmeasured = build_decision.decide("demo", NONE, ["znver4"], [], [])
    assert unmeasured.of("1") == unmeasured


def test_what_is_committed_is_of_the_recipes_and_keeps_the_aims() -> None:
    """Where source is chosen: twice as fast over all workloads, none slower than 0.95x."""
    found, ratios = build_decision.load(ROOT), list[float]()
    for one in found:
        recipe = recipes.load(ROOT, one.framework)
        assert (one.version, one.against) == (recipe.version, recipe.against), one.framework
        decision = build_decision.decide(one.framework, recipe, [one.cpu], [], found)
        if decision.origin is Origin.SOURCE:
            ratios += [workload.ratio for workload in one.workloads]
    assert statistics.geometric_mean(ratios) >= 2 and min(ratios) >= 0.95


OVER = {
    "the wheel": "the wheel",
    "a build for any x86-64": "x86-64",
    "a build for AVX2": "x86-64-v3",
}
ROW = re.compile(r"\| (?P<name>[\w.]+) \| (?P<over>[^|]+) \| (?P<gain>\d\.\d\d)x \|")


def test_the_docs_say_what_was_measured() -> None:
    table = (ROOT / "docs/adding.md").read_text(encoding="utf-8")
    rows = {
        row["name"].lower().replace(".", "-"): (OVER[row["over"]], row["gain"])
        for row in ROW.finditer(table)
    }
    assert rows == {
        one.framework.removesuffix("-python"): (one.against, f"{one.speedup:.2f}")
        for one in build_decision.load(ROOT)
    }
