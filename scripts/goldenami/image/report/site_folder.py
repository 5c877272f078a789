"""The site's folder: a copy of each build's report and records, in the layout of `build/`, so that
their links hold; and `site.json`, what the page needs of a build, which outlives it on this
machine."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from goldenami.core import records
from goldenami.core.errors import BadInput, GoldenError
from goldenami.core.records import Record
from goldenami.image.report import view
from goldenami.model.builds.build_folder import BuildFolder, ImageFolder
from goldenami.model.builds.build_records import Outcome, Utc, Verdict, VerifyRecord

SITE_FILE = "site.json"
_LOCK_KEYS = ("base", "kernel", "driver", "cuda")
"""What of a lock says until when its parts are supported."""


class SiteBuild(Record, extra="ignore"):
    """One build. `bytes` allocated on the disk are None of an AMI.

    `gpu` says what GPUs ran it, "" of an image without.
    `rated` counts known vulnerabilities, `stops` those that stop a publish; `asked_at` is "" where
    nobody has asked. `amis`: by region.
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
        image=bake.image, build_id=bake.build_id, description=str(lock.get("description") or ""),
        started_at=bake.started_at, seconds=bake.seconds,
        bytes=bake.disk.bytes_allocated if bake.disk else None,
        verified=verify is not None and verify.verdict is Verdict.VERIFIED,
        verdict=str(verify.verdict if verify else Verdict.NOT_VERIFIED),
        correct=sum(check.outcome is Outcome.CORRECT for check in verify.checks) if verify else 0,
        checks=len(verify.checks) if verify else 0, gpu=gpu[0].value if gpu else "",
        asked_at=security.checked_at if security else "",
        rated=view.rated(security.findings) if security else "",
        stops=sum(finding.stops for finding in security.findings) if security else 0,
        amis={region: entry["ami"] for region, entry in published["regions"].items()},
        report=folder.report.exists(),
        lock={key: lock[key] for key in _LOCK_KEYS if key in lock})


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
    return {image: sorted(of, key=lambda build: (build.started_at, build.build_id), reverse=True)
            for image, of in sorted(found.items())}
