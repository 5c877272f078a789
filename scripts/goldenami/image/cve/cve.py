"""The known vulnerabilities of a build, and whether it may be published with them.

It reads only the build's records, or its lock, and public lists, so it can run each day on what was
published long ago. A vulnerability fails if a newer version in the image's own archives fixes it.
One without a fix fails if it is used in attacks, or rated `fail_on` or worse. A list that could not
be used makes the outcome `unreachable`.
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
from goldenami.model.supported.compatibility import DriverBranch, DriverTable
from goldenami.model.supported.platforms import RELEASES
from goldenami.model.supported.scales import Rating
from goldenami.packages.store import Store

VEX_FILE = "cve.vex.json"
SHOWN = 12
"""Most findings in an error; the record has all of them."""


@dataclass(frozen=True)
class Subject:
    """The build to check, baked here or not, and the rules that let its findings pass."""

    build: BuildFolder
    lock: Lock
    waivers: Waivers
    fail_on: Rating


def run(subject: Subject, store: Store, feed_places: FeedPlaces) -> CveRecord:
    """Read the lists, judge the findings, write cve.json and cve.vex.json. Raises BadInput for a
    waiver that excuses nothing."""
    build, image = subject.build, subject.lock.image
    drivers = compatibility.load(build.root)
    materials = (
        components.of_build(build, subject.lock, store)
        if build.is_baked
        else components.of_lock(subject.lock, store)
    )
    earlier, statuses, findings = _before(build.image), list[FeedStatus](), list[Vulnerability]()
    # CISA's list comes first: the findings of all others are judged by it.
    status, exploited = feeds.read(Feed.KEV, feed_places, earlier.get(Feed.KEV), feeds.exploited)
    statuses.append(status)
    for feed, parse in _parsers(materials, drivers).items():
        status, feed_findings = feeds.read(feed, feed_places, earlier.get(feed), parse)
        statuses.append(status)
        findings += feed_findings or []
    findings = [
        _judged(finding, exploited or frozenset(), subject.fail_on)
        for finding in [*findings, *_ended(subject.lock, findings, drivers), *_unlisted(materials)]
    ]
    complete = not any(status.error for status in statuses)
    findings = subject.waivers.apply(image, findings, complete=complete)
    findings.sort(key=lambda finding: (not finding.stops, finding.part, finding.id))
    stops, today = any(finding.stops for finding in findings), clock.now()
    record = CveRecord(
        image=image,
        build_id=build.build_id,
        lock_sha256=materials.lock_sha256,
        checked_at=clock.stamp(today),
        fail_on=subject.fail_on,
        feeds=statuses,
        findings=findings,
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
    """Whether any list was compared with the build's parts."""
    # CISA's list only rates what other lists find.
    return any(not status.error for status in statuses if status.feed is not Feed.KEV)


def _before(image: ImageFolder) -> dict[Feed, FeedStatus]:
    """The feeds' statuses in the image's newest record, by feed."""
    paths = [build.path / CVE_FILE for build in image.builds if (build.path / CVE_FILE).exists()]
    cve_records = [record for path in paths if (record := records.read_if_whole(path, CveRecord))]
    newest = max(cve_records, key=lambda record: record.checked_at, default=None)
    return {status.feed: status for status in newest.feeds} if newest else {}


def _parsers(materials: Materials, drivers: DriverTable) -> dict[Feed, Parser]:
    """The feeds that have something to say about `materials`, with their parsers."""
    lock, parsers = materials.lock, dict[Feed, Parser]()
    by_version = _sources(materials, "debian", inside=False)
    debian = {
        codename: by_version[release.version]
        for codename, release in RELEASES.items()
        if release.distribution == "Debian" and release.version in by_version
    }
    if debian:
        parsers[Feed.DEBIAN] = lambda data: debian_tracker.parse(data, debian)
    # In another distribution's image only containers count: the boot loader of an Ubuntu host is no
    # reason to read Ubuntu's list.
    ubuntu = {
        osv.ubuntu(release): versions
        for release, versions in _sources(
            materials, "ubuntu", inside=lock.base.distribution != "ubuntu"
        ).items()
    }
    if ubuntu:
        parsers[Feed.UBUNTU] = lambda data: osv.parse(data, Feed.UBUNTU, ubuntu)
    alpine = {
        osv.alpine(release): versions
        for release, versions in _sources(materials, "alpine", inside=True).items()
    }
    if alpine:
        parsers[Feed.ALPINE] = lambda data: osv.parse(data, Feed.ALPINE, alpine)
    wheels = _versions(
        {(part.name, part.version) for part in materials.parts if part.vendor == "pypi"}
    )
    if wheels:
        parsers[Feed.PYPI] = lambda data: osv.parse(data, Feed.PYPI, {osv.PYPI: wheels})
    if driver := lock.driver:
        parsers[Feed.NVIDIA] = lambda data: nvidia_bulletins.parse(
            data, driver.version, lock.hardware.sm, drivers
        )
    return parsers


def _sources(materials: Materials, vendor: str, *, inside: bool) -> dict[str, dict[str, list[str]]]:
    """Versions of a distribution's source packages by its release; with `inside` only of those in
    containers."""
    by_release = dict[str, set[tuple[str, str]]]()
    for part in materials.parts:
        if part.source and part.vendor == vendor and (_homes(part) or not inside):
            release = _release(part).removeprefix(f"{vendor}-")
            by_release.setdefault(release, set()).add((part.source.name, part.source.version))
    return {release: _versions(pairs) for release, pairs in by_release.items()}


def _release(part: ImagePart) -> str:
    facts = PackageURL.from_string(part.purl).qualifiers
    return str(facts.get("distro", "")) if isinstance(facts, dict) else ""


def _homes(part: ImagePart) -> list[str]:
    """The names of the containers that hold a part."""
    return [value for name, value in part.properties if name == components.CONTAINER]


def _unlisted(materials: Materials) -> Iterator[Vulnerability]:
    """A finding for each container of a distribution that no list covers, or without records of
    packages."""
    listed_releases = {release.id for release in RELEASES.values()}
    for container in materials.lock.containers:
        parts = [part for part in materials.parts if container.name in _homes(part)]
        unlisted = {_release(part) for part in parts if part.source} - listed_releases
        unlisted = {release for release in unlisted if not release.startswith("alpine-")}
        if unlisted or not parts:
            content = (
                " and ".join(sorted(unlisted)) or "what it holds: it has no record of packages"
            )
            yield Vulnerability(
                id=f"no-list {container.name}",
                feed=Feed.NONE,
                part=container.name,
                version=container.manifest.sha256[:12],
                rating=Rating.HIGH,
                detail=f"no list knows {content}",
            )


def _versions(pairs: set[tuple[str, str]]) -> dict[str, list[str]]:
    by_name = dict[str, list[str]]()
    for name, version in sorted(pairs):
        by_name.setdefault(name, []).append(version)
    return by_name


def _ended(lock: Lock, findings: list[Vulnerability], drivers: DriverTable) -> list[Vulnerability]:
    """A list with the finding that the driver's branch has ended; [] if it has not, or the
    bulletins said so already."""
    if not lock.driver or any(
        finding.id == f"driver-branch-{lock.driver.branch}" for finding in findings
    ):
        return []
    branch, today = lock.driver.branch, clock.now().date()
    row = drivers.branches.get(branch, DriverBranch())
    if not row.has_ended(today):
        return []
    living = {
        name for name, row in drivers.branches.items() if row.last_day and row.last_day >= today
    }
    why = f"ended on {row.last_day}" if row.last_day else "has ended, NVIDIA says"
    next_branches = nvidia_bulletins.successors(branch, living, lock.hardware.sm, drivers)
    return [nvidia_bulletins.ended(lock.driver.version, next_branches, why)]


def _judged(finding: Vulnerability, exploited: frozenset[str], fail_on: Rating) -> Vulnerability:
    """`finding` with the marks whether it is used in attacks, and whether it fails the build."""
    is_exploited = finding.id in exploited
    # A fix in NVIDIA's bulletins need not be in the image's archives.
    archives_fix = bool(finding.fix) and finding.feed is not Feed.NVIDIA
    return finding.model_copy(
        update={
            "exploited": is_exploited,
            "fails": archives_fix or is_exploited or finding.rating.at_least(fail_on),
        }
    )


def summary(record: CveRecord) -> str:
    """One line such as `31 known, 2 stop the build, 1 waived; 250000 entries of debian, ...`."""
    waived = sum(bool(finding.waived) for finding in record.findings)
    stops = sum(finding.stops for finding in record.findings)
    lists = ", ".join(
        f"{status.feed.value} " + ("not read" if status.error else f"{status.entries} entries")
        for status in record.feeds
    )
    counts = (
        f"{len(record.findings)} known, {stops} stop the build, {waived} waived"
        if _compared(record.feeds) or record.findings
        else "nothing was compared"
    )
    return f"{counts}; lists: {lists}"


def worst(errors: Sequence[GoldenError]) -> GoldenError:
    """One error for several images. NotVerified comes first: it outranks lists that could not be
    read."""
    stopping = [error for error in errors if isinstance(error, NotVerified)]
    first, *others = stopping + [error for error in errors if error not in stopping]
    first.tail = "\n".join([first.tail, *(error.message for error in others)]).strip()
    return first


def failure(record: CveRecord, path: Path) -> GoldenError | None:
    """The error about a build that must not be published, or about lists that could not be used;
    None if there is neither."""
    stops = [finding for finding in record.findings if finding.stops]
    lines = [
        f"{finding.id}  {finding.part} {finding.version}: "
        + (f"mended by {finding.fix}" if finding.fix else finding.detail or "nothing mends it")
        + (", used in attacks" if finding.exploited else "")
        for finding in stops[:SHOWN]
    ]
    if record.outcome is Outcome.INCORRECT:
        return NotVerified(
            f"{record.image} {record.build_id} has {len(stops)} vulnerabilities that stop it",
            tail="\n".join(lines),
            log=path,
            hint="a new lock takes what is mended; packer/waivers.yml is for what was looked at",
        )
    errors_by_feed = {
        status.feed.value: status.error.removeprefix(f"{status.address}: ")
        for status in record.feeds
        if status.error
    }
    nothing = "" if _compared(record.feeds) else "nothing was compared, "
    return (
        Unreachable(
            f"{record.image}: {nothing}not all lists could be used: {', '.join(errors_by_feed)}",
            tail="\n".join([*lines, *map(": ".join, errors_by_feed.items())]),
            log=path,
            hint="`--data NAME=FILE` takes one from a file; without all of them nothing is known",
        )
        if errors_by_feed
        else None
    )
