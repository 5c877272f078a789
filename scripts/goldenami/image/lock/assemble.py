"""The last step of the `lock` stage: a resolution becomes a lock, with the packages of each step of
the bake."""

from __future__ import annotations

from collections.abc import Iterable
from email.utils import parsedate_to_datetime
from typing import Any

from goldenami.image.lock.compilation import dummy_packages
from goldenami.image.lock.compilation.driver_fit import FittedDriver
from goldenami.image.lock.resolution import LOCAL_SUITE, Resolution
from goldenami.model.locked import locked_hardware, lockfile
from goldenami.model.locked.lockfile import BaseLock, Cuda, Driver, Kernel, Lock, Package, Step
from goldenami.model.roles import role_packages
from goldenami.model.supported import compatibility
from goldenami.packages import local_repository
from goldenami.packages.apt import AptRoot, Deb
from goldenami.packages.local_repository import LocalRepository


def assemble(
    resolution: Resolution,
    kernel: Kernel,
    cuda: Cuda | None,
    base_names: list[str],
    debs: list[Deb],
) -> Lock:
    """The lock for what was resolved."""
    with resolution.progress.step("steps"):
        steps = _steps(resolution, base_names, debs)
    definition, root = resolution.definition, resolution.root
    driver = None
    if resolution.fitted:
        driver = _driver(resolution, resolution.fitted)
    base = BaseLock(
        distribution=definition.base.distribution,
        release=definition.base.release,
        major=resolution.platform.major,
        architecture=definition.base.architecture,
        suites=resolution.archive_suites(),
    )
    return Lock(
        image=definition.image,
        description=definition.description,
        source_date_epoch=_epoch(resolution, debs),
        disk_size_gib=definition.disk_size_gib,
        base=base,
        kernel=kernel,
        driver=driver,
        cuda=cuda,
        hardware=locked_hardware.derive(root, definition),
        choices=resolution.choices,
        base_packages=base_names,
        packages=_packages(debs),
        frameworks=resolution.frameworks.frameworks,
        kernel_modules=resolution.kernel_modules,
        toolchain=_packages(resolution.frameworks.toolchain),
        extra_repos=definition.extra_repos,
        downloads=[file.locked for file in resolution.files],
        containers=resolution.containers,
        python=resolution.python,
        listen=definition.listen,
        roles=definition.role_names,
        steps=steps,
        variables=_variables(resolution),
        inputs=lockfile.digests(root, definition),
    )


def _packages(debs: Iterable[Deb]) -> dict[str, Package]:
    return {deb.name: Package.of(deb) for deb in debs}


def _variables(resolution: Resolution) -> dict[str, Any]:
    variables = dict[str, Any]()
    for role in resolution.definition.role_names:
        variables |= role_packages.variables(resolution.root, role, resolution.given(role))
    return variables


def _driver(resolution: Resolution, fitted: FittedDriver) -> Driver:
    branch = fitted.driver.split(".")[0]
    return Driver(
        version=fitted.driver,
        branch=branch,
        flavour=fitted.flavour,
        source=resolution.setting("nvidia_driver", "source"),
        cuda=compatibility.load(resolution.root).native_cuda(branch),
        modules=fitted.build.locked(fitted.outcome),
    )


def _epoch(resolution: Resolution, debs: list[Deb]) -> int:
    """Build time of the image's newest package, in seconds since 1970: the image's date changes
    only when a file does."""
    indexes = max(
        int(parsedate_to_datetime(suite.date).timestamp()) for suite in resolution.archive_suites()
    )
    build_times = [local_repository.built_at(resolution.store, deb) for deb in debs]
    # A package that is younger than its index was built under a wrong clock: it does not count.
    return max((date for date in build_times if date <= indexes), default=indexes)


def _steps(resolution: Resolution, base: list[str], debs: list[Deb]) -> list[Step]:
    """The packages that each step of the bake installs, solved by apt among the image's own files
    alone.

    A step's layer therefore depends on no package of a later step, and a new driver release leaves
    the layers below it unchanged.
    """
    version = resolution.fitted.driver if resolution.fitted else ""
    dummies = dummy_packages.of_driver(resolution.store, debs, resolution.driver_sources(), version)
    before_driver_debs = [deb for deb in debs if deb.name not in dummies]
    before_driver = step_apt = _apt_of(
        resolution, "early", [*before_driver_debs, *dummies.values()]
    )
    complete = _apt_of(resolution, "whole", debs) if dummies else before_driver
    roles_so_far, installed_before, steps = list[str](), set(base), list[Step]()
    for roles in resolution.definition.steps:
        if "nvidia_driver" in roles:
            step_apt = complete
        roles_so_far += roles
        installed = {deb.name for deb in step_apt.solve(resolution.names(roles_so_far))}
        used_dummies = dict[str, Package]()
        if step_apt is before_driver:
            used_dummies = _packages(dummies[name] for name in installed & dummies.keys())
        new = installed - installed_before - used_dummies.keys()
        steps.append(Step(roles=roles, packages=sorted(new), stand_ins=used_dummies))
        installed_before |= new
    left_over = {deb.name for deb in debs} - installed_before
    return [
        *steps[:-1],
        steps[-1].model_copy(update={"packages": sorted({*steps[-1].packages, *left_over})}),
    ]


def _apt_of(resolution: Resolution, name: str, debs: list[Deb]) -> AptRoot:
    """An apt root whose one archive holds `debs`."""
    folder = resolution.apt.folder / "closure" / name
    repository = LocalRepository(debs, LOCAL_SUITE, epoch=0)
    apt = AptRoot(
        folder=folder,
        sources=(),
        uris={},
        architecture=resolution.apt.architecture,
        local_repo=repository.write(resolution.store, folder / "repo"),
    )
    apt.configure()
    apt.pin({})
    apt.update()
    return apt
