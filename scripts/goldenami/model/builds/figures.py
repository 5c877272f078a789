"""Figures of a build, such as the CPU time of an import, held against those of the build before.

A figure is measured several times in one run. Its noise is the uncertainty of its median, as the
spread of the values shows it.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Literal

from pydantic import Field

from goldenami.core import records
from goldenami.core.errors import NotVerified
from goldenami.core.records import Record
from goldenami.model.builds.build_folder import BuildFolder

FIGURES_FILE, MEASURED = "figures.json", ".figures.json"
"""A build's record, and how files end in which the checks of one run leave their figures."""
SECONDS = "s"
"""The unit of which less is better. Of every other one more is better."""
LEAST_VALUES, NOISES = 5, 4.0
"""Fewer values do not show their noise. A drop counts from so many times the noise."""
LEAST_DROP, LEAST_DROP_BETWEEN_RUNS = 0.03, 0.1
"""Share that may be lost in any case. Two machines of one type differ, as do two runs."""
_MEDIAN_ERROR = 1.2533 * 1.4826
"""Standard error of a median, in median absolute deviations over the root of the count."""
Values = list[Annotated[float, Field(gt=0, allow_inf_nan=False)]]


class Figure(Record):
    """What one run measured on a machine; `machine` is its type and its processor. `before` are the
    values of the build `before_build`, measured in turn with these in the same run."""

    name: str
    unit: str
    machine: str
    values: Annotated[Values, Field(min_length=1)]
    before: Values = Field(default_factory=list)
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


@dataclass(frozen=True)
class Change:
    """A figure of a build and that of the build before, or None; `problem` says why the two are not
    judged. `ratio` is how many times as much the figure is."""

    now: Figure
    before: Figure | None
    problem: str
    ratio: float = 1.0
    noise: float = 0.0
    is_one_run: bool = False

    @property
    def is_slower(self) -> bool:
        drop = self.ratio - 1 if self.now.unit == SECONDS else 1 / self.ratio - 1
        least = LEAST_DROP if self.is_one_run else LEAST_DROP_BETWEEN_RUNS
        return not self.problem and drop > max(least, NOISES * self.noise)

    @property
    def judged(self) -> str:
        """The change, or why it is not judged."""
        return self.problem or f"{self.ratio - 1:+.1%}, noise {self.noise:.1%}"

    def __str__(self) -> str:
        return f"{self.now.name}: {self.before} before, {self.now} now ({self.judged})"


def read(build: BuildFolder) -> FiguresRecord:
    """The figures of a build, none if nobody measured it."""
    path = build.path / FIGURES_FILE
    if not path.exists():
        return FiguresRecord(build_id=build.build_id, figures=[])
    return records.read(path, FiguresRecord)


def keep(build: BuildFolder, work: Path) -> None:
    """Put what the runs of checks below `work` measured in the place of figures of the same names
    and machines."""
    old = records.read_if_whole(build.path / FIGURES_FILE, FiguresRecord)
    figures = [*old.figures] if old else []
    for path in sorted(work.rglob(f"*{MEASURED}")):
        figures += map(Figure.model_validate, json.loads(path.read_text(encoding="utf-8")))
    latest = {(figure.name, figure.machine): figure for figure in figures}
    record = FiguresRecord(build_id=build.build_id, figures=list(latest.values()))
    records.write(build.path / FIGURES_FILE, record)


def _noise(values: Sequence[float]) -> float:
    middle = median(values)
    spread = median(abs(value - middle) for value in values)
    return _MEDIAN_ERROR * spread / math.sqrt(len(values)) / middle


def changes(now: FiguresRecord, before: FiguresRecord) -> Iterator[Change]:
    """Hold each figure against the one of its name and machine before."""
    for figure in now.figures:
        named = [old for old in before.figures if old.name == figure.name]
        same = next((old for old in named if old.machine == figure.machine), None)
        is_one_run = figure.before_build == before.build_id
        if is_one_run:
            same = figure.model_copy(update={"values": figure.before})
        if same is None:
            machines = [f"was measured on {old.machine}" for old in named]
            problem = (machines or ["has no such figure"])[0]
            yield Change(figure, None, f"the build before {problem}")
            continue
        new, old = figure.values, same.values
        fewest = min(len(new), len(old))
        problem = f"measured {fewest} times, not {LEAST_VALUES}" if fewest < LEAST_VALUES else ""
        if is_one_run:
            # What else the machine did slowed both, so value is held against value.
            new, old = [value / other for value, other in zip(new, old, strict=True)], [1.0]
        noise = math.hypot(_noise(new), _noise(old))
        yield Change(figure, same, problem, median(new) / median(old), noise, is_one_run)


def judge(build: BuildFolder, replaced: Iterable[str | None], reason: str) -> Iterator[str]:
    """Hold a build's figures against those of the builds that it replaces, and yield lines for a
    person. Raises NotVerified for a drop beyond the noise, unless a person accepts it with a
    `reason`, which the record then keeps."""
    record, slower, others = read(build), list[str](), Counter[str]()
    for build_id in sorted({*filter(None, replaced)} - {build.build_id}):
        for change in changes(record, read(build.image.build(build_id))):
            if change.is_slower:
                slower.append(f"{change}, of build {build_id}")
            else:
                others[change.problem or f"no slower than those of build {build_id}"] += 1
    reason = reason or record.accepted
    if slower and not reason:
        raise NotVerified(
            f"build {build.build_id} is slower: {slower[0]}",
            tail="\n".join(slower),
            log=build.path / FIGURES_FILE,
            hint="mend the image, or measure it again (`golden verify`, `golden gpu-test`); "
            "--accept-slower REASON goes on, and that is recorded",
        )
    if slower:
        accepted = record.model_copy(update={"accepted": reason})
        records.write(build.path / FIGURES_FILE, accepted)
    yield from (f"  slower, accepted ({reason}): {line}" for line in slower)
    yield from (f"  {count} figures: {what}" for what, count in others.items())
