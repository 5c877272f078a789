"""The newest kernel, and then the newest driver, that compile together: found by compiling, not by
a table."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from debian.debian_support import Version

from goldenami.core.errors import NoFit
from goldenami.image.lock.compilation import kernel_modules
from goldenami.image.lock.compilation.kernel_modules import ModuleBuild, ModuleOutcome
from goldenami.model.definitions.definition import DRIVER_MODULES, KernelFlavour
from goldenami.model.definitions.driver_requests import VERSION, DriverRequest
from goldenami.model.locked.lockfile import Choice, Kernel, Package, PassedOver, Signature
from goldenami.model.supported import compatibility
from goldenami.model.supported.compatibility import DriverTable
from goldenami.packages.apt import AptRoot

MAX_COMPILATIONS = 8
"""Pairs tried in one series of kernels before the next: at 1-3 minutes a pair on 2 cores, a quarter
of an hour."""


D = TypeVar("D")
CUDA_RUNTIME = re.compile(r"libcudart[\d.]+|cuda-cudart-\d+-\d+")
"""The package whose version is CUDA's own: its name in Debian and Ubuntu, and in NVIDIA's
repository."""


@dataclass(frozen=True)
class DriverCandidate:
    """A driver version, the request that it answers, and apt's pins for its packages."""

    version: str
    request: DriverRequest
    pins: dict[str, str]


@dataclass(frozen=True)
class FittedDriver:
    """A kernel and a driver that compile together."""

    kernel: Kernel
    driver: str
    flavour: str
    pins: dict[str, str]
    build: ModuleBuild
    outcome: ModuleOutcome
    choices: list[Choice]


@dataclass(frozen=True)
class LockConstraints:
    """The parts of the old lock that a new one keeps, because a policy of the definition says so.

    `kernel` and `driver` are the only ones that may be taken; None and "" leave the choice open.
    `packages` keep their version; `stock` are packages of the old lock that the archives may have
    dropped.
    """

    kernel: Kernel | None = None
    driver: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)
    stock: Mapping[str, Package] = field(default_factory=dict)


def kernels(apt: AptRoot, flavour: str) -> list[Kernel]:
    """Kernels of the meta package's series in the indexes, newest first, each with headers.

    Each version of the meta package names a series (6.1): that of the release and, where the
    definition asks for backports, theirs too. A series that no meta package names is another
    product (Ubuntu's HWE kernels).
    """
    # Debian's cloud kernel has the architecture in its name, too.
    suffix = f"{flavour}-{apt.architecture}" if flavour == KernelFlavour.CLOUD else flavour
    meta = f"linux-image-{suffix}"
    versions = apt.versions(meta)
    if not versions:
        raise NoFit(
            f"the indexes have no kernel package {meta}",
            hint="check `kernel` and `base` of the definition",
        )
    series = dict.fromkeys(_series(apt.stanza(meta, version)["Depends"]) for version in versions)
    tail = f"(?:{'|'.join(map(re.escape, series))})" + r"\.[\w.+-]*" + re.escape(f"-{suffix}")
    names, headers = apt.names(rf"linux-image-{tail}"), set(apt.names(rf"linux-headers-{tail}"))
    kernels = []
    for name in names:
        release = name.removeprefix("linux-image-")
        if f"linux-headers-{release}" in headers and (package_versions := apt.versions(name)):
            kernels.append(Kernel(release=release, package=name, version=package_versions[0]))
    if not kernels:
        raise NoFit(
            f"the indexes have no kernel of the series {' or '.join(series)} with its headers",
            hint="is the mirror in the middle of an update? run again later",
        )
    return sorted(kernels, key=lambda kernel: Version(kernel.version), reverse=True)


def _series(text: str) -> str:
    match = re.search(r"linux-image-(\d+\.\d+)", text)
    assert match is not None, text
    return match[1]


def candidates(apt: AptRoot, requests: Sequence[DriverRequest]) -> list[DriverCandidate]:
    """Driver versions of every request, newest branch first, else in their order. Raises NoFit if
    there is none."""
    candidates, reasons = list[DriverCandidate](), list[str]()
    for request in sorted(requests, key=lambda request: -int(request.branch)):
        versions = dict.fromkeys(
            compatibility.upstream(version) for version in apt.versions(request.dkms_package)
        )
        half_by_version = {entry.what: entry.reason for entry in half_drivers(apt, request)}
        versions_of_branch = [
            version
            for version in versions
            if version.split(".")[0] == request.branch and version not in half_by_version
        ]
        for version in versions_of_branch:
            pins = {f"src:{name}:any": f"{version}-*" for name in request.pinned_sources}
            candidates.append(DriverCandidate(version, request, pins))
        if not versions_of_branch:
            half_versions = [version for version in versions if version in half_by_version]
            reasons += [f"{version}: {half_by_version[version]}" for version in half_versions]
            if not half_versions:
                existing = ", ".join(versions) or "no version at all"
                reasons.append(f"{request.dkms_package} exists as {existing}")
    if not candidates:
        raise NoFit(
            f"no driver of branch {_branches(requests)}: {'; '.join(reasons)}",
            hint="set nvidia_driver_branch to one of these, or nvidia_driver_source to "
            "another repository",
        )
    return candidates


def _branches(requests: Sequence[DriverRequest]) -> str:
    return " or ".join(dict.fromkeys(request.branch for request in requests))


def cuda_release(version: str) -> str:
    """The CUDA of a version of its runtime package: "11.8.89~11.8.0-5" -> "11.8"."""
    return ".".join(compatibility.upstream(version).split(".")[:2])


def newer_cuda(
    apt: AptRoot, taken: str, driver: str, architectures: list[str], drivers: DriverTable
) -> list[PassedOver]:
    """The archives' CUDA releases newer than `taken`, each with the reason against it.

    `driver` is "" in an image without one, `architectures` is as in
    `DriverTable.check_architectures`.
    """
    releases = set[str]()
    for name in apt.names(CUDA_RUNTIME.pattern):
        releases.update(map(cuda_release, apt.versions(name)))
    passed_over = list[PassedOver]()
    for version in sorted(releases, key=compatibility.version_tuple, reverse=True):
        if compatibility.version_tuple(version) > compatibility.version_tuple(taken):
            refusal = cuda_refusal(version, driver, architectures, drivers)
            reason = refusal or f"the definition asks for CUDA {taken}"
            passed_over.append(PassedOver(what=f"CUDA {version}", reason=reason))
    return passed_over


def cuda_refusal(version: str, driver: str, architectures: list[str], drivers: DriverTable) -> str:
    """The reason why a CUDA release can't be used, or "" if it can. `driver` is "" in an image
    without one."""
    try:
        if driver:
            drivers.check_cuda(version, driver)
        drivers.check_architectures(version, architectures)
    except NoFit as error:
        return error.message
    return ""


def half_drivers(
    apt: AptRoot, request: DriverRequest, *, newer_than: str = "0"
) -> list[PassedOver]:
    """Versions of the branch, newest first, of which an archive has only the userland or only this
    flavour's modules."""
    userland = set(map(compatibility.upstream, apt.versions(request.userland_package)))
    modules = set(map(compatibility.upstream, apt.versions(request.dkms_package)))
    of_branch = [
        version for version in userland ^ modules if version.split(".")[0] == request.branch
    ]
    passed_over = list[PassedOver]()
    for version in sorted(of_branch, key=compatibility.version_tuple, reverse=True):
        if compatibility.version_tuple(version) > compatibility.version_tuple(newer_than):
            reason = half_a_driver(request, has_userland=version in userland)
            passed_over.append(PassedOver(what=version, reason=reason))
    return passed_over


def half_a_driver(request: DriverRequest, *, has_userland: bool) -> str:
    """The message about a version of which the archive has the userland only, or the modules
    only."""
    present, missing = request.userland_package, request.dkms_package
    if not has_userland:
        present, missing = missing, present
    return f"{present} has it, but {missing} does not: half a driver"


def fit(
    apt: AptRoot,
    requests: Sequence[DriverRequest],
    kernels: list[Kernel],
    *,
    compile_pair: Callable[[Kernel, DriverCandidate], tuple[ModuleBuild, ModuleOutcome]],
    only: str = "",
) -> FittedDriver:
    """The first pair that compiles: for each kernel every driver is tried before the next kernel.
    Raises NoFit with a table of the tried pairs.

    `only` is the one driver version that may be taken, or "".
    """
    drivers = [driver for driver in candidates(apt, requests) if only in ("", driver.version)]
    if not drivers:
        raise NoFit(
            f"driver {only} is neither in the archives nor in the store",
            hint="let another one be taken: change `watch.driver` of the definition",
        )
    pairs = tries(kernels, drivers)
    failed: list[tuple[Kernel, PassedOver]] = []
    for kernel, driver in pairs:
        pair_name = pair(kernel, driver)
        try:
            build, outcome = compile_pair(kernel, driver)
        except NoFit as error:
            failed.append((kernel, PassedOver(what=pair_name, reason=error.message)))
            continue
        if outcome.deb_sha256 is None:
            failed.append((kernel, PassedOver(what=pair_name, reason=outcome.first_error)))
            continue
        return FittedDriver(
            kernel,
            driver.version,
            driver.request.flavour,
            driver.pins,
            build,
            outcome,
            _choices(apt, kernel, driver, failed, outcome),
        )
    table = "\n".join(f"  {entry.what}: {entry.reason}" for _, entry in failed)
    untried, tried_kernels = len(kernels) * len(drivers) - len(pairs), "a kernel of this release"
    if untried:
        table += f"\n  and {untried} older pairs that were not tried"
        tried_kernels = f"the newest kernels of this release ({untried} older pairs were not tried)"
    flavours = " or ".join(dict.fromkeys(request.flavour for request in requests))
    raise NoFit(
        f"no {flavours} driver of branch {_branches(requests)} compiles on {tried_kernels}",
        tail=table,
        hint="try the other nvidia_driver_flavour, another branch, or base.backports: true",
    )


def tries(kernels: list[Kernel], drivers: list[D]) -> list[tuple[Kernel, D]]:
    """The pairs to try, in order. Each series of kernels gets at most MAX_COMPILATIONS of them, so
    the next series is tried, too."""
    pairs = list[tuple[Kernel, D]]()
    for _, group in itertools.groupby(kernels, lambda kernel: _series(kernel.package)):
        pairs += itertools.islice(itertools.product(group, drivers), MAX_COMPILATIONS)
    return pairs


def pair(kernel: Kernel, driver: DriverCandidate) -> str:
    """The name of a pair in messages."""
    return f"driver {driver.version} ({driver.request.flavour}) on kernel {kernel.release}"


def _choices(
    apt: AptRoot,
    kernel: Kernel,
    driver: DriverCandidate,
    failed: list[tuple[Kernel, PassedOver]],
    outcome: ModuleOutcome,
) -> list[Choice]:
    """The choices of kernel and driver. Failures on a newer kernel count against that kernel, those
    on the chosen kernel against the driver."""
    older, on_kernel = list[PassedOver](), list[PassedOver]()
    for failed_kernel, entry in failed:
        if failed_kernel == kernel:
            on_kernel.append(entry)
        else:
            older.append(entry)
    why = "the newest; the driver compiles on it"
    if older:
        why = "the newest on which the driver compiles"
    return [
        Choice(component="kernel", taken=kernel.release, passed_over=older, why=why),
        Choice(
            component="driver",
            taken=driver.version,
            # No seconds here: locks are equal on every machine.
            why=f"its {driver.request.flavour} modules compiled on {kernel.release} with "
            f"{outcome.compiler}",
            passed_over=[
                *on_kernel,
                *half_drivers(apt, driver.request, newer_than=driver.version),
            ],
        ),
    ]


def module_build(
    apt: AptRoot,
    kernel: Kernel,
    driver: DriverCandidate,
    *,
    suite: str,
    signature: Signature | None,
) -> ModuleBuild:
    """The compilation of `driver` on `kernel`, by the indexes. Raises NoFit if apt finds no
    solution."""
    apt.pin(driver.pins)
    toolchain = kernel_modules.toolchain(apt, kernel.release, driver.request.source_packages)
    package = driver.request.dkms_package
    # The DKMS package is unpacked, not installed, so apt is not asked to solve its dependencies.
    full_version = next(
        version
        for version in apt.versions(package)
        if compatibility.upstream(version) == driver.version
    )
    return ModuleBuild(
        name=DRIVER_MODULES,
        kernel_release=kernel.release,
        version=driver.version,
        provides=[name.replace(VERSION, driver.version) for name in driver.request.provides],
        depends=[kernel.package],
        suite=suite,
        source=apt.file(package, full_version),
        toolchain=toolchain,
        signature=signature,
    )
