"""The site's folder: a copy of each build's report and records, in the layout of `build/`, so that
their links hold."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from goldenami.core import records
from goldenami.core.errors import BadInput, GoldenError
from goldenami.image.report import beside
from goldenami.image.report.site_records import SITE_FILE, SiteBuild, of_build
from goldenami.model.builds.build_folder import BuildFolder, ImageFolder


def collect(images: Iterable[ImageFolder], site: Path) -> list[GoldenError]:
    """Copy what there is of each build, and say in `site.json` what the page needs of it; returns
    what is damaged.

    A build that is no longer here stays in the site.
    """
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
    names = [build.report.name, build.summary.name, *(name for name, _ in beside.records_of(build))]
    pairs = [(build.path / name, target.path / name) for name in names]
    pairs += [(build.log(stage), target.log(stage)) for stage in beside.LOGS]
    for source, copied in pairs:
        if source.exists():
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copied)


def builds(site: Path, damaged: list[GoldenError] | None = None) -> dict[str, list[SiteBuild]]:
    """Every build of the site by image, the newest first; what cannot be read goes to `damaged`, or
    is raised."""
    found: dict[str, list[SiteBuild]] = {}
    for path in sorted(site.glob(f"*/*/{SITE_FILE}")):
        try:
            build = records.read(path, SiteBuild)
        except BadInput as error:
            if damaged is None:
                raise
            damaged.append(error)
            continue
        found.setdefault(build.image, []).append(build)
    return {image: sorted(of, key=lambda build: (build.started_at, build.build_id), reverse=True)
            for image, of in sorted(found.items())}
