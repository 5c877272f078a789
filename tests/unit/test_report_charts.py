"""The geometry of the report's charts."""

from __future__ import annotations

import pytest
from goldenami.image.report import charts
from goldenami.model.builds.build_records import Component, Timing
from support.builds import report_data as data


def test_sizes_are_fractions_of_the_longest() -> None:
    parts = [Component(name="half", bytes=50), Component(name="whole", bytes=100),
             Component(name="none", bytes=0)]
    chart = charts.sizes(data.bake_record(data.lock(), components=parts), None)
    assert chart is not None and not chart.compared
    lengths = [(bar.label, bar.width) for bar in chart.bars]
    assert lengths == [("whole", 1.0), ("half", 0.5), ("none", charts.HAIRLINE)]
    assert [bar.share for bar in chart.bars] == ["67 %", "33 %", "0 %"]


def test_previous_size_sets_the_scale() -> None:
    now = data.bake_record(data.lock(),
                           components=[Component(name="a", bytes=50), Component(name="b", bytes=1)])
    then = data.bake_record(data.previous_lock(), components=[Component(name="a", bytes=100)])
    chart = charts.sizes(now, then)
    assert chart is not None
    assert [(bar.width, bar.before, bar.change) for bar in chart.bars] == [
        (0.5, 1.0, "\N{MINUS SIGN}50 %"), (0.01, None, "new")]


def test_roles_start_where_their_phase_does() -> None:
    phases = [Timing(name="base", seconds=25), Timing(name="limits+seal", seconds=50),
              Timing(name="disk", seconds=25)]
    roles = [Timing(name="limits", seconds=30), Timing(name="seal", seconds=10)]
    top, below = charts.timings(data.bake_record(data.lock(), phases=phases, roles=roles), None)
    assert [(bar.start, bar.width) for bar in top.bars] == [(0.0, 0.25), (0.25, 0.5), (0.75, 0.25)]
    # 10 s of boot.
    assert [(bar.start, bar.width) for bar in below.bars] == [(0.35, 0.3), (0.65, 0.1)]
    assert top.ticks == below.ticks


@pytest.mark.parametrize("seconds", [0, 0.004, 0.3, 7, 59, 61, 600, 5400, 200_000])
def test_axis_fits_a_phone(seconds: float) -> None:
    bake = data.bake_record(data.lock(), phases=[Timing(name="only", seconds=seconds)], roles=[])
    (chart,) = charts.timings(bake, None)
    assert 1 <= len(chart.ticks) <= charts.TICK_LIMIT + 1
    assert all(0 <= tick.at <= 1 for tick in chart.ticks)
    assert len({tick.label for tick in chart.ticks}) == len(chart.ticks)


def test_nothing_recorded_is_no_chart() -> None:
    bare = data.bake_record(data.lock(), phases=[], roles=[], components=[])
    assert charts.sizes(bare, None) is None
    assert charts.timings(bare, None) == ()
    assert charts.outcomes([]) == ()


def test_outcomes_fill_the_strip() -> None:
    parts = charts.outcomes(data.checks(data.FAILING))
    assert [(part.outcome.value, part.count) for part in parts] == [
        ("correct", 32), ("incorrect", 2), ("missing", 1), ("unreachable", 1)]
    assert sum(part.width for part in parts) == pytest.approx(1, abs=1e-4)
    assert parts[-1].start + parts[-1].width == pytest.approx(1, abs=1e-4)


def test_shorten_keeps_both_ends() -> None:
    short = charts.shorten(data.LONG)
    assert short == "libnvidia-extrao…ame-end"
    assert charts.shorten("cuda") == "cuda"
    assert charts.shorten("W" * 400) == f"{'W' * 9}…{'W' * 4}"
    assert charts.shorten("金" * 400) == f"{'金' * 8}…{'金' * 4}"
