"""Compare a lock's kernel, CUDA and other packages with the indexes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path

from debian.debian_support import Version

from goldenami.core import records, units
from goldenami.image.lock.compilation import driver_fit
from goldenami.model.builds.build_folder import ImageFolder
from goldenami.model.builds.security_records import CVE_FILE, CveRecord, Feed, Vulnerability
from goldenami.model.definitions.definition import Definition
from goldenami.model.definitions.update_policy import (
    Judgement,
    LockedVersion,
    UpdateRule,
    UpdateVerdict,
    VersionOffer,
    judge,
)
from goldenami.model.locked import lockfile
from goldenami.model.locked.lockfile import Kernel, Lock, Package
from goldenami.model.supported.compatibility import DriverTable
from goldenami.packages.apt import LOOSE, AptRoot, IndexEntry
from goldenami.watch.sources.archive_indexes import ReleasedOn
from goldenami.watch.sources.source_records import PackageUpdate


class WatchedComponent(StrEnum):
    """The components that a definition's `watch` section can name, besides frameworks."""

    KERNEL = "kernel"
    DRIVER = "driver"
    CUDA = "cuda"
    PACKAGES = "packages"


_SOURCES = (
    (WatchedComponent.KERNEL, re.compile(r"linux(-signed.*|-meta.*|-aws.*|-restricted.*)?")),
    (
        WatchedComponent.DRIVER,
        re.compile(
            r"(nvidia-graphics-drivers|nvidia-open-gpu-kernel-modules|fabric-manager"
            r"|nvidia-fabricmanager|nvidia-persistenced|nvidia-modprobe|nvidia-settings"
            r"|golden-nvidia-modules).*"
        ),
    ),
    (WatchedComponent.CUDA, re.compile(r"nvidia-cuda-toolkit|(cuda|lib(cu|np|nv))[a-z-]*-\d+-\d+")),
)
"""The component of a source package by its name, in Debian, Ubuntu and NVIDIA's repository."""


def component(package: Package) -> WatchedComponent:
    """Return the component that a package of a lock belongs to."""
    for name, pattern in _SOURCES:
        if pattern.fullmatch(package.source):
            return name
    return WatchedComponent.PACKAGES


def from_archives(lock: Lock) -> dict[str, Package]:
    """Return the lock's packages of which an archive may have newer versions: those from archives,
    and the sources of modules other than the driver's."""
    sources = {
        modules.source_package: modules.build[modules.source_package]
        for modules in lock.kernel_modules.values()
    }
    comparable = dict[str, Package]()
    for name, package in (sources | lock.packages).items():
        # Only origins that name an archive have versions to compare with.
        if package.origin not in LOOSE and "://" not in package.origin:
            comparable[name] = package
    return comparable


_FEEDS = (Feed.DEBIAN, Feed.UBUNTU)
"""Vulnerability feeds whose versions are those of the archives."""
_SIGNED = re.compile(r"linux-(signed|meta|aws).*")
"""Source packages of the kernel; the feeds call them `linux`."""
_REBUILT = re.compile(r"\+b\d+$")
"""Suffix of a binary package's version if it was rebuilt from the same source."""


@dataclass(frozen=True)
class KnownVulnerabilities:
    """The known vulnerabilities of one lock that a newer version fixes.

    Not every fix comes from a suite of security updates: a point release brings many. So a version
    that fixes a known vulnerability counts as a security update, wherever it comes from.
    """

    mendable: tuple[Vulnerability, ...] = ()

    def mended(self, source: str, locked: str, available: str) -> list[str]:
        """Return the vulnerabilities of version `locked` of a source package that `available`
        fixes."""
        # Packages whose versions are not their source's never match; others of the source do.
        name = _SIGNED.sub("linux", source)
        before, after = _REBUILT.sub("", locked), _REBUILT.sub("", available)
        mended = set[str]()
        for vulnerability in self.mendable:
            if (vulnerability.part, vulnerability.version) != (name, before):
                continue
            if Version(before) < Version(vulnerability.fix) <= Version(after):
                mended.add(vulnerability.id)
        return sorted(mended)


def known_of(root: Path, image: str, lock_sha256: str) -> KnownVulnerabilities:
    """Return what the newest `golden cve` found in the build of a lock; empty if it was never
    run."""
    path = ImageFolder.of(root, image).build(lock_sha256[: lockfile.ID_LENGTH]).path / CVE_FILE
    if not path.exists():
        return KnownVulnerabilities()
    record = records.read(path, CveRecord)
    if record.lock_sha256 != lock_sha256:
        return KnownVulnerabilities()
    mendable = [finding for finding in record.findings if finding.fix and finding.feed in _FEEDS]
    return KnownVulnerabilities(tuple(mendable))


@dataclass(frozen=True)
class PackageOffers:
    """The versions that archives offer of a lock's packages. A version that fixes a vulnerability
    in `known` is a security update. `released_on` looks up a version's release day."""

    lock: Lock
    apt: AptRoot
    known: KnownVulnerabilities
    released_on: ReleasedOn

    def kernels(self, definition: Definition) -> list[VersionOffer]:
        """Return the kernels that the image could have."""
        kernels = driver_fit.kernels(self.apt, definition.kernel)
        entries = self.apt.entries([kernel.package for kernel in kernels])
        offers = []
        for kernel in kernels:
            kernel_entries = entries[kernel.package]
            entry = next(entry for entry in kernel_entries if entry.version == kernel.version)
            mends = self.known.mended("linux", self.lock.kernel.version, entry.version)
            offers.append(
                VersionOffer(
                    kernel.version,
                    series(kernel.release),
                    entry.place,
                    entry.security or bool(mends),
                    self.released_on(kernel.package, kernel.version),
                    mends=mends,
                )
            )
        return offers

    def judge(
        self, names: list[str], rule: UpdateRule, today: date
    ) -> tuple[list[PackageUpdate], Judgement]:
        """Return the packages of `names` that the rule updates, or else those that it leaves, and
        one verdict on all."""
        entries, preferred = self.apt.entries(names), self.apt.preferred(names)
        locked = from_archives(self.lock)
        judged = list[tuple[PackageUpdate, Judgement]]()
        for name in sorted(preferred.keys() & entries.keys()):
            package = locked[name]
            offers = list(self._newer(name, package, entries[name], preferred[name]))
            judgement = judge(rule, LockedVersion(package.version, ""), offers, today)
            if judgement.verdict is UpdateVerdict.CURRENT:
                continue
            security = {offer.version for offer in offers if offer.security}
            update = PackageUpdate(
                name=name,
                locked=package.version,
                available=judgement.available,
                security=judgement.available in security,
            )
            judged.append((update, judgement))
        return _combined(judged, len(names))

    def _newer(
        self, name: str, package: Package, entries: Sequence[IndexEntry], preferred: str
    ) -> Iterator[VersionOffer]:
        """Yield newer versions, up to the one that apt would choose."""
        for entry in entries:
            if not Version(package.version) < Version(entry.version) <= Version(preferred):
                continue
            mends = self.known.mended(package.source, package.version, entry.version)
            yield VersionOffer(
                entry.version,
                "",
                entry.place,
                entry.security or bool(mends),
                self.released_on(name, entry.version),
                mends=mends,
            )


def kernel(definition: Definition, apt: AptRoot, version: str) -> Kernel:
    """Return the kernel of that version, one of those that `PackageOffers.kernels` offers."""
    return next(
        kernel for kernel in driver_fit.kernels(apt, definition.kernel) if kernel.version == version
    )


def series(release: str) -> str:
    """The series of a kernel: "6.1.0-56-cloud-amd64" -> "6.1"."""
    return ".".join(release.split(".")[:2])


def cuda_offers(
    lock: Lock, apt: AptRoot, released_on: ReleasedOn, drivers: DriverTable
) -> list[VersionOffer]:
    """Return the CUDA releases in the archives; each has a refusal if the locked driver or a
    declared GPU cannot use it."""
    runtimes = apt.names(driver_fit.CUDA_RUNTIME.pattern)
    names = [name for name in runtimes if name in lock.packages or "-" in name]
    newest = dict[str, tuple[str, IndexEntry]]()
    for name, entries in apt.entries(names).items():
        for entry in entries:
            # Entries come newest first, and several packages have the same release.
            newest.setdefault(driver_fit.cuda_release(entry.version), (name, entry))
    driver, offers = "", list[VersionOffer]()
    if lock.driver:
        driver = lock.driver.version
    for version, (name, entry) in newest.items():
        offer = VersionOffer(
            version,
            version.partition(".")[0],
            entry.place,
            entry.security,
            released_on(name, entry.version),
            driver_fit.cuda_refusal(version, driver, lock.hardware.sm, drivers),
        )
        offers.append(offer)
    return offers


def _combined(
    judged: list[tuple[PackageUpdate, Judgement]],
    count: int,
) -> tuple[list[PackageUpdate], Judgement]:
    moving = [pair for pair in judged if pair[1].verdict is UpdateVerdict.UPDATE]
    reported = moving or judged
    if not reported:
        return [], Judgement(f"{count} packages", UpdateVerdict.CURRENT)
    updates, mends = list[PackageUpdate](), set[str]()
    names, security = list[str](), 0
    for update, judgement in reported:
        updates.append(update)
        names.append(update.name)
        security += update.security
        mends.update(judgement.mends)
    first, listed = reported[0][1], units.some(names, 6)
    available, reason = f"{len(updates)} newer", f"{first.reason} ({listed})"
    if moving:
        available, reason = f"{available}, {security} by security", listed
    return updates, Judgement(available, first.verdict, reason, mends=sorted(mends))
