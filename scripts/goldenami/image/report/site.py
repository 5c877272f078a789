"""One static page over all images, with links to each build's report. It needs no script and no
network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from goldenami.core import units
from goldenami.image.report import charts
from goldenami.image.report.charts import Chart
from goldenami.image.report.report import template
from goldenami.image.report.site_folder import SiteBuild
from goldenami.model.supported import support
from goldenami.model.supported.support import PartSupport, SupportState

NOT_ASKED = "not asked"
"""What stands for the account's answers where nobody asked it."""
Answer = Mapping[str, Any] | None
"""A record as JSON; None where nobody asked, or nothing is kept."""
_WORST = (SupportState.ENDED, SupportState.UNKNOWN, SupportState.ENDING, SupportState.SUPPORTED)


@dataclass(frozen=True)
class RunsRow:
    """An image in a region; `cost` is of its storage in dollars a month."""

    region: str
    latest: str
    candidate: str
    runs: str
    cost: str


@dataclass(frozen=True)
class ImageSection:
    """An image and its builds, the newest first; `runs` says why there is no region."""

    image: str
    builds: tuple[SiteBuild, ...]
    support: tuple[PartSupport, ...]
    worst: PartSupport | None
    charts: tuple[Chart, ...]
    regions: tuple[RunsRow, ...]
    runs: str

    @property
    def newest(self) -> SiteBuild | None:
        return self.builds[0] if self.builds else None


def render(
    images: Sequence[str], builds: Mapping[str, Sequence[SiteBuild]], made_at: str, *,
    status: Answer = None,
) -> str:
    """The page over `images` and whatever else has builds; `made_at` is ISO 8601 and dates what
    is supported. `status` is the record of that command."""
    day = date.fromisoformat(made_at[:10])
    sections = [_section(image, builds.get(image, ()), day, status)
                for image in dict.fromkeys([*images, *builds])]
    asked = status or {"unreachable": {}, "regions": {}}
    return template("site.html.j2").render(
        sections=sections, made_at=made_at, day=day, not_asked=NOT_ASKED,
        unreachable=asked["unreachable"],
        regions=len(asked["unreachable"]) + len(asked["regions"]))


def _section(
    image: str, builds: Sequence[SiteBuild], day: date, status: Answer
) -> ImageSection:
    parts = support.of_lock(builds[0].lock) if builds and builds[0].lock else []
    oldest_first = [(f"{build.started_at[:10]} {build.build_id}", build)
                    for build in reversed(builds)]
    drawn = (
        charts.history("Bytes on disk of each build", [
            (label, build.bytes) for label, build in oldest_first if build.bytes], units.size),
        charts.history("Time of each bake", [
            (label, build.seconds) for label, build in oldest_first],
            units.duration))
    regions = tuple(_regions(image, status))
    return ImageSection(
        image=image, builds=tuple(builds), support=tuple(parts),
        worst=min(parts, key=lambda part: (_WORST.index(part.state(day)), part.ends or date.max),
                  default=None),
        charts=tuple(chart for chart in drawn if chart), regions=regions,
        runs=NOT_ASKED if status is None else
        "unknown" if status["unreachable"] and not regions else "not published")


def _regions(image: str, status: Answer) -> Iterator[RunsRow]:
    for region, found in sorted(status["regions"].items() if status else ()):
        for one in found:
            if one["image"] != image:
                continue
            amis = one["amis"]
            runs = ", ".join(f"{ami['instances']} of {ami['build_id']}" for ami in amis
                             if ami["instances"])
            cost = units.price(units.total(ami["usd_month"] for ami in amis),
                               exact=all(ami["bytes_exact"] for ami in amis))
            yield RunsRow(region, _pointed(one["latest"]), _pointed(one["candidate"]),
                          runs or "nothing", cost)


def _pointed(pointer: Mapping[str, Any] | None) -> str:
    if pointer is None:
        return "none"
    return str(pointer["build_id"]
               or ("not ours" if pointer["exists"] else "an AMI that does not exist"))
