"""The newest kernel, then the newest driver, that compile together: found by compiling, not by a table."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from debian.debian_support import Version

from goldenami import modules, policy, rolefacts
from goldenami.apt import AptRoot, Deb
from goldenami.definition import Platform
from goldenami.errors import NoFit
from goldenami.lockfile import Choice, Kernel, Package, PassedOver
from goldenami.modules import Outcome, Recipe
from goldenami.store import Store

MAX_COMPILATIONS = 8
"""Pairs tried before giving up: at 1-3 minutes a pair on 2 cores, a quarter of an hour."""


@dataclass(frozen=True)
class Candidate:
    """A driver version and the versions that its packages have to be pinned at."""

    version: str
    pins: dict[str, str]


@dataclass(frozen=True)
class Fitted:
    """A pair that compiles."""

    kernel: Kernel
    driver: str
    pins: dict[str, str]
    recipe: Recipe
    outcome: Outcome
    choices: list[Choice]


VERSION = "VERSION"
"""Stands for the driver's version in the role's facts until a candidate is tried."""


@dataclass(frozen=True)
class Request:
    """What the definition and the role's platform file say about the driver."""

    branch: str
    flavour: str
    dkms_package: str
    userland_package: str
    pinned_sources: list[str]
    provides: list[str]


@dataclass(frozen=True)
class Keep:
    """What a new lock leaves where the old one has it, because a policy of the definition says so.

    `packages` stay at their version; `stock` are files of the old lock, which the archive may have dropped.
    """

    kernel: Kernel | None = None
    driver: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)
    stock: Mapping[str, Package] = field(default_factory=dict)


def request(root: Path, platform: Platform, given: Mapping[str, Any]) -> Request:
    """What the role says about the driver, for the variables that the definition gives it."""
    settings = rolefacts.variables(root, "nvidia_driver", given)
    names = rolefacts.facts(root, "nvidia_driver", platform, {
        **given, "nvidia_driver_version": VERSION, "nvidia_driver_kernel_release": "",
        "nvidia_driver_modules_package": "",
    })
    return Request(
        branch=str(settings["nvidia_driver_branch"]), flavour=str(settings["nvidia_driver_flavour"]),
        dkms_package=names["__nvidia_driver_dkms_package"],
        userland_package=names["__nvidia_driver_userland_package"],
        pinned_sources=names["__nvidia_driver_pinned_sources"], provides=names["__nvidia_driver_modules_provides"],
    )


def kernels(apt: AptRoot, flavour: str) -> list[Kernel]:
    """Kernels of the meta package's series in the indexes, newest first, each with headers.

    The series (6.1) is that of the meta package's candidate: backports' kernels are another series and are
    only taken when the definition asks for backports and the meta package comes from there.
    """
    meta = f"linux-image-{flavour}" + ("-amd64" if flavour == "cloud" else "")
    versions = apt.versions(meta)
    if not versions:
        raise NoFit(f"the indexes have no kernel package {meta}", hint="check `kernel` and `base` of the definition")
    depends = apt.stanza(meta, versions[0])["Depends"]
    newest = re.search(r"linux-image-(\d+\.\d+)[^ ,]*", depends)
    assert newest is not None, depends
    tail = re.escape(f"-{flavour}" + ("-amd64" if flavour == "cloud" else ""))
    names = apt.names(rf"linux-image-{re.escape(newest[1])}\.[\w.+-]*{tail}")
    headers = set(apt.names(rf"linux-headers-{re.escape(newest[1])}\.[\w.+-]*{tail}"))
    found = []
    for name in names:
        release = name.removeprefix("linux-image-")
        if f"linux-headers-{release}" in headers and (built := apt.versions(name)):
            found.append(Kernel(release=release, package=name, version=built[0]))
    if not found:
        raise NoFit(f"the indexes have no kernel of the series {newest[1]} with its headers",
                    hint="is the mirror in the middle of an update? run again later")
    return sorted(found, key=lambda kernel: Version(kernel.version), reverse=True)


def candidates(apt: AptRoot, request: Request) -> list[Candidate]:
    """Driver versions of the branch, newest first."""
    found = [policy.upstream(version) for version in apt.versions(request.dkms_package)]
    wanted = dict.fromkeys(version for version in found if version.split(".")[0] == request.branch)
    if not wanted:
        raise NoFit(
            f"no driver of branch {request.branch}: {request.dkms_package} exists as "
            f"{', '.join(dict.fromkeys(found)) or 'no version at all'}",
            hint="set nvidia_driver_branch to one of these, or nvidia_driver_source to another repository",
        )
    return [Candidate(version, {f"src:{source}:any": f"{version}-*" for source in request.pinned_sources})
            for version in wanted]


def userland_ahead(apt: AptRoot, request: Request, taken: str) -> list[PassedOver]:
    """Newer versions of the branch whose kernel modules this flavour lacks (half a driver is none)."""
    versions = {policy.upstream(version) for version in apt.versions(request.userland_package)}
    newer = sorted((version for version in versions if version.split(".")[0] == request.branch
                    and policy.version_tuple(version) > policy.version_tuple(taken)),
                   key=policy.version_tuple, reverse=True)
    reason = f"{request.userland_package} has it, but {request.dkms_package} does not: half a driver"
    return [PassedOver(what=version, reason=reason) for version in newer]


def fit(
    apt: AptRoot, request: Request, found: list[Kernel], *,
    compile_pair: Callable[[Kernel, Candidate], tuple[Recipe, Outcome]], only: str = "",
) -> Fitted:
    """The first pair that compiles, kernels outermost; NoFit with a table of what was tried.

    `only` is the one driver version that may be taken.
    """
    drivers = [driver for driver in candidates(apt, request) if only in ("", driver.version)]
    if not drivers:
        raise NoFit(f"driver {only}, which is to stay, is no longer in the archive or the store",
                    hint="let it move: change `watch.driver` of the definition")
    every = [(kernel, driver) for kernel in found for driver in drivers]
    pairs = every[:MAX_COMPILATIONS]
    tried: list[PassedOver] = []
    for kernel, driver in pairs:
        what = f"driver {driver.version} on kernel {kernel.release}"
        try:
            recipe, outcome = compile_pair(kernel, driver)
        except NoFit as error:
            tried.append(PassedOver(what=what, reason=error.message))
            continue
        if outcome.deb_sha256 is None:
            tried.append(PassedOver(what=what, reason=outcome.first_error))
            continue
        return Fitted(kernel, driver.version, driver.pins, recipe, outcome,
                      _choices(apt, request, kernel, driver, tried, outcome))
    table = "\n".join(f"  {entry.what}: {entry.reason}" for entry in tried)
    if len(every) > len(pairs):
        table += f"\n  and {len(every) - len(pairs)} older pairs that were not tried"
    raise NoFit(f"no {request.flavour} driver of branch {request.branch} compiles on a kernel of this release",
                tail=table, hint="try the other nvidia_driver_flavour, another branch, or base.backports: true")


def _choices(
    apt: AptRoot, request: Request, kernel: Kernel, driver: Candidate, tried: list[PassedOver], outcome: Outcome,
) -> list[Choice]:
    why = f"compiled on {kernel.release} with {outcome.compiler}"  # no seconds: equal locks on every machine
    return [
        Choice(component="kernel", taken=kernel.release, passed_over=tried,
               why="the newest on which the driver compiles" if tried else "the newest; the driver compiles on it"),
        Choice(component="driver", taken=driver.version, why=why,
               passed_over=userland_ahead(apt, request, driver.version)),
    ]


def compiler(
    apt: AptRoot, request: Request, store: Store, *, suite: str, log: Path, fetch: Callable[[list[Deb]], None],
    on_try: Callable[[str], Any],
) -> Callable[[Kernel, Candidate], tuple[Recipe, Outcome]]:
    """The function that `fit` calls: resolve the scratch tree, fetch it, compile."""

    def compile_pair(kernel: Kernel, driver: Candidate) -> tuple[Recipe, Outcome]:
        on_try(f"driver {driver.version} on kernel {kernel.release}")
        recipe = recipe_of(apt, request, kernel, driver, suite=suite)
        fetch([recipe.source, *recipe.build])
        return recipe, modules.compile_modules(recipe, store, log=log)

    return compile_pair


def recipe_of(apt: AptRoot, request: Request, kernel: Kernel, driver: Candidate, *, suite: str) -> Recipe:
    """What compiling `driver` on `kernel` takes, by the indexes; NoFit where apt finds no solution."""
    apt.pin(driver.pins)
    build = apt.solve(["?essential", "apt", "dkms", "make", "gcc", "kmod", f"linux-headers-{kernel.release}"])
    return Recipe(
        kernel_release=kernel.release, driver_version=driver.version, package=modules.package_name(kernel.release),
        provides=[name.replace(VERSION, driver.version) for name in request.provides], depends=[kernel.package],
        suite=suite, source=_source(apt, request.dkms_package, driver.version), build=build,
    )


def _source(apt: AptRoot, package: str, version: str) -> Deb:
    """The DKMS package itself, without its dependencies' solution."""
    full = next(found for found in apt.versions(package) if policy.upstream(found) == version)
    return apt.file(package, full)
