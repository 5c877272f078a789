"""The `lock` stage: a definition resolved to exact files, with a driver that was seen to compile on
the kernel."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from goldenami.core.errors import NoFit
from goldenami.image.lock import (
    assemble,
    beside_frameworks,
    cuda,
    declared_sources,
    driver,
    frameworks,
    lint,
    own_modules,
)
from goldenami.image.lock.compilation import driver_fit
from goldenami.image.lock.frameworks import FrameworkRequest, FrameworkResolver
from goldenami.image.lock.resolution import LockInputs, Resolution, opened
from goldenami.model.locked import locked_hardware, lockfile, release_dates
from goldenami.model.locked.lockfile import Choice, Cuda, Kernel, Lock, Target
from goldenami.model.roles import recipes
from goldenami.model.supported import hardware
from goldenami.packages.apt import DOWNLOADED
from goldenami.packages.pypi import Index


def run(inputs: LockInputs) -> tuple[Lock, str]:
    """Resolve the definition and write its lock. Returns the lock with its SHA-256.

    Raises NoFit if the parts do not fit each other; the old lock stays then.
    """
    root, definition = inputs.root, inputs.definition
    path = lockfile.path_of(root, definition.image)
    with opened(inputs) as resolution:
        if previous := lockfile.previous(root, definition.image):
            release_dates.demand_progress(previous, resolution.archive_suites())
        try:
            lock = _resolve(resolution)
        except NoFit as error:
            raise declared_sources.with_line(root, definition, resolution.apt, error) from None
    lint.demand(lock, hardware.load(root), NoFit)
    lock = _kept_if_equal(lockfile.previous(root, definition.image), lock)
    return lock, lockfile.write(path, lock)


def _kept_if_equal(previous: Lock | None, lock: Lock) -> Lock:
    """`previous` if it differs from `lock` only in the suites, which change whenever the archives
    are signed; else `lock`."""
    if previous is None:
        return lock
    base_with_new_suites = previous.base.model_copy(update={"suites": lock.base.suites})
    if previous.model_copy(update={"base": base_with_new_suites}) == lock:
        return previous
    return lock


def _resolve(resolution: Resolution) -> Lock:
    apt, progress, definition = resolution.apt, resolution.progress, resolution.definition
    _pin_what_stays(resolution)
    kept_kernel = resolution.constraints.kernel
    kernels = [kept_kernel] if kept_kernel else driver_fit.kernels(apt, definition.kernel)
    if "nvidia_driver" in definition.roles:
        resolution.fitted = driver.fit(resolution, kernels)
        kernel = resolution.fitted.kernel
    else:
        kernel, passed_over = own_modules.first(resolution, kernels)
        if passed_over:
            why = "the newest on which its modules compile"
        else:
            why = _why_this_kernel(resolution, kernel)
        resolution.choices.append(
            Choice(component="kernel", taken=kernel.release, why=why, passed_over=passed_over)
        )
    # Offers the compiled modules to apt, so it comes before the packages are solved.
    driver.derive(resolution, kernel)
    with progress.step("packages"):
        base = [deb.name for deb in apt.solve(resolution.names([]))]
        debs = apt.solve(resolution.names(definition.role_names))
        locked_cuda = cuda.of_packages(resolution, debs)
    if definition.frameworks or definition.python_packages or cuda.from_wheels(resolution):
        locked_cuda = _from_index(resolution) or locked_cuda
    total = sum(deb.size for deb in debs)
    lacking = sum(deb.size for deb in debs if not resolution.store.path(deb.sha256).exists())
    with progress.download(
        "fetch", f"{total / 1e6:.0f} MB in {len(debs)} packages", lacking
    ) as on_bytes:
        resolution.fetch(debs, on_bytes)
    return assemble.assemble(resolution, kernel, locked_cuda, base, debs)


def _why_this_kernel(resolution: Resolution, kernel: Kernel) -> str:
    with contextlib.suppress(NoFit):
        if driver_fit.kernels(resolution.apt, resolution.definition.kernel)[0] == kernel:
            return "the newest"
    return "the policy keeps it"


def _pin_what_stays(resolution: Resolution) -> None:
    """Pin the packages that stay. Offer from the store those that the archives have dropped."""
    apt, constraints = resolution.apt, resolution.constraints
    entries = apt.entries(sorted(constraints.stock))
    resolution.offered = []
    for name, package in sorted(constraints.stock.items()):
        available = {entry.version for entry in entries.get(name, [])}
        if package.origin == DOWNLOADED or package.version not in available:
            resolution.offered.append(package.deb(name))
    resolution.fetch(resolution.offered)
    if resolution.offered:
        resolution.offer(resolution.offered)
        apt.update()
    apt.pin(constraints.packages)


def _from_index(resolution: Resolution) -> Cuda | None:
    """Resolve frameworks and Python packages from the package index. Returns the CUDA of its
    wheels, or None."""
    definition, resolver = resolution.definition, framework_resolver(resolution)
    names = [*definition.frameworks, *definition.python_packages]
    with (
        resolution.progress.step("frameworks", ", ".join(names) or "CUDA alone"),
        beside_frameworks.demanded(resolution.root, definition, resolver.index),
    ):
        beside, has_wheels = list(definition.python_packages), cuda.from_wheels(resolution)
        if has_wheels:
            beside.append(cuda.requirement(resolution, resolver))
        request = replace(resolver.request, beside=beside)
        resolver = replace(resolver, request=request)
        if definition.frameworks:
            resolution.frameworks = resolver.resolve()
            resolution.choices.extend(resolution.frameworks.choices)
        files = resolver.environment(resolution.frameworks)
        resolution.python = beside_frameworks.of(
            resolution, request.shared_environment or beside_frameworks.OWN_ENVIRONMENT, files
        )
        _derive_frameworks(resolution)
        if not has_wheels:
            return None
        return cuda.of_wheels(resolution, files, request)


def _derive_frameworks(resolution: Resolution) -> None:
    root, definition = resolution.root, resolution.definition
    modules = {name: recipes.load(root, name).module for name in definition.frameworks}
    resolution.derived["frameworks"] = {
        "frameworks_installed": frameworks.variables(resolution.frameworks.frameworks, modules),
        "frameworks_python_packages": beside_frameworks.variables(resolution.python),
        "frameworks_cpu_features": locked_hardware.derive(root, definition).features,
    }


def framework_resolver(resolution: Resolution) -> FrameworkResolver:
    """The resolver of the definition's frameworks, for its hardware."""
    definition = resolution.definition
    shared = locked_hardware.derive(resolution.root, definition)
    # Several CPUs share one build, named after the level that all of them have.
    cpu = shared.cpus[0] if len(shared.cpus) == 1 else f"{shared.march} ({', '.join(shared.cpus)})"
    previous = lockfile.previous(resolution.root, definition.image)
    request = FrameworkRequest(
        names=definition.frameworks,
        shared_environment=resolution.setting("frameworks", "shared_environment"),
        cpus=shared.cpus,
        target=Target(cpu=cpu, options=shared.options, sm=shared.sm),
        suite=definition.base.release,
        gcc=resolution.platform.gcc,
        driver=resolution.derived.get("nvidia_driver", {}).get("nvidia_driver_version", ""),
        driver_sources=resolution.driver_sources(),
    )
    return FrameworkResolver(
        request=request,
        root=resolution.root,
        apt=resolution.apt,
        store=resolution.store,
        index=Index.configured(definition.python_index),
        progress=resolution.progress,
        log=resolution.log,
        fetch_debs=resolution.fetch,
        previous_frameworks=previous.frameworks if previous else (),
    )
