"""Figures of builds: slower ones are named, equal ones are not, and what cannot be judged says
why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from goldenami.core import records
from goldenami.core.errors import NotVerified
from goldenami.model.builds import figures
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.figures import FIGURES_FILE, MEASURED, Figure
from support.builds import figure_timings

STEADY = [1.0, 1.01, 0.99, 1.0, 1.02]


def figure(values: list[float], *, name: str = "import", **changes: Any) -> Figure:
    given = {"unit": "s", "machine": "g5.xlarge", **changes}
    return Figure(name=name, values=values, **given)


def keep(folder: BuildFolder, *measured: Figure) -> None:
    """Keep what a run of checks measured."""
    work = folder.path / "work"
    rows = [one.model_dump(mode="json") for one in measured]
    records.write_text(work / f"checks{MEASURED}", records.canonical(rows))
    figures.keep(folder, work)


def build(root: Path, number: int, *measured: Figure) -> BuildFolder:
    folder = BuildFolder(root / "build/image" / f"{number:012x}")
    keep(folder, *measured)
    return folder


def judge(new: BuildFolder, old: BuildFolder, reason: str = "") -> list[str]:
    return list(figures.judge(new, [None, old.build_id, new.build_id], reason))


def scaled(factor: float) -> list[float]:
    return [factor * value for value in STEADY]


def test_recorded_builds_that_are_slower_are_named_and_equal_ones_are_not() -> None:
    timings = figure_timings.read()
    slower = [timing for timing in timings if timing.slower]
    assert (len(slower), slower[0].slower, slower[-1].slower) == (20, 0.05, 0.3)
    assert [timing.slower for timing in slower if not timing.named()] == []
    alarms = [timing.named() for timing in timings if not timing.slower]
    assert len(alarms) == 50
    assert len([found for found in alarms if found]) <= 1, alarms


@pytest.mark.parametrize(("unit", "factor"), [("s", 1.15), ("TFLOPS", 0.85)])
def test_a_slower_build_is_refused_with_the_figure_until_somebody_says_why(
    tmp_path: Path, unit: str, factor: float
) -> None:
    old = build(tmp_path, 1, figure(STEADY, unit=unit))
    new = build(tmp_path, 2, figure(scaled(factor), unit=unit))
    with pytest.raises(NotVerified) as caught:
        judge(new, old)
    assert f"import: 1 {unit} before, {factor:.3g} {unit} now" in caught.value.message
    assert "--accept-slower REASON" in caught.value.hint
    (line,) = judge(new, old, "a fix costs that")
    assert line.startswith("  slower, accepted (a fix costs that): import")
    assert judge(new, old) == [line], "the record keeps the reason"
    keep(new, figure(scaled(factor), unit=unit))
    with pytest.raises(NotVerified):
        judge(new, old)


def test_a_faster_build_and_one_within_the_noise_pass(tmp_path: Path) -> None:
    noisy = [1.0, 1.3, 0.7, 1.1, 0.9]
    old = build(tmp_path, 1, figure(STEADY, name="a"), figure(noisy, name="b"))
    new = build(
        tmp_path,
        2,
        figure(scaled(0.8), name="a"),
        figure([1.1 * value for value in noisy], name="b"),
    )
    assert judge(new, old) == [f"  2 figures: no slower than those of build {old.build_id}"]


def test_a_slow_machine_that_slows_both_builds_of_a_run_hides_nothing_and_accuses_nobody(
    tmp_path: Path,
) -> None:
    """The machine gets slower and faster by half, which hides 5 % between two runs."""
    old = build(tmp_path, 1, figure([1.0] * 6, name="a"), figure([1.0] * 6, name="b"))
    busy = [1.0, 1.5, 1.2, 1.4, 1.1, 1.3]
    turn = {"before": busy, "before_build": old.build_id}
    new = build(
        tmp_path,
        2,
        figure([1.05 * value for value in busy], name="a", **turn),
        figure([1.02 * value for value in busy], name="b", **turn),
    )
    with pytest.raises(NotVerified) as caught:
        judge(new, old)
    assert [line.partition(":")[0] for line in caught.value.tail.splitlines()] == ["a"]


def test_what_cannot_be_judged_says_why(tmp_path: Path) -> None:
    old = build(
        tmp_path, 1, figure(STEADY, name="a", machine="p4d.24xlarge"), figure([1.0], name="b")
    )
    slow = scaled(3)
    new = build(tmp_path, 2, figure(slow, name="a"), figure(slow, name="b"), figure(slow, name="c"))
    assert judge(new, old) == [
        "  1 figures: the build before was measured on p4d.24xlarge",
        "  1 figures: measured 1 times, not 5",
        "  1 figures: the build before has no such figure",
    ]
    assert judge(BuildFolder(tmp_path / "build/image/none"), old, "") == []


def test_a_new_run_replaces_the_figures_of_its_machine_alone(tmp_path: Path) -> None:
    folder = build(tmp_path, 1, figure([1.0]), figure([2.0], machine="p4d.24xlarge"))
    keep(folder, figure([3.0]))
    assert [one.values for one in figures.read(folder).figures] == [[3.0], [2.0]]
    (folder.path / FIGURES_FILE).write_text("{", encoding="utf-8")
    keep(folder, figure([4.0]))
    assert [one.values for one in figures.read(folder).figures] == [[4.0]]
