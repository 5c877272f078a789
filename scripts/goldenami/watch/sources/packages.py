"""A lock's kernel, CUDA and other packages against the indexes."""

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
from goldenami.packages.apt import LOOSE, AptRoot, IndexEntry
from goldenami.watch.sources.archive_indexes import ReleasedOn
from goldenami.watch.sources.source_records import PackageUpdate


class WatchedComponent(StrEnum):
    """What a definition's `watch` section can name, beside frameworks."""

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
"""Components by the name of a source package, as Debian, Ubuntu and NVIDIA's repository have
them."""


def component(package: Package) -> WatchedComponent:
    """The component that a package of a lock belongs to."""
    return next(
        (name for name, pattern in _SOURCES if pattern.fullmatch(package.source)),
        WatchedComponent.PACKAGES,
    )


def from_archives(lock: Lock) -> dict[str, Package]:
    """What of a lock an archive may have newer: packages, and modules' sources but the driver's."""
    sources = {
        made.source_package: made.build[made.source_package]
        for made in lock.kernel_modules.values()
    }
    return {
        name: package
        for name, package in (sources | lock.packages).items()
        if package.origin not in LOOSE and "://" not in package.origin
    }


_FEEDS = (Feed.DEBIAN, Feed.UBUNTU)
"""Lists whose versions are those of the archives."""
_SIGNED = re.compile(r"linux-(signed|meta|aws).*")
"""Sources of the kernel's packages: the lists name `linux`."""
_REBUILT = re.compile(r"\+b\d+$")
"""What a binary package's version has behind its source's, where it was only built again."""


@dataclass(frozen=True)
class KnownVulnerabilities:
    """Those of one lock that a version mends.

    A fix need not come from a suite of security updates: a point release brings many. So what
    mends a known vulnerability is a security update, wherever it comes from.
    """

    mendable: tuple[Vulnerability, ...] = ()

    def mended(self, source: str, locked: str, available: str) -> list[str]:
        """What `available` of a source package mends, as `locked` has it. Packages whose
        versions are not their source's are left out: others of the same source say it."""
        name = _SIGNED.sub("linux", source)
        before, after = (_REBUILT.sub("", version) for version in (locked, available))
        return sorted(
            {
                one.id
                for one in self.mendable
                if (one.part, one.version) == (name, before)
                and Version(before) < Version(one.fix) <= Version(after)
            }
        )


def known_of(root: Path, image: str, lock_sha256: str) -> KnownVulnerabilities:
    """What the newest `golden cve` found in the build of a lock; nothing where nobody has asked."""
    path = ImageFolder.of(root, image).build(lock_sha256[: lockfile.ID_LENGTH]).path / CVE_FILE
    if not path.exists():
        return KnownVulnerabilities()
    record = records.read(path, CveRecord)
    found = record.findings if record.lock_sha256 == lock_sha256 else []
    return KnownVulnerabilities(tuple(one for one in found if one.fix and one.feed in _FEEDS))


@dataclass(frozen=True)
class PackageOffers:
    """What the archives have of a lock's packages. A version that mends something `known` is a
    security update; `released_on` says when a version came out."""

    lock: Lock
    apt: AptRoot
    known: KnownVulnerabilities
    released_on: ReleasedOn

    def kernels(self, definition: Definition) -> list[VersionOffer]:
        """The kernels that the image could have."""
        kernels = driver_fit.kernels(self.apt, definition.kernel)
        entries = self.apt.entries([kernel.package for kernel in kernels])
        offers = []
        for kernel in kernels:
            found = entries[kernel.package]
            entry = next(entry for entry in found if entry.version == kernel.version)
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
        """What of `names` the rule moves, or else what it leaves, and the verdict on all of
        them."""
        found, preferred = self.apt.entries(names), self.apt.preferred(names)
        locked = from_archives(self.lock)
        judged = list[tuple[PackageUpdate, Judgement]]()
        for name in sorted(preferred.keys() & found.keys()):
            package = locked[name]
            offers = list(self._newer(name, package, found[name], preferred[name]))
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
        return _together(judged, len(names))

    def _newer(
        self, name: str, package: Package, entries: Sequence[IndexEntry], preferred: str
    ) -> Iterator[VersionOffer]:
        """Up to the version that apt would choose."""
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
    """The kernel of that version, as `PackageOffers.kernels` offers it."""
    return next(
        kernel for kernel in driver_fit.kernels(apt, definition.kernel) if kernel.version == version
    )


def series(release: str) -> str:
    """The series of a kernel: "6.1.0-56-cloud-amd64" -> "6.1"."""
    return ".".join(release.split(".")[:2])


def cuda_offers(lock: Lock, apt: AptRoot, released_on: ReleasedOn) -> list[VersionOffer]:
    """CUDA releases in the archives; one that the locked driver or a declared GPU can't take says
    so."""
    names = [
        name
        for name in apt.names(driver_fit.CUDA_RUNTIME.pattern)
        if name in lock.packages or "-" in name
    ]
    newest = dict[str, tuple[str, IndexEntry]]()
    for name, entries in apt.entries(names).items():
        for entry in entries:
            newest.setdefault(driver_fit.cuda_release(entry.version), (name, entry))
    driver = lock.driver.version if lock.driver else ""
    return [
        VersionOffer(
            version,
            version.partition(".")[0],
            entry.place,
            entry.security,
            released_on(name, entry.version),
            driver_fit.cuda_refusal(version, driver, lock.hardware.sm),
        )
        for version, (name, entry) in newest.items()
    ]


def _together(
    judged: list[tuple[PackageUpdate, Judgement]],
    count: int,
) -> tuple[list[PackageUpdate], Judgement]:
    moving = [one for one in judged if one[1].verdict is UpdateVerdict.UPDATE]
    shown = moving or judged
    if not shown:
        return [], Judgement(f"{count} packages", UpdateVerdict.CURRENT)
    updates, first = [update for update, _ in shown], shown[0][1]
    security = sum(update.security for update in updates)
    mends = sorted({name for _, judgement in shown for name in judgement.mends})
    names = units.some([update.name for update in updates], 6)
    return updates, Judgement(
        f"{len(updates)} newer, {security} by security" if moving else f"{len(updates)} newer",
        first.verdict,
        names if moving else f"{first.reason} ({names})",
        mends=mends,
    )
