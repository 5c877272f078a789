"""The report's charts: what their bars say."""

from __future__ import annotations

from goldenami.core import units
from goldenami.image.report import charts
from goldenami.model.builds.build_records import Component, Timing
from support.builds import report_data as data


def test_bars_are_fractions_of_the_longest() -> None:
    chart = charts.shares("Sizes", "part", [("whole", 100), ("half", 50), ("none", 0)], str)
    assert chart is not None
    assert [(bar.label, bar.value, bar.note, bar.width) for bar in chart.bars] == [
        ("whole", "100", "67 %", 1.0), ("half", "50", "33 %", 0.5),
        ("none", "0", "0 %", charts.HAIRLINE)]


def test_a_bake_has_sizes_and_times() -> None:
    bake = data.bake_record(
        data.lock(), components=[Component(name="small", bytes=1), Component(name="big", bytes=2)],
        phases=[Timing(name="base", seconds=25)], roles=[])
    sizes, phases = charts.of_bake(bake)
    assert [bar.label for bar in sizes.bars] == ["big", "small"]
    assert [(bar.label, bar.value) for bar in phases.bars] == [("base", units.duration(25))]


def test_nothing_recorded_is_no_chart() -> None:
    assert charts.of_bake(data.bake_record(data.lock(), phases=[], roles=[], components=[])) == []
    chart = charts.shares("Zero", "step", [("none", 0)], str)
    assert chart is not None and chart.bars[0].width == charts.HAIRLINE
