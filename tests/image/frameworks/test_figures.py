"""How fast the frameworks are on this CPU: `promote` holds these figures against those of the build
before, which is measured in turn with this one where its disk lies beside."""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import testinfra
from goldenami.core import records
from goldenami.core.errors import GoldenError
from goldenami.image.verify import verify
from goldenami.local.programs import disk_at_rest
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.roles import recipes

pytestmark = pytest.mark.no_boot

ROUNDS, LEAST, LIMIT_S = 9, 5, 60.0
"""A framework whose rounds took longer than the limit gets no more than the least number."""
SPENT = "CPU time of an import"
"""The figure that each framework has, and how its line begins."""
ENTER = (
    "runuser -u nobody -- /opt/ml/bin/ml-run %s env OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 "
    "MKL_NUM_THREADS=1 python3 -I -B -c %s"
)
ROUND = """\
import json, sys, time, types
began = time.process_time()
import {module}
spent = time.process_time() - began
sys.modules["timing"] = timing = types.ModuleType("timing")
exec({timing!r}, timing.__dict__)
print({spent!r}, spent)
exec({bench!r}, {{}})
"""
Round = dict[str, float]


def program(module: str, bench: str, timing: str) -> str:
    """A round: the CPU time of an import, and the rates that the text of a bench.py prints. It is a
    process of its own, since where a program lies in memory changes its speed, too."""
    return ROUND.format(module=module, bench=bench, timing=timing, spent=SPENT)


def figures_of(output: str) -> Round:
    """The figures that a round printed."""
    lines = output.splitlines()
    spent = next(line for line in lines if line.startswith(SPENT))
    rates = json.loads(lines[-1]) if lines[-1].startswith("{") else {}
    return {SPENT: float(spent.removeprefix(SPENT)), **rates}


def in_turn(sides: Sequence[Callable[[], Round]]) -> list[list[Round]]:
    """The rounds of each side. What else the machine does slows all of them, and neither is always
    the one that finds warm caches. One side alone is held against another run, of whose drops only
    large ones count: it gets the least number."""
    began, rounds = time.monotonic(), [list[Round]() for _ in sides]
    most = ROUNDS if len(sides) > 1 else LEAST
    while (count := len(rounds[0])) < most and (
        count < LEAST or time.monotonic() - began < LIMIT_S
    ):
        order = [*zip(sides, rounds, strict=True)]
        for side, own in reversed(order) if count % 2 else order:
            own.append(side())
    return rounds


@pytest.fixture
def before(
    user: Any, pytestconfig: pytest.Config, tmp_path: Path
) -> Iterator[tuple[BuildFolder, Any] | None]:
    """The build before with its root tree as a host, or None: an instance has no other disk."""
    if not pytestconfig.getoption("--booted", default=False):
        pytest.skip("not asked: only a sealed image is measured")
    build = verify.previous(BuildFolder(Path(os.environ["GOLDEN_VARS"]).parent), whole=True)
    if build is None or user.backend.NAME != "chroot":
        yield None
        return
    with contextlib.ExitStack() as stack:
        try:
            tree = stack.enter_context(disk_at_rest.root_tree(build.disk, tmp_path / "before"))
        except GoldenError:  # a disk that cannot be read is none
            yield None
            return
        yield build, testinfra.get_host(str(tree), connection="chroot")


def side(machine: Any, environment: str, text: str) -> Callable[[], Round]:
    """A function that runs a round on a machine."""
    return lambda: figures_of(machine.check_output(ENTER, environment, text))


def test_frameworks_are_measured(
    host: Any,
    before: tuple[BuildFolder, Any] | None,
    lock: dict[str, Any],
    record_values: Any,
) -> None:
    """One that does not run on this CPU has no figures."""
    old_places = dict[str, str]()
    if before:
        old_installed = records.read_object(before[0].variables).get("frameworks_installed", [])
        old_places = {one["name"]: one["environment"] for one in old_installed}
    measured = []
    for one in lock["frameworks_installed"]:
        folder = recipes.folder(Path.cwd(), one["name"])
        bench, timing = folder / "bench.py", folder.parent / "timing.py"
        rates = bench.read_text() if bench.exists() else ""
        text = program(one["module"], rates, timing.read_text())
        if host.run(ENTER, one["environment"], text).rc:
            continue
        sides = [side(host, one["environment"], text)]
        place = old_places.get(one["name"])
        if before and place and before[1].run(ENTER, place, text).rc == 0:
            sides.append(side(before[1], place, text))
        rounds = in_turn(sides)
        measured.append(one["name"])
        for name in rounds[0][0]:
            unit = "s" if name == SPENT else "per CPU second"
            values = [[figures[name] for figures in own] for own in rounds]
            record_values(f"{one['name']}: {name}", unit, *values, build=before and before[0])
    assert measured or not lock["frameworks_installed"]
