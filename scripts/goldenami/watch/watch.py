"""What each image's sources have, against its lock and the policy of its definition."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from functools import cache, partial
from pathlib import Path

from goldenami.core.cache_paths import CachePaths
from goldenami.core.errors import GoldenError
from goldenami.image.lock.compilation.driver_fit import LockConstraints
from goldenami.model.definitions import definition_file
from goldenami.model.definitions.definition import Base
from goldenami.model.definitions.update_policy import UpdateVerdict
from goldenami.model.locked import lockfile, vendor_archives
from goldenami.packages.mirrors import VendorArchive
from goldenami.packages.pypi import Index
from goldenami.watch.image_watcher import ImageWatcher, WatchedImage, WatchResult
from goldenami.watch.sources import archive_indexes, index_versions, packages
from goldenami.watch.sources.archive_indexes import Archives
from goldenami.watch.sources.packages import WatchedComponent
from goldenami.watch.sources.source_records import SourceStatus
from goldenami.watch.watch_records import ComponentRow, WatchRecord


def watched(
    root: Path, name: str | None
) -> tuple[list[WatchedImage], list[str], dict[str, GoldenError]]:
    """All images that have a lock, or the one that is named; warnings of those without a lock, and
    by name the errors of the unreadable. What is wrong with the named one is raised."""
    images, warnings, errors = list[WatchedImage](), list[str](), dict[str, GoldenError]()
    named = definition_file.path_of(root, name) if name else None
    for path in [named] if named else sorted((root / "packer/images").glob("*.yml")):
        try:
            loaded, lock = definition_file.load(root, path), lockfile.path_of(root, path.stem)
            if lock.exists() or named:
                images.append(WatchedImage(loaded, *lockfile.read(lock)))
            else:
                warnings.append(
                    f"{loaded.image}: no lock, so nothing to compare with: "
                    f"make lock IMAGE={loaded.image}"
                )
        except GoldenError as error:
            if named:
                raise
            errors[path.stem] = error
    return images, warnings, errors


def look(
    root: Path,
    cached: CachePaths,
    images: Sequence[WatchedImage],
    looked_at: str,
) -> tuple[WatchRecord, list[WatchResult]]:
    """Ask every source once, whatever the number of images that use it; `looked_at` is ISO 8601."""
    archives_by_base = dict[tuple[Base, tuple[VendorArchive, ...]], Archives]()
    configured = cache(Index.configured)
    lookup = cache(lambda name, private: index_versions.look(name, partial(configured, private)))
    sources, warnings = list[SourceStatus](), list[str]()
    results, rows = list[WatchResult](), list[ComponentRow]()
    for image in images:
        key = (image.definition.base, vendor_archives.of(root, image.definition))
        if key not in archives_by_base:
            archives_by_base[key] = archive_indexes.look(image.definition.base, cached, key[1])
            sources += archives_by_base[key].statuses
        watcher = ImageWatcher(
            root, date.fromisoformat(looked_at[:10]), image, archives_by_base[key], lookup
        )
        result = watcher.run()
        results.append(result)
        rows += result.rows
        sources += watcher.statuses
        warnings += watcher.warnings()
    return WatchRecord(
        looked_at=looked_at, sources=list(dict.fromkeys(sources)), rows=rows, warnings=warnings
    ), results


def constraints(result: WatchResult) -> LockConstraints:
    """What a new lock leaves where it is: every component, and every package, that no row moves.

    What moves goes to the version that was judged, not to what is newest by then, or newest in
    another suite.
    """
    lock = result.image.lock
    rows = {row.component: row for row in result.rows}
    kept = {
        name
        for name in WatchedComponent
        if name in rows and rows[name].verdict is not UpdateVerdict.UPDATE
    }
    others = rows[WatchedComponent.PACKAGES]
    moving = (
        {update.name: update.available for update in others.moving}
        if others.verdict is UpdateVerdict.UPDATE
        else {}
    )
    pinned = {
        name: package
        for name, package in packages.from_archives(lock).items()
        if (
            packages.component(package) in kept
            or (packages.component(package) is WatchedComponent.PACKAGES and name not in moving)
        )
    }
    needed = {
        name: package
        for made in lock.compiled_modules().values()
        for name, package in made.build.items()
        if packages.component(package) in kept and "://" not in package.origin
    }
    return LockConstraints(
        kernel=lock.kernel
        if WatchedComponent.KERNEL in kept
        else packages.kernel(
            result.image.definition, result.archives.apt, rows[WatchedComponent.KERNEL].available
        ),
        driver=_driver(rows.get(WatchedComponent.DRIVER)),
        packages={name: package.version for name, package in pinned.items()} | moving,
        stock={**needed, **pinned},
    )


def _driver(row: ComponentRow | None) -> str:
    if row is None:
        return ""
    return row.available if row.verdict is UpdateVerdict.UPDATE else row.locked
