"""The apt archives of an image, each looked at by itself: apt checks signature, expiry, digests and
sizes.

Indexes are fetched anew each time: apt keeps the newer of two Release files, so that with
yesterday's at hand a mirror that serves an older one would go unseen.
"""

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
    """The archives of one base: `apt` has those that answered, `down` names the others."""

    apt: AptRoot
    roots: Mapping[str, AptRoot]
    statuses: tuple[SourceStatus, ...]
    suites: tuple[Suite, ...]
    down: frozenset[str]


def look(base: Base, cache: CachePaths, vendors: Sequence[VendorArchive] = ()) -> Archives:
    """Ask each archive of `base`, and those of `vendors`, for its indexes; `cache` holds them."""
    sources = mirrors.sources(
        base.distribution, base.release, backports=base.backports, vendors=vendors
    )
    folder = cache.watch / sha256_text(repr((base, sources)))[:16]
    statuses, suites = list[SourceStatus](), list[Suite]()
    answered, roots = list[Source](), dict[str, AptRoot]()
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
            continue
        suites += root_suites
        answered.append(source)
        roots[source.archive] = root
        statuses += [
            SourceStatus(name=_status_name(source.archive, suite.suite), changed=iso(suite.date))
            for suite in root_suites
        ]
    down = frozenset(source.archive for source in sources if source not in answered)
    return Archives(
        _merged(folder, answered, roots, base.architecture),
        roots,
        tuple(statuses),
        tuple(suites),
        down,
    )


def _status_name(archive: str, suite: str) -> str:
    return suite if suite.partition(" ")[0] == archive else f"{archive} {suite}"


def _update(root: AptRoot) -> list[Suite]:
    with root.locked():
        shutil.rmtree(root.folder / "lists", ignore_errors=True)
        root.configure()
        root.update()
        return [Suite(**entry) for entry in root.releases()]


def _merged(
    folder: Path, sources: Sequence[Source], roots: Mapping[str, AptRoot], architecture: str
) -> AptRoot:
    """apt names indexes by their URI, so they only change folders."""
    uris = {archive: root.uris[archive] for archive, root in roots.items()}
    root = AptRoot(
        folder=folder / "all", sources=tuple(sources), uris=uris, architecture=architecture
    )
    with root.locked():
        shutil.rmtree(root.folder / "lists", ignore_errors=True)
        shutil.rmtree(root.folder / "cache", ignore_errors=True)
        for key in (
            key for archive_root in roots.values() for key in archive_root.folder.glob("*.asc")
        ):
            (folder / "all" / key.name).unlink(missing_ok=True)
            (folder / "all" / key.name).hardlink_to(key)
        root.configure()
        for archive_root in roots.values():
            for path in (archive_root.folder / "lists").glob("*_*"):
                (root.folder / "lists" / path.name).hardlink_to(path)
    return root


ReleasedOn = Callable[[str, str], date | None]
"""The day on which an archive got a version of a package, if its server says so."""


def released_on(apt: AptRoot, rule: UpdateRule) -> ReleasedOn:
    """An index has no dates, so the file's own is asked for, where the rule wants an age: mirrors
    keep it."""

    def age(name: str, version: str) -> date | None:
        if not rule.minimum_age_days:
            return None
        deb = apt.file(name, version)
        if deb.archive not in apt.uris:
            return None
        return http_documents.changed(f"{apt.addresses[deb.archive]}/{deb.path}")

    return age


def distrusted(lock: Lock, archives: Archives) -> list[SourceStatus]:
    """Archives that contradict the lock; one that can't even be asked is among them."""
    try:
        return [
            SourceStatus(name=name, error=error)
            for find in (_regressed, _backwards, _disagreements)
            for name, error in find(lock, archives)
        ]
    except GoldenError as error:
        return [SourceStatus(name=f"archives of {lock.image}", error=error.message)]


def _regressed(lock: Lock, archives: Archives) -> Iterator[tuple[str, str]]:
    for found in regressions(lock, archives.suites):
        yield f"suite {found.suite}", found.error


def _backwards(lock: Lock, archives: Archives) -> Iterator[tuple[str, str]]:
    """Archives that answer and have nothing more of what the lock took, which apt calls a
    success; or only an older version of a package."""
    for archive, root in archives.roots.items():
        names = [name for name, package in lock.packages.items() if package.origin == archive]
        found = root.entries(names)
        if names and not found:
            yield (
                archive,
                (
                    f"is empty: it has none of the {len(names)} packages that the lock of "
                    f"{lock.image} took from it"
                ),
            )
        anywhere = archives.apt.entries(sorted(found))
        for name, (newest, *_) in sorted(anywhere.items()):
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
            served = digests.get((name, locked.version), locked.sha256)
            if served != locked.sha256:
                yield (
                    archive,
                    (
                        f"disagrees about {name} {locked.version}: SHA-256 {served[:12]}, "
                        f"locked from {locked.origin} {locked.sha256[:12]}"
                    ),
                )
