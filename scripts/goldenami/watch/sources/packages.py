"""A lock's kernel, CUDA and other packages against the indexes."""

from __future__ import annotations

import re
from datetime import date
from enum import StrEnum

from debian.debian_support import Version

from goldenami.compilation import driver_fit
from goldenami.core.errors import NoFit
from goldenami.model import compatibility
from goldenami.model.definition import Definition
from goldenami.model.lockfile import Kernel, Lock, Package
from goldenami.model.update_policy import AvailableVersion, Judgement, UpdateRule, UpdateVerdict, judge
from goldenami.packages.apt import AptRoot, Found
from goldenami.watch.sources.archive_indexes import Age, Archives
from goldenami.watch.watch_records import PackageUpdate, SourceStatus

RUNTIME = re.compile(r"libcudart[\d.]+|cuda-cudart-(?P<release>\d+-\d+)")
"""The package whose version is CUDA's own; in NVIDIA's repository each release is a package of its own."""


class WatchedComponent(StrEnum):
    """What a definition's `watch` section can name, beside frameworks and the base image."""

    KERNEL = "kernel"
    DRIVER = "driver"
    CUDA = "cuda"
    PACKAGES = "packages"


_SOURCES = (
    (WatchedComponent.KERNEL, re.compile(r"linux(-signed.*|-meta.*|-aws.*|-restricted.*)?")),
    (WatchedComponent.DRIVER, re.compile(r"(nvidia-graphics-drivers|nvidia-open-gpu-kernel-modules|fabric-manager"
                                         r"|nvidia-fabricmanager|nvidia-persistenced|nvidia-modprobe|nvidia-settings"
                                         r"|golden-nvidia-modules).*")),
    (WatchedComponent.CUDA, re.compile(r"nvidia-cuda-toolkit|(cuda|lib(cu|np|nv))[a-z-]*-\d+-\d+")),
)
"""Components by the name of a source package, as Debian, Ubuntu and NVIDIA's repository have them."""


def component(package: Package) -> WatchedComponent:
    """The component that a package of a lock belongs to."""
    return next((name for name, pattern in _SOURCES if pattern.fullmatch(package.source)), WatchedComponent.PACKAGES)


def kernel_offers(definition: Definition, apt: AptRoot, age: Age | None = None) -> list[AvailableVersion]:
    """The kernels that the image could have; their branch is their series."""
    kernels = driver_fit.kernels(apt, definition.kernel)
    found = apt.found([kernel.package for kernel in kernels])
    offers = []
    for kernel in kernels:
        one = next(one for one in found[kernel.package] if one.version == kernel.version)
        offers.append(AvailableVersion(kernel.version, series(kernel.release), f"{one.archive} {one.suite}",
                                       one.security, age(kernel.package, kernel.version) if age else None))
    return offers


def kernel(definition: Definition, apt: AptRoot, version: str) -> Kernel:
    """The kernel of that version, as `kernel_offers` offers it."""
    return next(kernel for kernel in driver_fit.kernels(apt, definition.kernel) if kernel.version == version)


def series(release: str) -> str:
    """The series of a kernel: "6.1.0-56-cloud-amd64" -> "6.1"."""
    return ".".join(release.split(".")[:2])


def cuda_offers(lock: Lock, apt: AptRoot, age: Age | None = None) -> list[AvailableVersion]:
    """CUDA releases in the archives; one that the locked driver or a declared GPU can't take says so."""
    names = [name for name in apt.names(RUNTIME.pattern) if name in lock.packages or "-" in name]
    newest = dict[str, tuple[str, Found]]()
    for name, all_ in apt.found(names).items():
        for one in all_:
            newest.setdefault(".".join(compatibility.upstream(one.version).split(".")[:2]), (name, one))
    return [AvailableVersion(version, version.partition(".")[0], f"{one.archive} {one.suite}", one.security,
                             age(name, one.version) if age else None, _cuda_refusal(version, lock))
            for version, (name, one) in newest.items()]


def _cuda_refusal(version: str, lock: Lock) -> str:
    try:
        if lock.driver is not None:
            compatibility.check_cuda(version, lock.driver.version)
        compatibility.check_architectures(version, lock.hardware.sm)
    except NoFit as error:
        return error.message
    return ""


def judge_packages(
    rule: UpdateRule, lock: Lock, names: list[str], apt: AptRoot, today: date, age: Age | None = None,
) -> tuple[list[PackageUpdate], list[PackageUpdate], Judgement]:
    """What of `names` the rule moves, what it leaves, and the verdict on all of them together."""
    found, preferred = apt.found(names), apt.preferred(names)
    moving, held, reasons = list[PackageUpdate](), list[PackageUpdate](), list[Judgement]()
    for name in sorted(preferred.keys() & found.keys()):
        package, wanted = lock.packages[name], Version(preferred[name])
        newer = [one for one in found[name] if Version(package.version) < Version(one.version) <= wanted]
        offers = [AvailableVersion(one.version, "", f"{one.archive} {one.suite}", one.security,
                                   age(name, one.version) if age else None) for one in newer]
        verdict = judge(rule, package.version, "", offers, today)
        row = PackageUpdate(name=name, locked=package.version, available=verdict.available,
                            security=any(offer.security and offer.version == verdict.available for offer in offers))
        if verdict.verdict is UpdateVerdict.UPDATE:
            moving.append(row)
        elif verdict.verdict is not UpdateVerdict.CURRENT:
            held.append(row)
            reasons.append(verdict)
    return moving, held, _together(moving, held, reasons, len(names))


def _together(
    moving: list[PackageUpdate], held: list[PackageUpdate], reasons: list[Judgement], count: int,
) -> Judgement:
    security = sum(row.security for row in moving)
    if moving:
        return Judgement(f"{len(moving)} newer, {security} by security", UpdateVerdict.UPDATE, _names(moving))
    if held:
        return Judgement(f"{len(held)} newer", reasons[0].verdict, f"{reasons[0].reason} ({_names(held)})")
    return Judgement(f"{count} packages", UpdateVerdict.CURRENT)


def _names(rows: list[PackageUpdate], limit: int = 6) -> str:
    return ", ".join(row.name for row in rows[:limit]) + (f" and {len(rows) - limit} more" if len(rows) > limit else "")


def emptied(lock: Lock, archives: Archives) -> list[SourceStatus]:
    """Archives that answer, and have nothing any more of what the lock took from them: apt calls that a success."""
    found = []
    for archive, root in archives.each.items():
        names = [name for name, package in lock.packages.items() if package.origin == archive]
        if names and not root.found(names):
            found.append(SourceStatus(name=archive, error=f"is empty: it has none of the {len(names)} packages that "
                                                          f"the lock of {lock.image} took from it"))
    return found


def backwards(lock: Lock, apt: AptRoot, down: frozenset[str]) -> list[SourceStatus]:
    """Packages of which the archive that had them has only older versions now, by archive."""
    names = [name for name, package in lock.packages.items() if package.origin not in down | {"built"}]
    gone: dict[str, list[str]] = {}
    for name, all_ in apt.found(names).items():
        package = lock.packages[name]
        own = [one.version for one in all_ if one.archive == package.origin]
        if own and Version(all_[0].version) < Version(package.version):
            gone.setdefault(package.origin, []).append(f"{name} {package.version} -> {all_[0].version}")
    return [SourceStatus(name=archive, error=f"goes backwards: {', '.join(sorted(rows)[:3])}"
                                             + (f" and {len(rows) - 3} more" if len(rows) > 3 else ""))
            for archive, rows in sorted(gone.items())]
