"""One static page over all images, with links to each build's report. It needs no script and no
network.

Its folder has a copy of each build's report and records, in the layout of `build/`, so that their
links hold.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Literal

from goldenami.core import records, units
from goldenami.core.errors import BadInput, GoldenError
from goldenami.core.records import Record
from goldenami.image.report import charts, view
from goldenami.image.report.report import template
from goldenami.model.builds.build_folder import BuildFolder, ImageFolder
from goldenami.model.builds.build_records import Outcome, Utc, Verdict, VerifyRecord
from goldenami.model.supported import support
from goldenami.model.supported.support import SupportState

SITE_FILE = "site.json"
_LOCK_KEYS = ("base", "kernel", "driver", "cuda")
"""What of a lock says until when its parts are supported."""
NOT_ASKED = "not asked"
"""What stands for the account's answers where nobody asked it."""
Answer = Mapping[str, Any] | None
"""A record as JSON; None where nobody asked, or nothing is kept."""
_WORST = (SupportState.ENDED, SupportState.UNKNOWN, SupportState.ENDING, SupportState.SUPPORTED)


class SiteBuild(Record, extra="ignore"):
    """What the page needs of a build; it outlives the build on this machine. `bytes` allocated on
    the disk are None of an AMI.

    `gpu` says what GPUs ran it, "" of an image without. `rated` counts known vulnerabilities,
    `stops` those that stop a publish; `asked_at` is "" where nobody has asked. `amis`: by
    region.
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
        return self.gpu == view.NO_GPU


def of_build(folder: BuildFolder) -> SiteBuild:
    """What the build's records say; BadInput names one that is damaged."""
    bake, lock = folder.read_bake(), view.lock_of(folder)
    verify = records.read(folder.verify, VerifyRecord) if folder.verify.exists() else None
    gpu, security = view.gpu_test(folder, lock), view.security(folder)
    published = view.publication(folder) or {"regions": {}}
    return SiteBuild(
        image=bake.image,
        build_id=bake.build_id,
        description=str(lock.get("description") or ""),
        started_at=bake.started_at,
        seconds=bake.seconds,
        bytes=bake.disk.bytes_allocated if bake.disk else None,
        verified=verify is not None and verify.verdict is Verdict.VERIFIED,
        verdict=str(verify.verdict if verify else Verdict.NOT_VERIFIED),
        correct=sum(check.outcome is Outcome.CORRECT for check in verify.checks) if verify else 0,
        checks=len(verify.checks) if verify else 0,
        gpu=gpu[0].value if gpu else "",
        asked_at=security.checked_at if security else "",
        rated=view.rated(security.findings) if security else "",
        stops=sum(finding.stops for finding in security.findings) if security else 0,
        amis={region: entry["ami"] for region, entry in published["regions"].items()},
        report=folder.report.exists(),
        lock={key: lock[key] for key in _LOCK_KEYS if key in lock},
    )


def collect(images: Iterable[ImageFolder], site: Path) -> list[GoldenError]:
    """Copy what there is of each build, with its `site.json`; returns what is damaged. A build
    that is no longer here stays in the site."""
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
    """Every build of the site by image, the newest first; what cannot be read goes to `damaged`."""
    found: dict[str, list[SiteBuild]] = {}
    for path in sorted(site.glob(f"*/*/{SITE_FILE}")):
        try:
            build = records.read(path, SiteBuild)
            found.setdefault(build.image, []).append(build)
        except BadInput as error:
            damaged.append(error)
    return {
        image: sorted(of, key=lambda build: (build.started_at, build.build_id), reverse=True)
        for image, of in sorted(found.items())
    }


def render(
    images: Sequence[str],
    found: Mapping[str, Sequence[SiteBuild]],
    made_at: str,
    *,
    status: Answer = None,
) -> str:
    """The page over `images` and whatever else has builds; `made_at` is ISO 8601 and dates what
    is supported. `status` is the record of that command."""
    day = date.fromisoformat(made_at[:10])
    sections = [
        _section(image, found.get(image, ()), day, status)
        for image in dict.fromkeys([*images, *found])
    ]
    # The newest first, and last those without a build.
    sections.sort(key=lambda one: one["newest"].started_at if one["newest"] else "", reverse=True)
    asked = status or {"unreachable": {}, "regions": {}}
    return template("site.html.j2").render(
        sections=sections,
        made_at=made_at,
        day=day,
        not_asked=NOT_ASKED,
        unreachable=asked["unreachable"],
        is_asked=status is not None,
        regions=len(asked["unreachable"]) + len(asked["regions"]),
    )


def _section(image: str, found: Sequence[SiteBuild], day: date, status: Answer) -> dict[str, Any]:
    parts = support.of_lock(found[0].lock) if found and found[0].lock else []
    oldest_first = [
        (f"{build.started_at[:10]} {build.build_id}", build) for build in reversed(found)
    ]
    drawn = (
        charts.history(
            "Bytes on disk of each build",
            [(label, build.bytes) for label, build in oldest_first if build.bytes],
            units.size,
        ),
        charts.history(
            "Time of each bake",
            [(label, build.seconds) for label, build in oldest_first],
            units.duration,
        ),
    )
    worst = min(
        parts, key=lambda part: (_WORST.index(part.state(day)), part.ends or date.max), default=None
    )
    regions, runs = list(_regions(image, status)), NOT_ASKED
    if status is not None:
        runs = "unknown" if status["unreachable"] else "not published"
    return {
        "image": image,
        "builds": found,
        "newest": found[0] if found else None,
        "shown": bool(found) or status is not None,
        "support": parts,
        "worst": worst,
        "charts": [chart for chart in drawn if chart],
        "regions": regions,
        "runs": runs,
    }


def _regions(image: str, status: Answer) -> Iterator[dict[str, str]]:
    for region, found in sorted(status["regions"].items() if status else ()):
        for one in found:
            if one["image"] != image:
                continue
            amis = one["amis"]
            runs = ", ".join(
                f"{ami['instances']} of {ami['build_id']}" for ami in amis if ami["instances"]
            )
            cost = units.price(
                units.total(ami["usd_month"] for ami in amis),
                exact=all(ami["bytes_exact"] for ami in amis),
            )
            yield {
                "region": region,
                "latest": _pointed(one["latest"]),
                "candidate": _pointed(one["candidate"]),
                "runs": runs or "nothing",
                "cost": cost,
            }


def _pointed(pointer: Mapping[str, Any] | None) -> str:
    if pointer is None:
        return "none"
    return str(
        pointer["build_id"] or ("not ours" if pointer["exists"] else "an AMI that does not exist")
    )
