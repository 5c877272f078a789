"""A lock's kernel, CUDA and other packages against the indexes."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from enum import StrEnum

from debian.debian_support import Version

from goldenami.core.errors import NoFit
from goldenami.image.lock.compilation import driver_fit
from goldenami.model.builds.lockfile import Kernel, Lock, Package
from goldenami.model.definitions.definition import Definition
from goldenami.model.definitions.update_policy import (
    Judgement,
    UpdateRule,
    UpdateVerdict,
    VersionOffer,
    judge,
)
from goldenami.model.supported import compatibility
from goldenami.packages.apt import AptRoot, IndexEntry
from goldenami.watch.known_vulnerabilities import KnownVulnerabilities
from goldenami.watch.sources.archive_indexes import Archives, ReleasedOn
from goldenami.watch.watch_records import PackageUpdate, SourceStatus

RUNTIME = re.compile(r"libcudart[\d.]+|cuda-cudart-(?P<release>\d+-\d+)")
"""The package whose version is CUDA's own; in NVIDIA's repository each release is a package of its
own."""


class WatchedComponent(StrEnum):
    """What a definition's `watch` section can name, beside frameworks and the base image."""

    KERNEL = "kernel"
    DRIVER = "driver"
    CUDA = "cuda"
    PACKAGES = "packages"


_SOURCES = (
    (WatchedComponent.KERNEL, re.compile(r"linux(-signed.*|-meta.*|-aws.*|-restricted.*)?")),
    (WatchedComponent.DRIVER,
     re.compile(r"(nvidia-graphics-drivers|nvidia-open-gpu-kernel-modules|fabric-manager"
                r"|nvidia-fabricmanager|nvidia-persistenced|nvidia-modprobe|nvidia-settings"
                r"|golden-nvidia-modules).*")),
    (WatchedComponent.CUDA, re.compile(r"nvidia-cuda-toolkit|(cuda|lib(cu|np|nv))[a-z-]*-\d+-\d+")),
)
"""Components by the name of a source package, as Debian, Ubuntu and NVIDIA's repository have
them."""


def component(package: Package) -> WatchedComponent:
    """The component that a package of a lock belongs to."""
    return next((name for name, pattern in _SOURCES if pattern.fullmatch(package.source)),
                WatchedComponent.PACKAGES)


def kernel_offers(
    definition: Definition, apt: AptRoot, released_on: ReleasedOn | None = None,
    mends: Callable[[str], list[str]] = lambda _: [],
) -> list[VersionOffer]:
    """The kernels that the image could have; their branch is their series. One that `mends`
    something is a security update.
    """
    kernels = driver_fit.kernels(apt, definition.kernel)
    entries = apt.entries([kernel.package for kernel in kernels])
    offers = []
    for kernel in kernels:
        entry = next(entry for entry in entries[kernel.package] if entry.version == kernel.version)
        offers.append(VersionOffer(kernel.version, series(kernel.release), entry.place,
                                   entry.security or bool(mends(entry.version)),
                                   released_on(kernel.package, kernel.version) if released_on
                                   else None))
    return offers


def kernel(definition: Definition, apt: AptRoot, version: str) -> Kernel:
    """The kernel of that version, as `kernel_offers` offers it."""
    return next(kernel for kernel in driver_fit.kernels(apt, definition.kernel) if kernel.version
                == version)


def series(release: str) -> str:
    """The series of a kernel: "6.1.0-56-cloud-amd64" -> "6.1"."""
    return ".".join(release.split(".")[:2])


def cuda_offers(
    lock: Lock, apt: AptRoot, released_on: ReleasedOn | None = None
) -> list[VersionOffer]:
    """CUDA releases in the archives; one that the locked driver or a declared GPU can't take says
    so."""
    names = [name for name in apt.names(RUNTIME.pattern) if name in lock.packages or "-" in name]
    newest = dict[str, tuple[str, IndexEntry]]()
    for name, entries in apt.entries(names).items():
        for entry in entries:
            newest.setdefault(".".join(compatibility.upstream(entry.version).split(".")[:2]),
                              (name, entry))
    return [VersionOffer(version, version.partition(".")[0], entry.place, entry.security,
                         released_on(name, entry.version) if released_on else None,
                         _cuda_refusal(version, lock))
            for version, (name, entry) in newest.items()]


def _cuda_refusal(version: str, lock: Lock) -> str:
    try:
        if lock.driver is not None:
            compatibility.check_cuda(version, lock.driver.version)
        compatibility.check_architectures(version, lock.hardware.sm)
    except NoFit as error:
        return error.message
    return ""


def judge_packages(
    rule: UpdateRule, lock: Lock, names: list[str], apt: AptRoot, today: date,
    released_on: ReleasedOn | None = None,
    known: KnownVulnerabilities | None = None,
) -> tuple[list[PackageUpdate], list[PackageUpdate], Judgement]:
    """What of `names` the rule moves, what it leaves, and the verdict on all of them together."""
    known = known or KnownVulnerabilities()
    found, preferred = apt.entries(names), apt.preferred(names)
    updates, held, reasons = list[PackageUpdate](), list[PackageUpdate](), list[Judgement]()
    for name in sorted(preferred.keys() & found.keys()):
        package, wanted = lock.packages[name], Version(preferred[name])
        newer = [entry for entry in found[name] if Version(package.version) < Version(entry.version)
                 <= wanted]
        mends = {entry.version: known.mended(package.source, package.version, entry.version)
                 for entry in newer}
        offers = [VersionOffer(entry.version, "", entry.place,
                               entry.security or bool(mends[entry.version]),
                               released_on(name, entry.version) if released_on else None)
                  for entry in newer]
        judgement = judge(rule, package.version, "", offers, today)
        security = any(offer.security and offer.version == judgement.available for offer in offers)
        update = PackageUpdate(name=name, locked=package.version, available=judgement.available,
                               security=security,
                               mends=mends.get(judgement.available, []))
        if judgement.verdict is UpdateVerdict.UPDATE:
            updates.append(update)
        elif judgement.verdict is not UpdateVerdict.CURRENT:
            held.append(update)
            reasons.append(judgement)
    return updates, held, _together(updates, held, reasons, len(names))


def _together(
    updates: list[PackageUpdate], held: list[PackageUpdate], reasons: list[Judgement], count: int,
) -> Judgement:
    security = sum(update.security for update in updates)
    if updates:
        return Judgement(f"{len(updates)} newer, {security} by security", UpdateVerdict.UPDATE,
                         _names(updates))
    if held:
        return Judgement(f"{len(held)} newer", reasons[0].verdict,
                         f"{reasons[0].reason} ({_names(held)})")
    return Judgement(f"{count} packages", UpdateVerdict.CURRENT)


def _names(updates: list[PackageUpdate], limit: int = 6) -> str:
    more = f" and {len(updates) - limit} more" if len(updates) > limit else ""
    return ", ".join(update.name for update in updates[:limit]) + more


def emptied(lock: Lock, archives: Archives) -> list[SourceStatus]:
    """Archives that answer, and have nothing any more of what the lock took from them: apt calls
    that a success."""
    statuses = []
    for archive, root in archives.roots.items():
        names = [name for name, package in lock.packages.items() if package.origin == archive]
        if names and not root.entries(names):
            statuses.append(SourceStatus(name=archive,
                                         error=f"is empty: it has none of the {len(names)} "
                                               "packages that "
                                                             f"the lock of {lock.image} took from "
                                                             "it"))
    return statuses


def backwards(lock: Lock, apt: AptRoot, down: frozenset[str]) -> list[SourceStatus]:
    """Packages of which the archive that had them has only older versions now, by archive."""
    names = [name for name, package in lock.packages.items()
             if package.origin not in down | {"built"}]
    gone: dict[str, list[str]] = {}
    for name, entries in apt.entries(names).items():
        package = lock.packages[name]
        own = [entry.version for entry in entries if entry.archive == package.origin]
        if own and Version(entries[0].version) < Version(package.version):
            gone.setdefault(package.origin, []).append(
                f"{name} {package.version} -> {entries[0].version}"
            )
    return [SourceStatus(name=archive, error=f"goes backwards: {', '.join(sorted(rows)[:3])}"
                                             + (f" and {len(rows) - 3} more" if len(rows) > 3
                                                else ""))
            for archive, rows in sorted(gone.items())]
