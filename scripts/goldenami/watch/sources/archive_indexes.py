"""The apt archives of an image, each read on its own: apt checks signature, expiry, digests and
sizes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from debian.debian_support import Version

from goldenami.core.cache_paths import CachePaths
from goldenami.core.errors import GoldenError
from goldenami.core.records import sha256_text
from goldenami.model.definitions.definition import Base
from goldenami.model.definitions.update_policy import UpdateRule
from goldenami.model.locked.lockfile import Lock, Suite
from goldenami.model.locked.release_dates import iso, regressions
from goldenami.packages import http_documents, mirrors
from goldenami.packages.apt import LOOSE, AptRoot
from goldenami.packages.mirrors import Source, VendorArchive
from goldenami.watch.sources.source_records import SourceStatus


@dataclass(frozen=True)
class Archives:
    """The archives of one base. `apt` has those that answered, `roots` has each of them on its own,
    `down` names the others."""

    apt: AptRoot
    roots: Mapping[str, AptRoot]
    statuses: tuple[SourceStatus, ...]
    suites: tuple[Suite, ...]
    down: frozenset[str]


def read_archives(base: Base, cache: CachePaths, vendors: Sequence[VendorArchive] = ()) -> Archives:
    """Read the indexes of each archive of `base` and of `vendors` into the folder `cache.watch`."""
    sources = mirrors.sources(
        base.distribution, base.release, backports=base.backports, vendors=vendors
    )
    folder = cache.watch / sha256_text(repr((base, sources)))[:16]
    statuses, suites = list[SourceStatus](), list[Suite]()
    answered, roots, down = list[Source](), dict[str, AptRoot](), set[str]()
    for source in sources:
        try:
            uri = mirrors.locate([source.archive], vendors)[source.archive]
            root = AptRoot(
                folder=folder / source.archive,
                sources=(source,),
                uris={source.archive: uri},
                architecture=base.architecture,
            )
            root_suites = _update(root)
        except GoldenError as error:
            statuses.append(SourceStatus(name=source.archive, error=error.message))
            down.add(source.archive)
            continue
        suites += root_suites
        answered.append(source)
        roots[source.archive] = root
        for suite in root_suites:
            name = _status_name(source.archive, suite.suite)
            statuses.append(SourceStatus(name=name, changed=iso(suite.date)))
    return Archives(
        _merged(folder, answered, roots, base.architecture),
        roots,
        tuple(statuses),
        tuple(suites),
        frozenset(down),
    )


def _status_name(archive: str, suite: str) -> str:
    if suite.partition(" ")[0] == archive:
        return suite
    return f"{archive} {suite}"


def _update(root: AptRoot) -> list[Suite]:
    with root.locked():
        # apt keeps the newer of two Release files: with yesterday's at hand, a mirror that serves
        # an older one would go unnoticed.
        shutil.rmtree(root.folder / "lists", ignore_errors=True)
        root.configure()
        root.update()
        return [Suite(**entry) for entry in root.releases()]


def _merged(
    folder: Path, sources: Sequence[Source], roots: Mapping[str, AptRoot], architecture: str
) -> AptRoot:
    """Return one root with the indexes of all archives that answered."""
    uris = {archive: root.uris[archive] for archive, root in roots.items()}
    root = AptRoot(
        folder=folder / "all", sources=tuple(sources), uris=uris, architecture=architecture
    )
    with root.locked():
        shutil.rmtree(root.folder / "lists", ignore_errors=True)
        shutil.rmtree(root.folder / "cache", ignore_errors=True)
        for archive_root in roots.values():
            for key in archive_root.folder.glob("*.asc"):
                (folder / "all" / key.name).unlink(missing_ok=True)
                (folder / "all" / key.name).hardlink_to(key)
        root.configure()
        for archive_root in roots.values():
            # apt names an index by its URI, so it stays valid in another folder.
            for path in (archive_root.folder / "lists").glob("*_*"):
                (root.folder / "lists" / path.name).hardlink_to(path)
    return root


ReleasedOn = Callable[[str, str], date | None]
"""Looks up the day on which an archive got a version of a package; None if its server does not
say."""


def released_on(apt: AptRoot, rule: UpdateRule) -> ReleasedOn:
    """Return the lookup of release days for `rule`; it is always None if the rule wants no minimum
    age."""

    def release_day(name: str, version: str) -> date | None:
        if not rule.minimum_age_days:
            return None
        # An index has no dates, but mirrors keep the time of the file.
        deb = apt.file(name, version)
        if deb.archive not in apt.uris:
            return None
        return http_documents.changed(f"{apt.addresses[deb.archive]}/{deb.path}")

    return release_day


def distrusted(lock: Lock, archives: Archives) -> list[SourceStatus]:
    """Return the archives that contradict the lock, or one row with the error if they cannot be
    compared."""
    statuses = list[SourceStatus]()
    try:
        for check in (_older_suites, _emptied_or_older, _disagreements):
            for name, error in check(lock, archives):
                statuses.append(SourceStatus(name=name, error=error))
    except GoldenError as error:
        return [SourceStatus(name=f"archives of {lock.image}", error=error.message)]
    return statuses


def _older_suites(lock: Lock, archives: Archives) -> Iterator[tuple[str, str]]:
    for regression in regressions(lock, archives.suites):
        yield f"suite {regression.suite}", regression.error


def _emptied_or_older(lock: Lock, archives: Archives) -> Iterator[tuple[str, str]]:
    """Yield archives that are empty, which apt calls a success, or that have only older versions
    than the lock."""
    for archive, root in archives.roots.items():
        names = [name for name, package in lock.packages.items() if package.origin == archive]
        entries = root.entries(names)
        if names and not entries:
            yield (
                archive,
                (
                    f"is empty: it has none of the {len(names)} packages that the lock of "
                    f"{lock.image} took from it"
                ),
            )
        newest_entries = archives.apt.entries(sorted(entries))
        for name, (newest, *_) in sorted(newest_entries.items()):
            locked = lock.packages[name].version
            if Version(newest.version) < Version(locked):
                yield archive, f"goes backwards: {name} {locked} -> {newest.version}"
                break


def _disagreements(lock: Lock, archives: Archives) -> Iterator[tuple[str, str]]:
    names = [name for name, package in lock.packages.items() if package.origin not in LOOSE]
    for archive, root in archives.roots.items():
        digests = root.digests(names)
        for name in names:
            locked = lock.packages[name]
            served_sha256 = digests.get((name, locked.version), locked.sha256)
            if served_sha256 != locked.sha256:
                yield (
                    archive,
                    (
                        f"disagrees about {name} {locked.version}: SHA-256 {served_sha256[:12]}, "
                        f"locked from {locked.origin} {locked.sha256[:12]}"
                    ),
                )
