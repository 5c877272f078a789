"""The part of a lock that comes from the package index: frameworks, Python packages and CUDA's
wheels."""

from __future__ import annotations

from dataclasses import replace

from goldenami.image.lock import beside_frameworks, cuda, frameworks
from goldenami.image.lock.frameworks import FrameworkRequest, FrameworkResolver
from goldenami.image.lock.resolution import Resolution
from goldenami.model.locked import locked_hardware, lockfile
from goldenami.model.locked.lockfile import Cuda, Target
from goldenami.model.roles import recipes
from goldenami.packages.pypi import Index


def resolve(resolution: Resolution) -> Cuda | None:
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
        resolution.python = beside_frameworks.requested_packages(
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
