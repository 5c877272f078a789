"""The apt archives of an image, each looked at by itself: apt checks signature, expiry, digests and sizes.

Indexes are fetched anew each time. apt keeps the newer of two Release files, so that with yesterday's at hand a mirror
that serves an older one would go unseen.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from email.utils import parsedate_to_datetime
from pathlib import Path

from goldenami import mirror, web
from goldenami.apt import AptRoot
from goldenami.definition import Base
from goldenami.errors import GoldenError, Unreachable
from goldenami.lockfile import Lock, Suite
from goldenami.mirror import Source
from goldenami.records import sha256_text
from goldenami.watch_records import Source as Seen


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


def look(base: Base, cache: Path, *, nvidia: bool) -> Archives:
    """Ask each archive of `base` for its indexes; `cache` holds them."""
    sources = mirror.sources(base.distribution, base.release, backports=base.backports, nvidia=nvidia)
    top = cache / "watch" / sha256_text(repr((base, sources)))[:16]
    seen, suites, good, each = list[Seen](), list[Suite](), list[Source](), dict[str, AptRoot]()
    for source in sources:
        try:
            uri = mirror.locate([source.archive])[source.archive]
            root = AptRoot(folder=top / source.archive, sources=(source,), uris={source.archive: uri},
                           architecture=base.architecture)
            found = _update(root)
        except GoldenError as error:
            seen.append(Seen(name=source.archive, error=error.message))
            continue
        suites += found
        good.append(source)
        each[source.archive] = root
        seen += [Seen(name=f"{source.archive} {suite.suite}", changed=_iso(suite.date)) for suite in found]
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


def _iso(text: str) -> str:
    return parsedate_to_datetime(text).strftime("%Y-%m-%dT%H:%M:%SZ")


Age = Callable[[str, str], date | None]
"""The day on which an archive got a version of a package, if its server says so."""


def ager(apt: AptRoot) -> Age:
    """An index has no dates, so the file's own is asked for: mirrors keep it."""

    def age(name: str, version: str) -> date | None:
        deb = apt.file(name, version)
        return web.changed(f"{apt.uris[deb.archive]}/{deb.path}") if deb.archive in apt.uris else None

    return age


def backwards(lock: Lock, suites: Sequence[Suite]) -> list[Seen]:
    """Those of `suites` whose signed Release file is older than the one that the lock was made from."""
    found = []
    for name in sorted({suite.suite for suite in suites} & {suite.suite for suite in lock.base.suites}):
        now = max((suite.date for suite in suites if suite.suite == name), key=_moment)
        then = max((suite.date for suite in lock.base.suites if suite.suite == name), key=_moment)
        if _moment(now) < _moment(then):
            found.append(Seen(name=f"suite {name}", changed=_iso(now),
                              error=f"goes backwards: its Release file is of {_iso(now)}, the lock of {lock.image} was "
                                    f"made from one of {_iso(then)}"))
    return found


def demand_progress(lock: Lock, suites: Sequence[Suite]) -> None:
    """Unreachable where one of `suites` goes backwards: nothing is locked from less than the lock was made from."""
    for found in backwards(lock, suites):
        raise Unreachable(f"{found.name} {found.error}", hint="a stale mirror: use another, or wait; the lock stays")


def _moment(text: str) -> float:
    return parsedate_to_datetime(text).timestamp()


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
