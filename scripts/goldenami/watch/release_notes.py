"""What a new lock moves, for a person who has to agree to it: versions, changelogs, advisories and
sizes.

Changelogs come from the packages themselves, in the store: what stands between the locked and the
new version.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from debian.changelog import ChangeBlock, Changelog
from debian.debfile import DebError, DebFile
from debian.debian_support import Version

from goldenami.model.builds import lockfile
from goldenami.model.builds.lockfile import Lock, Package
from goldenami.packages import package_diff
from goldenami.packages.store import Store
from goldenami.watch.watch_records import ChangelogEntry, LockChange, SourcePackageChange

ADVISORY = re.compile(r"\b(CVE-\d{4}-\d{4,7}|(?:DSA|DLA|USN)-\d{1,5}(?:-\d+)?)\b")
"""Names of vulnerabilities (CVE) and of Debian's and Ubuntu's advisories."""
READABLE = 64 << 20
"""Bytes of a package up to which its changelog is read: it means decompressing what stands before
it."""


@dataclass(frozen=True)
class _Group:
    """Packages of one source that moved from one version to another; `gone` are those that they
    came in place of."""

    source: str
    before: str
    after: str
    names: list[str]
    gone: tuple[str, ...] = ()


def compare(
    before: Lock, before_sha256: str, after: Lock, after_sha256: str, store: Store
) -> LockChange:
    """The change from one lock of an image to another."""
    old, new = before.model_dump(mode="json")["packages"], after.model_dump(mode="json")["packages"]
    diff = package_diff.compare(old, new)
    renamed = _renamed(before, after, diff)
    groups = sorted([*_groups(after, diff.changed), *renamed],
                    key=lambda group: (group.source, group.before))
    paired = {name for group in renamed for name in (*group.names, *group.gone)}
    return LockChange(
        image=after.image, build_before=before_sha256[:lockfile.ID_LENGTH],
        build_after=after_sha256[:lockfile.ID_LENGTH],
        kernel=_pair(before.kernel.release, after.kernel.release),
        driver=_pair(before.driver.version if before.driver else "",
                     after.driver.version if after.driver else ""),
        moved=[_moved(group, before, after, store) for group in groups],
        added=[f"{one.name} {one.version}" for one in diff.added if one.name not in paired],
        removed=[f"{one.name} {one.version}" for one in diff.removed if one.name not in paired],
        installed_bytes=diff.installed_bytes,
        download_bytes=sum(one.size for one in after.packages.values())
        - sum(one.size for one in before.packages.values()),
    )


def _pair(before: str, after: str) -> list[str]:
    return [] if before == after else [before, after]


def _groups(after: Lock, changed: Iterable[package_diff.Change]) -> list[_Group]:
    found: dict[tuple[str, str, str], list[str]] = {}
    for change in changed:
        found.setdefault(
            (after.packages[change.name].source, change.before, change.after), []
        ).append(change.name)
    return [_Group(*key, names) for key, names in sorted(found.items())]


def _renamed(before: Lock, after: Lock, diff: package_diff.PackageDiff) -> list[_Group]:
    """Sources whose packages have other names with each version, as a kernel's, whose name has its
    ABI."""
    come, gone = dict[str, list[str]](), dict[str, list[str]]()
    for found, lock, presences in ((come, after, diff.added), (gone, before, diff.removed)):
        for one in presences:
            found.setdefault(lock.packages[one.name].source, []).append(one.name)
    groups = [_Group(source,
                     max((before.packages[name].version for name in gone[source]), key=Version),
                     max((after.packages[name].version for name in come[source]), key=Version),
                     come[source],
                     tuple(gone[source])) for source in come.keys() & gone.keys()]
    return [group for group in groups if Version(group.before) < Version(group.after)]


def _moved(group: _Group, before: Lock, after: Lock, store: Store) -> SourcePackageChange:
    candidates = sorted((after.packages[name] for name in group.names),
                        key=lambda package: package.size)
    candidates += sorted((package for package in after.packages.values() if package.source
                          == group.source
                          and package.version == group.after and package not in candidates),
                         key=lambda package: package.size)
    entries = next((found for package in candidates
                    if (found := _entries(package, group.before, store))), [])
    named = {name for entry in entries for name in ADVISORY.findall(entry.text)}
    return SourcePackageChange(source=group.source, packages=group.names, before=group.before,
                               after=group.after,
                               entries=entries,
                               advisories=sorted(named))


def _entries(package: Package, before: str, store: Store) -> list[ChangelogEntry]:
    """The changelog of `package` above the version `before`, newest first; none where the package
    has no changelog."""
    path = store.path(package.sha256)
    if package.origin == "built" or package.size > READABLE or not path.is_file():
        return []
    try:
        with DebFile(path) as deb:
            log = deb.changelog()
    except (DebError, KeyError, OSError, ValueError):
        return []  # a link to another package's documentation, or an archive without any
    return between(log, before, package.version) if log is not None else []


def between(log: Changelog, before: str, after: str) -> list[ChangelogEntry]:
    """Entries of versions above `before`, up to `after`, in Debian's order.

    A signed kernel's own entry has a version of its own: linux-signed-amd64 6.1.192+2 is linux
    6.1.192-2 signed.
    """
    return [ChangelogEntry(version=str(block.version), date=str(block.date or "").strip(),
                           text="\n".join(block.changes()).strip("\n"))
            for block in log if Version(before) < Version(_unsigned(block)) <= Version(after)]


def _unsigned(block: ChangeBlock) -> str:
    version = str(block.version)
    return (
        version.replace("+", "-", 1) if str(block.package).startswith("linux-signed-") else version
    )
