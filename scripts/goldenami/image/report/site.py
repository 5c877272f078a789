"""The site: one static page over all images, with links to each build's report. It needs no script
and no network.

What the account and `drift` said comes as plain JSON, as records of later stages do everywhere in a
report.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from goldenami.core import units
from goldenami.image.report import charts
from goldenami.image.report.charts import Chart
from goldenami.image.report.report import template
from goldenami.image.report.site_records import SiteBuild
from goldenami.image.report.view import Figure
from goldenami.model.supported import support
from goldenami.model.supported.support import PartSupport, SupportState

NOT_ASKED = "not asked"
"""What stands for the account's answers where nobody asked it."""
_WORST = (SupportState.ENDED, SupportState.UNKNOWN, SupportState.ENDING, SupportState.SUPPORTED)


@dataclass(frozen=True)
class RunsRow:
    """An image in a region: the builds behind its names, what runs of each build, and the storage's
    dollars a month."""

    region: str
    latest: str
    candidate: str
    runs: str
    instances: int
    usd: float | None
    exact: bool

    @property
    def cost(self) -> str:
        """The dollars in words."""
        return units.price(self.usd, exact=self.exact)


@dataclass(frozen=True)
class DriftSummary:
    """What of an image drifted when it was last looked at: so many of `looked_at` instances and
    groups, and how."""

    at: str
    looked_at: int
    drifted: int
    kinds: str


@dataclass(frozen=True)
class ImageSection:
    """An image: its builds, the newest first, and what follows for it. `builds` is empty where none
    is known."""

    image: str
    builds: tuple[SiteBuild, ...]
    support: tuple[PartSupport, ...]
    worst: PartSupport | None
    sizes: Chart | None
    times: Chart | None
    regions: tuple[RunsRow, ...]
    drift: DriftSummary | None

    @property
    def newest(self) -> SiteBuild | None:
        """The newest build."""
        return self.builds[0] if self.builds else None

    @property
    def instances(self) -> int:
        """What runs of it, in all regions that answered."""
        return sum(row.instances for row in self.regions)

    @property
    def cost(self) -> str:
        """What its snapshots cost a month, in all regions that answered."""
        if not self.regions:
            return "not published"
        return units.price(units.total(row.usd for row in self.regions),
                           exact=all(row.exact for row in self.regions))


@dataclass(frozen=True)
class AccountAnswers:
    """The records of `golden status` and `golden drift` as JSON; None where nobody asked, or
    nothing is kept."""

    status: Mapping[str, Any] | None = None
    drift: Mapping[str, Any] | None = None


def render(
    images: Sequence[str], builds: Mapping[str, Sequence[SiteBuild]], answers: AccountAnswers,
    made_at: str,
) -> str:
    """The page over `images` and whatever else has builds; `made_at` is ISO 8601 and dates what is
    supported."""
    day = date.fromisoformat(made_at[:10])
    sections = [_section(image, builds.get(image, ()), answers, day)
                for image in dict.fromkeys([*images, *builds])]
    status = answers.status or {"unreachable": {}, "regions": {}}
    return template("site.html.j2").render(
        sections=sections, figures=_figures(sections, answers, day), made_at=made_at, day=day,
        answers=answers,
        unreachable=status["unreachable"],
        regions=len(status["unreachable"]) + len(status["regions"]),
        not_asked=NOT_ASKED)


def _section(
    image: str, builds: Sequence[SiteBuild], answers: AccountAnswers, day: date
) -> ImageSection:
    parts = support.of_lock(builds[0].lock) if builds and builds[0].lock else []
    oldest_first = list(reversed(builds))
    return ImageSection(
        image=image, builds=tuple(builds), support=tuple(parts),
        worst=min(parts, key=lambda part: (_WORST.index(part.state(day)), part.ends or date.max),
                  default=None),
        sizes=charts.history(f"{image}-sizes", "Bytes on disk of each build", [
            (_label(build), _label(build), build.bytes) for build in oldest_first if build.bytes],
                             units.size),
        times=charts.history(f"{image}-times", "Time of each bake", [
            (_label(build), f"{_label(build)}, {build.layers} layers reused", build.seconds)
            for build in oldest_first if build.seconds], units.duration),
        regions=tuple(_runs(image, answers.status)), drift=_drift(image, answers.drift))


def _label(build: SiteBuild) -> str:
    return f"{build.started_at[:10]} {build.build_id}"


def _runs(image: str, status: Mapping[str, Any] | None) -> Iterator[RunsRow]:
    for region, found in sorted(status["regions"].items() if status else ()):
        for one in found:
            if one["image"] != image:
                continue
            amis = one["amis"]
            runs = ", ".join(f"{ami['instances']} of {ami['build_id']}" for ami in amis
                             if ami["instances"])
            yield RunsRow(
                region, _pointed(one["latest"]), _pointed(one["candidate"]), runs or "nothing",
                sum(ami["instances"] for ami in amis),
                units.total(ami["usd_month"] for ami in amis),
                all(ami["bytes_exact"] for ami in amis))


def _pointed(pointer: Mapping[str, Any] | None) -> str:
    if pointer is None:
        return "none"
    return str(pointer["build_id"]
               or ("not ours" if pointer["exists"] else "an AMI that does not exist"))


def _drift(image: str, record: Mapping[str, Any] | None) -> DriftSummary | None:
    if record is None:
        return None
    rows = [row for fleets in record["regions"].values() for fleet in fleets if fleet["image"]
            == image
            for row in (*fleet["instances"], *fleet["groups"])]
    if not rows:
        return None
    kinds = [drift["kind"] for row in rows for drift in row["drift"]]
    return DriftSummary(record["asked_at"], len(rows), sum(bool(row["drift"]) for row in rows),
                        ", ".join(dict.fromkeys(kinds)))


def _figures(
    sections: Sequence[ImageSection], answers: AccountAnswers, day: date
) -> tuple[Figure, ...]:
    newest = [section.newest for section in sections if section.newest]
    ended = sum(part.state(day) is SupportState.ENDED for section in sections
                for part in section.support)
    asked = answers.status is not None
    return (
        Figure("Verified", str(sum(build.verified for build in newest)),
               f"of {len(sections)} images, by their newest builds"),
        Figure("Not run by a GPU", str(sum(build.untested for build in newest)),
               f"of {sum(bool(build.gpu) for build in newest)} for GPUs"),
        Figure("Support ended", str(ended), "parts of newest builds"),
        Figure("Stop a publish", str(sum(build.stops for build in newest)),
               "vulnerabilities; nobody asked about "
               f"{sum(not build.asked_at for build in newest)} builds"),
        Figure("Running",
               str(sum(section.instances for section in sections)) if asked else NOT_ASKED,
               "instances of all builds"),
    )
