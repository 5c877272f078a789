"""The apt archives of an image, each looked at by itself: apt checks signature, expiry, digests and
sizes.

Indexes are fetched anew unless the mirror's signed lists of them are, byte for byte, those of the
last look. apt keeps the newer of two Release files, so that with yesterday's at hand a mirror that
serves an older one would go unseen.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from goldenami.core.cache_paths import CachePaths
from goldenami.core.errors import GoldenError
from goldenami.core.records import sha256_file, sha256_text
from goldenami.model.builds.lockfile import Lock, Suite
from goldenami.model.definitions.definition import Base
from goldenami.model.supported.release_dates import iso, regressions
from goldenami.packages import http_documents, mirrors
from goldenami.packages.apt import AptRoot
from goldenami.packages.mirrors import Source, VendorArchive
from goldenami.watch.watch_records import SourceStatus


@dataclass(frozen=True)
class Archives:
    """The archives of one base: `apt` knows those that answered, `down` are the names of those that
    did not.

    `each` is one root for each archive that answered, by its name.
    """

    apt: AptRoot
    roots: Mapping[str, AptRoot]
    statuses: tuple[SourceStatus, ...]
    suites: tuple[Suite, ...]
    down: frozenset[str]


def look(base: Base, cache: CachePaths, vendors: Sequence[VendorArchive] = ()) -> Archives:
    """Ask each archive of `base`, and those of `vendors`, for its indexes; `cache` holds them."""
    sources = mirrors.sources(base.distribution, base.release, backports=base.backports,
                              vendors=vendors)
    folder = cache.watch / sha256_text(repr((base, sources)))[:16]
    statuses, suites = list[SourceStatus](), list[Suite]()
    answered, roots = list[Source](), dict[str, AptRoot]()
    for source in sources:
        try:
            uri = mirrors.locate([source.archive], vendors)[source.archive]
            root = AptRoot(folder=folder / source.archive, sources=(source,),
                           uris={source.archive: uri},
                           architecture=base.architecture)
            root_suites = _update(root)
        except GoldenError as error:
            statuses.append(SourceStatus(name=source.archive, error=error.message))
            continue
        suites += root_suites
        answered.append(source)
        roots[source.archive] = root
        statuses += [SourceStatus(name=f"{source.archive} {suite.suite}", changed=iso(suite.date))
                     for suite in root_suites]
    down = frozenset(source.archive for source in sources if source not in answered)
    return Archives(_merged(folder, answered, roots, base.architecture), roots, tuple(statuses),
                    tuple(suites), down)


def _update(root: AptRoot) -> list[Suite]:
    with root.locked():
        if not _is_unchanged(root):
            shutil.rmtree(root.folder / "lists", ignore_errors=True)
        root.configure()
        root.update()  # checks signature and expiry of what is there already, too
        return [Suite(**entry) for entry in root.releases()]


def _is_unchanged(root: AptRoot) -> bool:
    """Whether the mirror serves just the signed lists that are here; where it has none in one file,
    they changed."""
    served = list[str]()
    for source in root.sources:
        for suite in source.suites:
            where = (
                root.uris[source.archive]
                if source.flat
                else f"{root.uris[source.archive]}/dists/{suite}"
            )
            try:
                served.append(http_documents.read(f"{where}/InRelease").sha256)
            except GoldenError:
                return False
    return sorted(served) == sorted(sha256_file(path)
                                    for path in (root.folder / "lists").glob("*InRelease"))


def _merged(
    folder: Path, sources: Sequence[Source], roots: Mapping[str, AptRoot], architecture: str
) -> AptRoot:
    """One root over the indexes that were fetched: apt names them by their URI, so they only change
    folders."""
    uris = {archive: root.uris[archive] for archive, root in roots.items()}
    root = AptRoot(folder=folder / "all", sources=tuple(sources), uris=uris,
                   architecture=architecture)
    with root.locked():
        shutil.rmtree(root.folder / "lists", ignore_errors=True)
        shutil.rmtree(root.folder / "cache", ignore_errors=True)
        for key in (key for archive_root in roots.values()
                    for key in archive_root.folder.glob("*.asc")):
            (folder / "all" / key.name).unlink(missing_ok=True)
            (folder / "all" / key.name).hardlink_to(key)
        root.configure()
        for archive_root in roots.values():
            for path in (archive_root.folder / "lists").glob("*_*"):
                (root.folder / "lists" / path.name).hardlink_to(path)
    return root


ReleasedOn = Callable[[str, str], date | None]
"""The day on which an archive got a version of a package, if its server says so."""


def released_on(apt: AptRoot) -> ReleasedOn:
    """An index has no dates, so the file's own is asked for: mirrors keep it."""

    def age(name: str, version: str) -> date | None:
        deb = apt.file(name, version)
        return (
            http_documents.changed(f"{apt.uris[deb.archive]}/{deb.path}")
            if deb.archive in apt.uris
            else None
        )

    return age


def regressed(lock: Lock, archives: Archives) -> list[SourceStatus]:
    """Suites that are older than the lock's."""
    return [SourceStatus(name=f"suite {regression.suite}", changed=regression.now,
                         error=regression.error)
            for regression in regressions(lock, archives.suites)]


def disagreements(lock: Lock, archives: Archives) -> list[SourceStatus]:
    """Files that the lock and the indexes, or two indexes, state different digests of: one version
    is one file."""
    names = [name for name, package in lock.packages.items() if package.origin != "built"]
    statuses = []
    for archive, root in archives.roots.items():
        digests = root.digests(names)
        for name in names:
            locked = lock.packages[name]
            if digests.get((name, locked.version), locked.sha256) != locked.sha256:
                statuses.append(SourceStatus(name=archive,
                                             error=f"disagrees about {name} {locked.version}: "
                                                   "SHA-256 "
                                                         f"{digests[name, locked.version][:12]}, "
                                                         "locked from "
                                                         f"{locked.origin} {locked.sha256[:12]}"))
    return statuses
