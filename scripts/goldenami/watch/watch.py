"""Compare what the sources of each image offer with its lock, by the policy of its definition."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from functools import cache, partial
from pathlib import Path

from goldenami.core.cache_paths import CachePaths
from goldenami.core.errors import GoldenError
from goldenami.model.definitions import definition_file
from goldenami.model.definitions.definition import Base
from goldenami.model.locked import lockfile, vendor_archives
from goldenami.model.supported import compatibility
from goldenami.packages.mirrors import VendorArchive
from goldenami.packages.pypi import Index
from goldenami.watch.image_watcher import ImageWatcher, WatchedImage, WatchResult
from goldenami.watch.sources import archive_indexes, driver_releases, index_versions
from goldenami.watch.sources.archive_indexes import Archives
from goldenami.watch.sources.source_records import SourceStatus
from goldenami.watch.watch_records import ComponentRow, WatchRecord


def watched(
    root: Path, name: str | None
) -> tuple[list[WatchedImage], list[str], dict[str, GoldenError]]:
    """Return the images with a lock (or the one named `name`), warnings about images without one,
    and the errors of unreadable ones by name. An error of the named image is raised."""
    images, warnings, errors = list[WatchedImage](), list[str](), dict[str, GoldenError]()
    paths = sorted((root / "packer/images").glob("*.yml"))
    if name:
        paths = [definition_file.path_of(root, name)]
    for path in paths:
        try:
            image_definition = definition_file.load(root, path)
            lock_path = lockfile.path_of(root, path.stem)
            if lock_path.exists() or name:
                images.append(WatchedImage(image_definition, *lockfile.read(lock_path)))
            else:
                warnings.append(
                    f"{image_definition.image}: no lock, so nothing to compare with: "
                    f"make lock IMAGE={image_definition.image}"
                )
        except GoldenError as error:
            if name:
                raise
            errors[path.stem] = error
    return images, warnings, errors


def read_sources(
    root: Path,
    cached: CachePaths,
    images: Sequence[WatchedImage],
    looked_at: str,
) -> tuple[WatchRecord, list[WatchResult]]:
    """Read each source once, however many images use it; `looked_at` is ISO 8601."""
    archives_by_base = dict[tuple[Base, tuple[VendorArchive, ...]], Archives]()
    configured = cache(Index.configured)
    lookup = cache(
        lambda name, private: index_versions.read_versions(name, partial(configured, private))
    )
    sources, warnings = list[SourceStatus](), list[str]()
    today = date.fromisoformat(looked_at[:10])
    if any(image.lock.driver for image in images):
        warnings += driver_releases.messages(compatibility.load(root), today)
    results, rows = list[WatchResult](), list[ComponentRow]()
    for image in images:
        key = (image.definition.base, vendor_archives.declared_archives(root, image.definition))
        if key not in archives_by_base:
            archives_by_base[key] = archive_indexes.read_archives(
                image.definition.base, cached, key[1]
            )
            sources += archives_by_base[key].statuses
        watcher = ImageWatcher(root, today, image, archives_by_base[key], lookup)
        result = watcher.run()
        results.append(result)
        rows += result.rows
        sources += watcher.statuses
        warnings += watcher.warnings()
    return WatchRecord(
        looked_at=looked_at,
        # Images that share a source have equal rows of it.
        sources=list(dict.fromkeys(sources)),
        rows=rows,
        warnings=warnings,
    ), results
