"""Which known vulnerabilities a build has, and whether it may be published with them.

It asks of the build's records, or of its lock, and of public lists alone, so it is run each day
on what is long published. What a newer version in the image's own archives mends fails; what
nothing mends fails where it is used in attacks, or rated `fail_on` or worse. A list that could
not be used makes the outcome `unreachable`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from packageurl import PackageURL

from goldenami.core import clock, records
from goldenami.core.errors import GoldenError, NotVerified, Unreachable
from goldenami.image.cve import debian_tracker, feeds, nvidia_bulletins, osv, vex
from goldenami.image.cve.feeds import FeedPlaces, Parser
from goldenami.image.cve.waivers import Waivers
from goldenami.image.sbom import components
from goldenami.image.sbom.components import ImagePart, Materials
from goldenami.model.builds.build_folder import BuildFolder, ImageFolder
from goldenami.model.builds.build_records import Outcome
from goldenami.model.builds.security_records import (
    CVE_FILE,
    CveRecord,
    Feed,
    FeedStatus,
    Vulnerability,
)
from goldenami.model.locked.lockfile import Lock
from goldenami.model.supported import compatibility
from goldenami.model.supported.platforms import RELEASES
from goldenami.model.supported.scales import Rating
from goldenami.packages.store import Store

VEX_FILE = "cve.vex.json"
SHOWN = 12
"""Findings in an error; all of them are in the record."""


@dataclass(frozen=True)
class Subject:
    """The build that is looked at, be it baked here or not, and what lets its findings pass."""

    build: BuildFolder
    lock: Lock
    waivers: Waivers
    fail_on: Rating


def run(subject: Subject, store: Store, wanted: FeedPlaces) -> CveRecord:
    """Read the lists, judge, write cve.json and cve.vex.json. BadInput for a waiver of nothing."""
    build, image = subject.build, subject.lock.image
    materials = (
        components.of_build(build, subject.lock, store)
        if build.is_baked
        else components.of_lock(subject.lock, store)
    )
    before, statuses, found = _before(build.image), list[FeedStatus](), list[Vulnerability]()
    status, exploited = feeds.read(Feed.KEV, wanted, before.get(Feed.KEV), feeds.exploited)
    statuses.append(status)
    for feed, parse in _parsers(materials).items():
        status, seen = feeds.read(feed, wanted, before.get(feed), parse)
        statuses.append(status)
        found += seen or []
    found = [
        _judged(one, exploited or frozenset(), subject.fail_on)
        for one in [*found, *_ended(subject.lock, found), *_unlisted(materials)]
    ]
    complete = not any(status.error for status in statuses)
    found = subject.waivers.apply(image, found, complete=complete)
    found.sort(key=lambda one: (not one.stops, one.part, one.id))
    stops, today = any(one.stops for one in found), clock.now()
    record = CveRecord(
        image=image,
        build_id=build.build_id,
        lock_sha256=materials.lock_sha256,
        checked_at=clock.stamp(today),
        fail_on=subject.fail_on,
        feeds=statuses,
        findings=found,
        warnings=subject.waivers.warnings(image, today.date()),
        outcome=_outcome(statuses, stops=stops),
    )
    records.write(build.path / CVE_FILE, record)
    waived = {row.id: row for row in subject.waivers.of(image).values()}
    records.write_text(
        build.path / VEX_FILE, records.canonical(vex.document(record, materials, waived))
    )
    return record


def _outcome(statuses: Sequence[FeedStatus], *, stops: bool) -> Outcome:
    if stops and _compared(statuses):
        return Outcome.INCORRECT
    return Outcome.UNREACHABLE if any(status.error for status in statuses) else Outcome.CORRECT


def _compared(statuses: Sequence[FeedStatus]) -> bool:
    """Whether some list was held against the build's parts: CISA's only rates what others find."""
    return any(not status.error for status in statuses if status.feed is not Feed.KEV)


def _before(image: ImageFolder) -> dict[Feed, FeedStatus]:
    paths = [build.path / CVE_FILE for build in image.builds if (build.path / CVE_FILE).exists()]
    found = [record for path in paths if (record := records.read_if_whole(path, CveRecord))]
    newest = max(found, key=lambda record: record.checked_at, default=None)
    return {status.feed: status for status in newest.feeds} if newest else {}


def _parsers(materials: Materials) -> dict[Feed, Parser]:
    lock, found = materials.lock, dict[Feed, Parser]()
    by_version = _sources(materials, "debian", inside=False)
    debian = {
        codename: by_version[release.version]
        for codename, release in RELEASES.items()
        if release.distribution == "Debian" and release.version in by_version
    }
    if debian:
        found[Feed.DEBIAN] = lambda data: debian_tracker.parse(data, debian)
    # The host's boot loader is no reason to read the list of another distribution.
    ubuntu = {
        osv.ubuntu(release): versions
        for release, versions in _sources(
            materials, "ubuntu", inside=lock.base.distribution != "ubuntu"
        ).items()
    }
    if ubuntu:
        found[Feed.UBUNTU] = lambda data: osv.parse(data, Feed.UBUNTU, ubuntu)
    alpine = {
        osv.alpine(release): versions
        for release, versions in _sources(materials, "alpine", inside=True).items()
    }
    if alpine:
        found[Feed.ALPINE] = lambda data: osv.parse(data, Feed.ALPINE, alpine)
    wheels = _versions(
        {(part.name, part.version) for part in materials.parts if part.vendor == "pypi"}
    )
    if wheels:
        found[Feed.PYPI] = lambda data: osv.parse(data, Feed.PYPI, {osv.PYPI: wheels})
    if driver := lock.driver:
        found[Feed.NVIDIA] = lambda data: nvidia_bulletins.parse(
            data, driver.version, lock.hardware.sm
        )
    return found


def _sources(materials: Materials, vendor: str, *, inside: bool) -> dict[str, dict[str, list[str]]]:
    """Versions of a distribution's source packages by its release, those in containers alone where
    `inside`."""
    found = dict[str, set[tuple[str, str]]]()
    for part in materials.parts:
        if part.source and part.vendor == vendor and (_homes(part) or not inside):
            release = _release(part).removeprefix(f"{vendor}-")
            found.setdefault(release, set()).add((part.source.name, part.source.version))
    return {release: _versions(pairs) for release, pairs in found.items()}


def _release(part: ImagePart) -> str:
    facts = PackageURL.from_string(part.purl).qualifiers
    return str(facts.get("distro", "")) if isinstance(facts, dict) else ""


def _homes(part: ImagePart) -> list[str]:
    return [value for name, value in part.properties if name == components.CONTAINER]


def _unlisted(materials: Materials) -> Iterator[Vulnerability]:
    known = {release.id for release in RELEASES.values()}
    for container in materials.lock.containers:
        parts = [part for part in materials.parts if container.name in _homes(part)]
        others = {_release(part) for part in parts if part.source} - known
        others = {one for one in others if not one.startswith("alpine-")}
        if others or not parts:
            what = " and ".join(sorted(others)) or "what it holds: it has no record of packages"
            yield Vulnerability(
                id=f"no-list {container.name}",
                feed=Feed.NONE,
                part=container.name,
                version=container.manifest.sha256[:12],
                rating=Rating.HIGH,
                detail=f"no list knows {what}",
            )


def _versions(pairs: set[tuple[str, str]]) -> dict[str, list[str]]:
    found = dict[str, list[str]]()
    for name, version in sorted(pairs):
        found.setdefault(name, []).append(version)
    return found


def _ended(lock: Lock, found: list[Vulnerability]) -> list[Vulnerability]:
    if not lock.driver or any(one.id == f"driver-branch-{lock.driver.branch}" for one in found):
        return []
    branch, today = lock.driver.branch, clock.now().date().isoformat()
    end = compatibility.BRANCH_END.get(branch)
    if branch not in compatibility.ENDED_BRANCHES and (end is None or today <= end):
        return []
    living = {one for one, last in compatibility.BRANCH_END.items() if last >= today}
    why = f"ended on {end}" if end else "has ended, NVIDIA says"
    return [
        nvidia_bulletins.ended(
            lock.driver.version, nvidia_bulletins.successors(branch, living, lock.hardware.sm), why
        )
    ]


def _judged(one: Vulnerability, exploited: frozenset[str], fail_on: Rating) -> Vulnerability:
    known = one.id in exploited
    mended = bool(one.fix) and one.feed is not Feed.NVIDIA
    return one.model_copy(
        update={"exploited": known, "fails": mended or known or one.rating.at_least(fail_on)}
    )


def summary(record: CveRecord) -> str:
    """`31 known, 2 stop the build, 1 waived; 250000 entries of debian, ...`."""
    waived = sum(bool(one.waived) for one in record.findings)
    stops = sum(one.stops for one in record.findings)
    lists = ", ".join(
        f"{status.feed.value} " + ("not read" if status.error else f"{status.entries} entries")
        for status in record.feeds
    )
    known = (
        f"{len(record.findings)} known, {stops} stop the build, {waived} waived"
        if _compared(record.feeds) or record.findings
        else "nothing was compared"
    )
    return f"{known}; lists: {lists}"


def worst(errors: Sequence[GoldenError]) -> GoldenError:
    """One error for several images: what is known of one outranks what is not known of another."""
    known = [error for error in errors if isinstance(error, NotVerified)]
    first, *others = known + [error for error in errors if error not in known]
    first.tail = "\n".join([first.tail, *(error.message for error in others)]).strip()
    return first


def failure(record: CveRecord, path: Path) -> GoldenError | None:
    """The error of a build that must not be published, or of lists that could not be used."""
    stops = [one for one in record.findings if one.stops]
    lines = [
        f"{one.id}  {one.part} {one.version}: "
        + (f"mended by {one.fix}" if one.fix else one.detail or "nothing mends it")
        + (", used in attacks" if one.exploited else "")
        for one in stops[:SHOWN]
    ]
    if record.outcome is Outcome.INCORRECT:
        return NotVerified(
            f"{record.image} {record.build_id} has {len(stops)} vulnerabilities that stop it",
            tail="\n".join(lines),
            log=path,
            hint="a new lock takes what is mended; packer/waivers.yml is for what was looked at",
        )
    lost = {
        status.feed.value: status.error.removeprefix(f"{status.address}: ")
        for status in record.feeds
        if status.error
    }
    nothing = "" if _compared(record.feeds) else "nothing was compared, "
    return (
        Unreachable(
            f"{record.image}: {nothing}not all lists could be used: {', '.join(lost)}",
            tail="\n".join([*lines, *map(": ".join, lost.items())]),
            log=path,
            hint="`--data NAME=FILE` takes one from a file; without all of them nothing is known",
        )
        if lost
        else None
    )
