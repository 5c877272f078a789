"""A resolution written out as a lock."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

from goldenami.image.lock.compilation.driver_fit import FittedDriver
from goldenami.image.lock.resolution import Resolution
from goldenami.model.builds import locked_hardware, lockfile
from goldenami.model.builds.lockfile import (
    BaseLock,
    Cuda,
    Driver,
    Kernel,
    Lock,
    Package,
    Step,
)
from goldenami.model.definitions import role_packages
from goldenami.model.supported import compatibility
from goldenami.packages import local_repository
from goldenami.packages.apt import Deb


def assemble(
    resolution: Resolution, kernel: Kernel, fitted: FittedDriver | None, cuda: Cuda | None,
    base_names: list[str],
    debs: list[Deb], steps: list[Step],
) -> Lock:
    """The lock of what was resolved."""
    definition, root = resolution.definition, resolution.root
    base = BaseLock(
        distribution=definition.base.distribution, release=definition.base.release,
        major=resolution.platform.major,
        architecture=definition.base.architecture, suites=resolution.archive_suites(),
    )
    return Lock(
        image=definition.image,
        description=definition.description,
        source_date_epoch=_epoch(resolution, debs),
        disk_size_gib=definition.disk_size_gib,
        base=base,
        kernel=kernel,
        driver=_driver(resolution, fitted) if fitted else None,
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
        version=fitted.driver, branch=branch, flavour=fitted.flavour,
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
    indexes = max(int(parsedate_to_datetime(suite.date).timestamp())
                  for suite in resolution.archive_suites())
    built = [local_repository.built_at(resolution.store, deb) for deb in debs]
    return max((date for date in built if date <= indexes), default=indexes)
