"""Figures of a build, such as the seconds of an import, and whether they are worse than those of
the build before.

A figure is measured several times in one run. Its noise is the uncertainty of the median of these
values, as their own spread shows it.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Annotated, Literal

from pydantic import Field

from goldenami.core import records
from goldenami.core.errors import NotVerified
from goldenami.core.records import Record
from goldenami.model.builds.build_folder import BuildFolder

FIGURES_FILE = "figures.json"
MEASURED = ".figures.json"
"""Suffix of the files in which the checks of one run leave their figures."""
SECONDS = "s"
"""The unit of which less is better. Of every other one more is better."""
LEAST_VALUES = 5
"""Fewer values do not show their noise: such a figure is shown and not judged."""
LEAST_DROP, LEAST_DROP_BETWEEN_RUNS = 0.03, 0.1
"""Share of a figure that may be lost in any case, in one run with the build before and in another
run: two machines of one type differ by as much."""
NOISES = 4.0
"""A drop counts from so many times the noise."""
_MEDIAN_ERROR = 1.2533 * 1.4826
"""Standard error of a median, in median absolute deviations over the root of the number of values
(of normally distributed ones)."""


class Figure(Record):
    """What one run measured on a machine; `machine` is its type and its processor.

    `before` are the values of the build `before_build`, measured in turn with these in the same
    run.
    """

    name: str
    unit: str
    machine: str
    values: Annotated[list[Annotated[float, Field(gt=0, allow_inf_nan=False)]], Field(min_length=1)]
    before: list[Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(default_factory=list)
    before_build: str = ""

    def __str__(self) -> str:
        middle = median(self.values)
        number = f"{middle:.3g}" if middle < 1000 else f"{middle:,.0f}"
        return f"{number} {self.unit}"


class FiguresRecord(Record):
    """A build's figures. `accepted` is the reason for which a person let a slower build pass."""

    schema_version: Literal[1] = 1
    build_id: str
    figures: list[Figure]
    accepted: str = ""


def _noise(values: Sequence[float]) -> float:
    """The uncertainty of the median of values, as a share of it."""
    middle = median(values)
    spread = median(abs(value - middle) for value in values)
    return _MEDIAN_ERROR * spread / math.sqrt(len(values)) / middle


@dataclass(frozen=True)
class Change:
    """A figure of a build and that of the build before, or None; `problem` says why the two are not
    judged. Values of the same run are held against each other one by one: what else the machine
    did slowed both."""

    now: Figure
    before: Figure | None
    problem: str = ""
    is_one_run: bool = False

    @cached_property
    def _measured(self) -> tuple[float, float]:
        """How many times as much work or time the figure is, and the noise of that."""
        assert self.before is not None
        now, before = self.now.values, self.before.values
        if self.is_one_run:
            ratios = [value / old for value, old in zip(now, before, strict=True)]
            return median(ratios), _noise(ratios)
        return median(now) / median(before), math.hypot(_noise(now), _noise(before))

    @property
    def drop(self) -> float:
        """How much worse it is, as a share; below 0 if it is better."""
        ratio, _ = self._measured
        return ratio - 1 if self.now.unit == SECONDS else 1 / ratio - 1

    @property
    def is_slower(self) -> bool:
        least = LEAST_DROP if self.is_one_run else LEAST_DROP_BETWEEN_RUNS
        return not self.problem and self.drop > max(least, NOISES * self._measured[1])

    @property
    def verdict(self) -> str:
        """How much faster or slower it is, or why that is not judged."""
        if self.problem:
            return self.problem
        word = "slower" if self.drop > 0 else "faster"
        return f"{abs(self.drop):.1%} {word}, noise {self._measured[1]:.1%}"

    def __str__(self) -> str:
        figures = f"{self.before} before, {self.now} now"
        return f"{self.now.name}: {figures}: {self.verdict} on {self.now.machine}"


def read(build: BuildFolder) -> FiguresRecord:
    """The figures of a build, none if nobody measured it."""
    path = build.path / FIGURES_FILE
    if not path.exists():
        return FiguresRecord(build_id=build.build_id, figures=[])
    return records.read(path, FiguresRecord)


def measured(work: Path) -> Iterator[Figure]:
    """What the runs of checks with files below the folder `work` measured."""
    for path in sorted(work.rglob(f"*{MEASURED}")):
        for row in json.loads(path.read_text(encoding="utf-8")):
            yield Figure.model_validate(row)


def keep(build: BuildFolder, new: Iterable[Figure]) -> None:
    """Put new figures in the place of those of the same names and machines."""
    path = build.path / FIGURES_FILE
    old = records.read_if_whole(path, FiguresRecord)
    figures = [*(old.figures if old else []), *new]
    latest = {(figure.name, figure.machine): figure for figure in figures}
    records.write(path, FiguresRecord(build_id=build.build_id, figures=list(latest.values())))


def changes(now: FiguresRecord, before: FiguresRecord) -> Iterator[Change]:
    """Hold each figure against the one of its name and machine before."""
    for figure in now.figures:
        is_one_run = figure.before_build == before.build_id
        named = [old for old in before.figures if old.name == figure.name]
        same = next((old for old in named if old.machine == figure.machine), None)
        if is_one_run:
            same = figure.model_copy(update={"values": figure.before})
        if same is not None:
            fewest = min(len(figure.values), len(same.values))
            problem = f"measured {fewest} times, not {LEAST_VALUES}"
            if fewest >= LEAST_VALUES:
                problem = ""
        elif named:
            problem = f"the build before was measured on {named[0].machine}"
        else:
            problem = "the build before has no such figure"
        yield Change(figure, same, problem, is_one_run)


def judge(build: BuildFolder, before: BuildFolder, reason: str) -> list[str]:
    """Hold a build's figures against those of the build before, and return lines for a person.

    Raises NotVerified for a drop beyond the noise, unless a person accepts it with a `reason`,
    which the record then keeps.
    """
    record, slower, others = read(build), list[str](), Counter[str]()
    for change in changes(record, read(before)):
        if change.is_slower:
            slower.append(str(change))
        else:
            others[change.problem or f"no slower than those of build {before.build_id}"] += 1
    reason = reason or record.accepted
    if slower and not reason:
        raise NotVerified(
            f"build {build.build_id} is slower than build {before.build_id}: {slower[0]}",
            tail="\n".join(slower),
            log=build.path / FIGURES_FILE,
            hint="mend the image, or measure it again (`golden verify`, `golden gpu-test`); "
            "--accept-slower REASON goes on, and that is recorded",
        )
    if slower:
        records.write(build.path / FIGURES_FILE, record.model_copy(update={"accepted": reason}))
    lines = [f"  slower, accepted ({reason}): {line}" for line in slower]
    return [*lines, *(f"  {count} figures: {what}" for what, count in others.items())]
