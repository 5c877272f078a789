"""Recorded timings of equal and slower builds on a real machine, and what the figures say of
them."""

from __future__ import annotations

import json
from pathlib import Path

from goldenami.core.records import Record
from goldenami.model.builds import figures
from goldenami.model.builds.figures import SECONDS, Figure, FiguresRecord

TIMINGS = Path(__file__).with_name("figure_timings.json")
"""Written by tests/bench/bench_figures.py."""
BEFORE = "0" * 12


class Timing(Record):
    """The values of each figure of a build and of the one before, measured in turn, and by which
    share the build was made slower."""

    slower: float
    values: dict[str, list[float]]
    before: dict[str, list[float]]

    def named(self) -> list[str]:
        """The figures by which the build is slower than the one before."""
        measured = [
            Figure(
                name=name,
                unit=SECONDS if "time" in name else "per CPU second",
                machine="this one",
                values=values,
                before=self.before[name],
                before_build=BEFORE,
            )
            for name, values in self.values.items()
        ]
        record = FiguresRecord(build_id="", figures=measured)
        held = figures.changes(record, FiguresRecord(build_id=BEFORE, figures=[]))
        return [str(change) for change in held if change.is_slower]


def read() -> list[Timing]:
    return [Timing.model_validate(row) for row in json.loads(TIMINGS.read_text("utf-8"))]
