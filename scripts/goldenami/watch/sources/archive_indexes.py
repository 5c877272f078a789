"""The apt archives of an image, each looked at by itself: apt checks signature, expiry, digests and sizes.

Indexes are fetched anew each time. apt keeps the newer of two Release files, so that with yesterday's at hand a mirror
that serves an older one would go unseen.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from goldenami.core.cache_paths import CachePaths
from goldenami.core.errors import GoldenError
from goldenami.core.records import sha256_text
from goldenami.model.definition import Base
from goldenami.model.lockfile import Lock, Suite
from goldenami.model.release_dates import iso, regressions
from goldenami.packages import http_documents, mirrors
from goldenami.packages.apt import AptRoot
from goldenami.packages.mirrors import Source
from goldenami.watch.watch_records import SourceStatus as Seen


@dataclass(frozen=True)
class Archives:
    """The archives of one base: `apt` knows those that answered, `down` are the names of those that did not.

    `each` is one root for each archive that answered, by its name.
    """

    apt: AptRoot
    each: Mapping[str, AptRoot]
    seen: tuple[Seen, ...]
    suites: tuple[Suite, ...]
    down: frozenset[str]


def look(base: Base, cache: CachePaths, *, nvidia: bool) -> Archives:
    """Ask each archive of `base` for its indexes; `cache` holds them."""
    sources = mirrors.sources(base.distribution, base.release, backports=base.backports, nvidia=nvidia)
    top = cache.watch / sha256_text(repr((base, sources)))[:16]
    seen, suites, good, each = list[Seen](), list[Suite](), list[Source](), dict[str, AptRoot]()
    for source in sources:
        try:
            uri = mirrors.locate([source.archive])[source.archive]
            root = AptRoot(folder=top / source.archive, sources=(source,), uris={source.archive: uri},
                           architecture=base.architecture)
            found = _update(root)
        except GoldenError as error:
            seen.append(Seen(name=source.archive, error=error.message))
            continue
        suites += found
        good.append(source)
        each[source.archive] = root
        seen += [Seen(name=f"{source.archive} {suite.suite}", changed=iso(suite.date)) for suite in found]
    down = frozenset(source.archive for source in sources if source not in good)
    return Archives(_together(top, good, each, base.architecture), each, tuple(seen), tuple(suites), down)


def _update(root: AptRoot) -> list[Suite]:
    with root.locked():
        shutil.rmtree(root.folder / "lists", ignore_errors=True)
        root.configure()
        root.update()
        return [Suite(**entry) for entry in root.releases()]


def _together(top: Path, sources: Sequence[Source], each: Mapping[str, AptRoot], architecture: str) -> AptRoot:
    """One root over the indexes that were fetched: apt names them by their URI, so they only change folders."""
    uris = {archive: root.uris[archive] for archive, root in each.items()}
    root = AptRoot(folder=top / "all", sources=tuple(sources), uris=uris, architecture=architecture)
    with root.locked():
        shutil.rmtree(root.folder / "lists", ignore_errors=True)
        shutil.rmtree(root.folder / "cache", ignore_errors=True)
        root.configure()
        for one in each.values():
            for path in (one.folder / "lists").glob("*_*"):
                (root.folder / "lists" / path.name).hardlink_to(path)
    return root


Age = Callable[[str, str], date | None]
"""The day on which an archive got a version of a package, if its server says so."""


def ager(apt: AptRoot) -> Age:
    """An index has no dates, so the file's own is asked for: mirrors keep it."""

    def age(name: str, version: str) -> date | None:
        deb = apt.file(name, version)
        return http_documents.changed(f"{apt.uris[deb.archive]}/{deb.path}") if deb.archive in apt.uris else None

    return age


def regressed(lock: Lock, archives: Archives) -> list[Seen]:
    """Suites that are older than the lock's."""
    return [Seen(name=f"suite {found.suite}", changed=found.now, error=found.error)
            for found in regressions(lock, archives.suites)]


def disagreements(lock: Lock, archives: Archives) -> list[Seen]:
    """Files that the lock and the indexes, or two indexes, state different digests of: one version is one file."""
    names = [name for name, package in lock.packages.items() if package.origin != "built"]
    found = []
    for archive, root in archives.each.items():
        digests = root.digests(names)
        for name in names:
            locked = lock.packages[name]
            if digests.get((name, locked.version), locked.sha256) != locked.sha256:
                found.append(Seen(name=archive, error=f"disagrees about {name} {locked.version}: SHA-256 "
                                                      f"{digests[name, locked.version][:12]}, locked from "
                                                      f"{locked.origin} {locked.sha256[:12]}"))
    return found
