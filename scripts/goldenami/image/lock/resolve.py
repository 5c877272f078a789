"""The `lock` stage: a definition resolved to exact files, with a driver that was seen to compile on
the kernel."""

from __future__ import annotations

import contextlib

from goldenami.core.errors import NoFit
from goldenami.image.lock import (
    assemble,
    cuda,
    declared_sources,
    driver,
    from_index,
    lint,
    own_modules,
)
from goldenami.image.lock.compilation import driver_fit
from goldenami.image.lock.opening import LockInputs, opened
from goldenami.image.lock.resolution import Resolution
from goldenami.model.definitions import package_requests
from goldenami.model.locked import lockfile, release_dates
from goldenami.model.locked.lockfile import Choice, Kernel, Lock
from goldenami.packages.apt import DOWNLOADED


def run(inputs: LockInputs) -> tuple[Lock, str]:
    """Resolve the definition and write its lock. Returns the lock with its SHA-256.

    Raises NoFit if the parts do not fit each other; the old lock stays then.
    """
    root, definition = inputs.root, inputs.definition
    path = lockfile.path_of(root, definition.image)
    with opened(inputs) as resolution:
        if previous := lockfile.previous(root, definition.image):
            release_dates.demand_progress(previous, resolution.archive_suites())
        lock = _resolve(resolution)
    lint.demand(lock, root, NoFit)
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
        left_out = package_requests.absent(definition)
        base = [deb.name for deb in apt.solve(resolution.names([], left_out=left_out))]
        debs = apt.solve(resolution.names(definition.role_names, left_out=left_out))
        declared_sources.demand_absent(resolution, debs)
        locked_cuda = cuda.of_packages(resolution, debs)
    if definition.frameworks or definition.python_packages or cuda.from_wheels(resolution):
        locked_cuda = from_index.resolve(resolution) or locked_cuda
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
