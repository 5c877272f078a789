"""The newest kernel, then the newest driver, that compile together: found by compiling, not by a
table."""

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
from goldenami.packages.apt import AptRoot

MAX_COMPILATIONS = 8
"""Pairs tried of one series of kernels before the next one: at 1-3 minutes a pair on 2 cores, a
quarter of an hour."""


D = TypeVar("D")
CUDA_RUNTIME = re.compile(r"libcudart[\d.]+|cuda-cudart-\d+-\d+")
"""The package whose version is CUDA's own: Debian's and Ubuntu's name, and that of NVIDIA's
repository."""


@dataclass(frozen=True)
class DriverCandidate:
    """A driver version, the request that it answers, and the versions that its packages have to be
    pinned at."""

    version: str
    request: DriverRequest
    pins: dict[str, str]


@dataclass(frozen=True)
class FittedDriver:
    """A pair that compiles."""

    kernel: Kernel
    driver: str
    flavour: str
    pins: dict[str, str]
    build: ModuleBuild
    outcome: ModuleOutcome
    choices: list[Choice]


@dataclass(frozen=True)
class LockConstraints:
    """What a new lock leaves where the old one has it, because a policy of the definition says so.

    `kernel` and `driver` are the only ones that may be taken. `packages` stay at their version;
    `stock` are files of the old lock, which the archive may have dropped.
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
    # Debian names the architecture, too.
    named = f"{flavour}-{apt.architecture}" if flavour == KernelFlavour.CLOUD else flavour
    meta = f"linux-image-{named}"
    versions = apt.versions(meta)
    if not versions:
        raise NoFit(
            f"the indexes have no kernel package {meta}",
            hint="check `kernel` and `base` of the definition",
        )
    series = dict.fromkeys(_series(apt.stanza(meta, version)["Depends"]) for version in versions)
    tail = f"(?:{'|'.join(map(re.escape, series))})" + r"\.[\w.+-]*" + re.escape(f"-{named}")
    names, headers = apt.names(rf"linux-image-{tail}"), set(apt.names(rf"linux-headers-{tail}"))
    kernels = []
    for name in names:
        release = name.removeprefix("linux-image-")
        if f"linux-headers-{release}" in headers and (built := apt.versions(name)):
            kernels.append(Kernel(release=release, package=name, version=built[0]))
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
    """Driver versions of every request, newest branch first, else in their order; NoFit where there
    is none at all."""
    candidates, absent = list[DriverCandidate](), list[str]()
    for request in sorted(requests, key=lambda request: -int(request.branch)):
        versions = dict.fromkeys(
            compatibility.upstream(version) for version in apt.versions(request.dkms_package)
        )
        half = {entry.what: entry.reason for entry in half_drivers(apt, request)}
        versions_of_branch = [
            version
            for version in versions
            if version.split(".")[0] == request.branch and version not in half
        ]
        if not versions_of_branch:
            absent += [
                f"{version}: {half[version]}" for version in versions if version in half
            ] or [f"{request.dkms_package} exists as {', '.join(versions) or 'no version at all'}"]
        candidates += [
            DriverCandidate(
                version,
                request,
                {f"src:{name}:any": f"{version}-*" for name in request.pinned_sources},
            )
            for version in versions_of_branch
        ]
    if not candidates:
        raise NoFit(
            f"no driver of branch {_branches(requests)}: {'; '.join(absent)}",
            hint="set nvidia_driver_branch to one of these, or nvidia_driver_source to "
            "another repository",
        )
    return candidates


def _branches(requests: Sequence[DriverRequest]) -> str:
    return " or ".join(dict.fromkeys(request.branch for request in requests))


def cuda_release(version: str) -> str:
    """The CUDA of a version of its runtime package: "11.8.89~11.8.0-5" -> "11.8"."""
    return ".".join(compatibility.upstream(version).split(".")[:2])


def newer_cuda(apt: AptRoot, taken: str, driver: str, architectures: list[str]) -> list[PassedOver]:
    """Newer CUDA releases of the archives: what speaks against each, or else that the definition
    names another.

    `driver` is "" in an image without one, `architectures` as in `policy.check_architectures`.
    """
    releases = {
        cuda_release(version)
        for name in apt.names(CUDA_RUNTIME.pattern)
        for version in apt.versions(name)
    }
    newer = sorted(
        (
            version
            for version in releases
            if compatibility.version_tuple(version) > compatibility.version_tuple(taken)
        ),
        key=compatibility.version_tuple,
        reverse=True,
    )
    return [
        PassedOver(
            what=f"CUDA {version}",
            reason=cuda_refusal(version, driver, architectures)
            or f"the definition asks for CUDA {taken}",
        )
        for version in newer
    ]


def cuda_refusal(version: str, driver: str, architectures: list[str]) -> str:
    """Why a CUDA release can't be taken; `driver` is "" in an image without one."""
    try:
        if driver:
            compatibility.check_cuda(version, driver)
        compatibility.check_architectures(version, architectures)
    except NoFit as error:
        return error.message
    return ""


def half_drivers(
    apt: AptRoot, request: DriverRequest, *, newer_than: str = "0"
) -> list[PassedOver]:
    """Versions of the branch that an archive has half of, newest first: userland without this
    flavour's modules, or modules without userland."""
    userland, modules = (
        {compatibility.upstream(version) for version in apt.versions(name)}
        for name in (request.userland_package, request.dkms_package)
    )
    found = sorted(
        (
            version
            for version in userland ^ modules
            if version.split(".")[0] == request.branch
            and compatibility.version_tuple(version) > compatibility.version_tuple(newer_than)
        ),
        key=compatibility.version_tuple,
        reverse=True,
    )
    return [
        PassedOver(what=version, reason=half_a_driver(request, has_userland=version in userland))
        for version in found
    ]


def half_a_driver(request: DriverRequest, *, has_userland: bool) -> str:
    """What is said of a version of which the archive has the userland only, or the modules only."""
    there, missing = request.userland_package, request.dkms_package
    if not has_userland:
        there, missing = missing, there
    return f"{there} has it, but {missing} does not: half a driver"


def fit(
    apt: AptRoot,
    requests: Sequence[DriverRequest],
    kernels: list[Kernel],
    *,
    compile_pair: Callable[[Kernel, DriverCandidate], tuple[ModuleBuild, ModuleOutcome]],
    only: str = "",
) -> FittedDriver:
    """The first pair that compiles, kernels outermost; NoFit with a table of what was tried.

    `only` is the one driver version that may be taken.
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
        what = pair(kernel, driver)
        try:
            recipe, outcome = compile_pair(kernel, driver)
        except NoFit as error:
            failed.append((kernel, PassedOver(what=what, reason=error.message)))
            continue
        if outcome.deb_sha256 is None:
            failed.append((kernel, PassedOver(what=what, reason=outcome.first_error)))
            continue
        return FittedDriver(
            kernel,
            driver.version,
            driver.request.flavour,
            driver.pins,
            recipe,
            outcome,
            _choices(apt, kernel, driver, failed, outcome),
        )
    table = "\n".join(f"  {entry.what}: {entry.reason}" for _, entry in failed)
    untried, which = len(kernels) * len(drivers) - len(pairs), "a kernel of this release"
    if untried:
        table += f"\n  and {untried} older pairs that were not tried"
        which = f"the newest kernels of this release ({untried} older pairs were not tried)"
    flavours = " or ".join(dict.fromkeys(request.flavour for request in requests))
    raise NoFit(
        f"no {flavours} driver of branch {_branches(requests)} compiles on {which}",
        tail=table,
        hint="try the other nvidia_driver_flavour, another branch, or base.backports: true",
    )


def tries(kernels: list[Kernel], drivers: list[D]) -> list[tuple[Kernel, D]]:
    """What is tried, in this order: each series as far as the limit goes, so that the next one gets
    its turn."""
    return [
        pair
        for _, group in itertools.groupby(kernels, lambda kernel: _series(kernel.package))
        for pair in itertools.islice(itertools.product(group, drivers), MAX_COMPILATIONS)
    ]


def pair(kernel: Kernel, driver: DriverCandidate) -> str:
    """How messages name it."""
    return f"driver {driver.version} ({driver.request.flavour}) on kernel {kernel.release}"


def _choices(
    apt: AptRoot,
    kernel: Kernel,
    driver: DriverCandidate,
    failed: list[tuple[Kernel, PassedOver]],
    outcome: ModuleOutcome,
) -> list[Choice]:
    """Failures on a newer kernel speak against that kernel, those on the kernel that was taken
    against the driver."""
    older = [entry for where, entry in failed if where != kernel]
    return [
        Choice(
            component="kernel",
            taken=kernel.release,
            passed_over=older,
            why="the newest on which the driver compiles"
            if older
            else "the newest; the driver compiles on it",
        ),
        Choice(
            component="driver",
            taken=driver.version,  # no seconds: equal locks on every machine
            why=f"its {driver.request.flavour} modules compiled on {kernel.release} with "
            f"{outcome.compiler}",
            passed_over=[
                *(entry for where, entry in failed if where == kernel),
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
    """What compiling `driver` on `kernel` takes, by the indexes; NoFit where apt finds no
    solution."""
    apt.pin(driver.pins)
    toolchain = kernel_modules.toolchain(apt, kernel.release, driver.request.source_packages)
    package = driver.request.dkms_package
    # The DKMS package itself, without its dependencies' solution.
    full = next(
        found for found in apt.versions(package) if compatibility.upstream(found) == driver.version
    )
    return ModuleBuild(
        name=DRIVER_MODULES,
        kernel_release=kernel.release,
        version=driver.version,
        provides=[name.replace(VERSION, driver.version) for name in driver.request.provides],
        depends=[kernel.package],
        suite=suite,
        source=apt.file(package, full),
        toolchain=toolchain,
        signature=signature,
    )
