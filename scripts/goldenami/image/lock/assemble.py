"""A resolution written out as a lock, with the packages of each step of the bake."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

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
    """The lock of what was resolved."""
    with resolution.progress.step("steps"):
        steps = _steps(resolution, base_names, debs)
    definition, root = resolution.definition, resolution.root
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
        driver=_driver(resolution, resolution.fitted) if resolution.fitted else None,
        cuda=cuda,
        hardware=locked_hardware.derive(root, definition),
        choices=resolution.choices,
        base_packages=base_names,
        packages={deb.name: Package.of(deb) for deb in debs},
        frameworks=resolution.frameworks.frameworks,
        kernel_modules=resolution.kernel_modules,
        toolchain={deb.name: Package.of(deb) for deb in resolution.frameworks.toolchain},
        extra_repos=definition.extra_repos,
        downloads=[file.locked for file in resolution.files],
        containers=resolution.containers,
        python=resolution.python,
        roles=definition.role_names,
        steps=steps,
        variables={
            name: value
            for role in definition.role_names
            for name, value in role_packages.variables(root, role, resolution.given(role)).items()
        },
        inputs=lockfile.digests(root, definition),
    )


def _driver(resolution: Resolution, fitted: FittedDriver) -> Driver:
    branch = fitted.driver.split(".")[0]
    return Driver(
        version=fitted.driver,
        branch=branch,
        flavour=fitted.flavour,
        source=resolution.setting("nvidia_driver", "source"),
        cuda=compatibility.CUDA_OF_BRANCH.get(branch, "unknown"),
        modules=fitted.build.locked(fitted.outcome),
    )


def _epoch(resolution: Resolution, debs: list[Deb]) -> int:
    """When the image's newest package was built, in seconds since 1970: no new date without a new
    file.

    A package that is younger than the index that lists it was built by a wrong clock and does not
    count.
    """
    indexes = max(
        int(parsedate_to_datetime(suite.date).timestamp()) for suite in resolution.archive_suites()
    )
    built = [local_repository.built_at(resolution.store, deb) for deb in debs]
    return max((date for date in built if date <= indexes), default=indexes)


def _steps(resolution: Resolution, base: list[str], debs: list[Deb]) -> list[Step]:
    """Which packages each step of the bake installs, solved by apt among the image's own files
    only.

    So a step's layer depends on no package of a later step, and a driver release leaves the layers
    below it alone.
    """
    version = resolution.fitted.driver if resolution.fitted else ""
    dummies = dummy_packages.of_driver(resolution.store, debs, resolution.driver_sources(), version)
    others = [deb for deb in debs if deb.name not in dummies]
    before_driver = visible = _apt_of(resolution, "early", [*others, *dummies.values()])
    complete = _apt_of(resolution, "whole", debs) if dummies else before_driver
    so_far, known, steps = list[str](), set(base), list[Step]()
    for roles in resolution.definition.steps:
        visible = complete if "nvidia_driver" in roles else visible
        so_far += roles
        installed = {deb.name for deb in visible.solve(resolution.names(so_far))}
        used = {
            name: Package.of(dummies[name])
            for name in installed & dummies.keys()
            if visible is before_driver
        }
        new = installed - known - used.keys()
        steps.append(Step(roles=roles, packages=sorted(new), stand_ins=used))
        known |= new
    late = {deb.name for deb in debs} - known
    return [
        *steps[:-1],
        steps[-1].model_copy(update={"packages": sorted({*steps[-1].packages, *late})}),
    ]


def _apt_of(resolution: Resolution, name: str, debs: list[Deb]) -> AptRoot:
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
