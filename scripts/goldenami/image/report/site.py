"""The site: one static page over all images, costs and the digest, with links to each build's
report. It needs no script and no network.

Its folder has a copy of each build's report and records, in the layout of `build/`, so that their
links hold.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from goldenami.core import records, units
from goldenami.core.errors import BadInput, GoldenError
from goldenami.core.records import Record
from goldenami.image.report import charts, view
from goldenami.image.report.report import template
from goldenami.model.builds.build_folder import BuildFolder, ImageFolder
from goldenami.model.builds.build_records import Outcome, Utc, Verdict, VerifyRecord
from goldenami.model.supported import support
from goldenami.model.supported.support import PartSupport, SupportState

SITE_FILE = "site.json"
_LOCK_KEYS = ("base", "kernel", "driver", "cuda")
"""Keys of a lock that say how long its parts are supported."""
NOT_ASKED = "not asked"
"""Text in place of the account's answers if nobody asked it."""
Answer = Mapping[str, Any] | None
"""A record as JSON; None if nobody asked, or no record is kept."""
# The worst state first.
_WORST = (SupportState.ENDED, SupportState.UNKNOWN, SupportState.ENDING, SupportState.SUPPORTED)


class SiteBuild(Record, extra="ignore"):
    """The page's facts of a build; they outlive the build on this machine. `bytes` are those
    allocated on the disk, None for an AMI.

    `gpu` says which GPUs ran it, "" for an image without GPUs. `rated` counts known
    vulnerabilities, `stops` those that stop a publish; `asked_at` is "" if nobody looked for any.
    `amis` are by region.
    """

    schema_version: Literal[1] = 1
    image: str
    build_id: str
    description: str
    started_at: Utc
    seconds: float
    bytes: int | None
    verified: bool
    verdict: str
    correct: int
    checks: int
    gpu: str
    asked_at: str
    rated: str
    stops: int
    amis: dict[str, str]
    report: bool
    lock: dict[str, Any]

    @property
    def untested(self) -> bool:
        """Whether the build is for GPUs and none has run it."""
        return self.gpu == view.NO_GPU


def of_build(folder: BuildFolder) -> SiteBuild:
    """The facts in the build's records. Raises BadInput with the name of a damaged one."""
    bake, lock = folder.read_bake(), view.lock_of(folder)
    verify = records.read(folder.verify, VerifyRecord) if folder.verify.exists() else None
    gpu, security = view.gpu_test(folder, lock), view.security(folder)
    published = view.publication(folder) or {"regions": {}}
    checks = verify.checks if verify else []
    verdict = verify.verdict if verify else Verdict.NOT_VERIFIED
    asked_at, rated, stops = "", "", 0
    if security:
        asked_at, rated = security.checked_at, view.rated(security.findings)
        stops = sum(finding.stops for finding in security.findings)
    return SiteBuild(
        image=bake.image,
        build_id=bake.build_id,
        description=str(lock.get("description") or ""),
        started_at=bake.started_at,
        seconds=bake.seconds,
        bytes=bake.disk.bytes_allocated if bake.disk else None,
        verified=verdict is Verdict.VERIFIED,
        verdict=str(verdict),
        correct=sum(check.outcome is Outcome.CORRECT for check in checks),
        checks=len(checks),
        gpu=gpu[0].value if gpu else "",
        asked_at=asked_at,
        rated=rated,
        stops=stops,
        amis={region: entry["ami"] for region, entry in published["regions"].items()},
        report=folder.report.exists(),
        lock={key: lock[key] for key in _LOCK_KEYS if key in lock},
    )


def collect(images: Iterable[ImageFolder], site: Path) -> list[GoldenError]:
    """Copy the records of each build, with its `site.json`. Returns errors about damaged ones. A
    build that is no longer here stays in the site."""
    damaged: list[GoldenError] = []
    for image in images:
        for build in image.builds:
            try:
                summary = of_build(build)
            except BadInput as error:
                damaged.append(error)
                continue
            target = ImageFolder(site / image.image).build(build.build_id)
            _copy(build, target)
            records.write(target.path / SITE_FILE, summary)
    return damaged


def _copy(build: BuildFolder, target: BuildFolder) -> None:
    names = [build.report.name, build.summary.name, *view.records_of(build)]
    pairs = [(build.path / name, target.path / name) for name in names]
    pairs += [(build.log(stage), target.log(stage)) for stage in view.LOGS]
    for source, copied in pairs:
        if source.exists():
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copied)


def builds(site: Path, damaged: list[GoldenError]) -> dict[str, list[SiteBuild]]:
    """Every build of the site by image, the newest first. Errors about unreadable ones are added to
    `damaged`."""
    by_image: dict[str, list[SiteBuild]] = {}
    for path in sorted(site.glob(f"*/*/{SITE_FILE}")):
        try:
            build = records.read(path, SiteBuild)
            by_image.setdefault(build.image, []).append(build)
        except BadInput as error:
            damaged.append(error)
    for image_builds in by_image.values():
        image_builds.sort(key=lambda build: (build.started_at, build.build_id), reverse=True)
    return dict(sorted(by_image.items()))


def render(
    root: Path,
    images: Sequence[str],
    by_image: Mapping[str, Sequence[SiteBuild]],
    made_at: str,
    parts: Mapping[str, Answer] = MappingProxyType({}),
) -> str:
    """The page over `images` of the repository `root` and all others with builds. `made_at` (ISO
    8601) is the day for which support is shown. `parts` has what the page shows of `status`,
    `costs` and `digest`, if they are known."""
    day, status = date.fromisoformat(made_at[:10]), parts.get("status")
    sections = [
        _section(root, image, by_image.get(image, ()), day, status)
        for image in dict.fromkeys([*images, *by_image])
    ]
    # The newest first, and last those without a build.
    sections.sort(
        key=lambda section: section["newest"].started_at if section["newest"] else "", reverse=True
    )
    answer = status or {"unreachable": {}, "regions": {}}
    return template("site.html.j2").render(
        sections=sections,
        made_at=made_at,
        day=day,
        not_asked=NOT_ASKED,
        unreachable=answer["unreachable"],
        is_asked=status is not None,
        regions=len(answer["unreachable"]) + len(answer["regions"]),
        costs=parts.get("costs"),
        digest=parts.get("digest"),
    )


def _section(
    root: Path, image: str, image_builds: Sequence[SiteBuild], day: date, status: Answer
) -> dict[str, Any]:
    parts, lock = list[PartSupport](), image_builds[0].lock if image_builds else None
    if lock:
        parts = support.of_lock(root, lock)
    sizes, seconds = list[tuple[str, float]](), list[tuple[str, float]]()
    for build in reversed(image_builds):
        label = f"{build.started_at[:10]} {build.build_id}"
        seconds.append((label, build.seconds))
        if build.bytes:
            sizes.append((label, build.bytes))
    drawn_charts = (
        charts.history("Bytes on disk of each build", sizes, units.size),
        charts.history("Time of each bake", seconds, units.duration),
    )
    worst = min(
        parts, key=lambda part: (_WORST.index(part.state(day)), part.ends or date.max), default=None
    )
    regions, runs = list(_regions(image, status)), NOT_ASKED
    if status is not None:
        runs = "unknown" if status["unreachable"] else "not published"
    return {
        "image": image,
        "builds": image_builds,
        "newest": image_builds[0] if image_builds else None,
        "shown": bool(image_builds) or status is not None,
        "support": parts,
        "worst": worst,
        "charts": [chart for chart in drawn_charts if chart],
        "regions": regions,
        "runs": runs,
    }


def _regions(image: str, status: Answer) -> Iterator[dict[str, str]]:
    for region, entries in sorted(status["regions"].items() if status else ()):
        for entry in entries:
            if entry["image"] != image:
                continue
            amis = entry["amis"]
            runs = ", ".join(
                f"{ami['instances']} of {ami['build_id']}" for ami in amis if ami["instances"]
            )
            cost = units.price(
                units.total(ami["usd_month"] for ami in amis),
                exact=all(ami["bytes_exact"] for ami in amis),
            )
            yield {
                "region": region,
                "latest": _pointed(entry["latest"]),
                "candidate": _pointed(entry["candidate"]),
                "runs": runs or "nothing",
                "cost": cost,
            }


def _pointed(pointer: Mapping[str, Any] | None) -> str:
    if pointer is None:
        return "none"
    if pointer["build_id"]:
        return str(pointer["build_id"])
    return "not ours" if pointer["exists"] else "an AMI that does not exist"
