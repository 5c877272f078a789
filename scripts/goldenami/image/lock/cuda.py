"""The CUDA of a new lock: packages of an archive, or wheels of the package index that frameworks
share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from goldenami.core.errors import BadInput, NoFit
from goldenami.image.lock import frameworks
from goldenami.image.lock.compilation import driver_fit
from goldenami.image.lock.frameworks import FrameworkRequest, FrameworkResolver
from goldenami.image.lock.resolution import Resolution
from goldenami.model.locked.lockfile import Choice, Cuda, PassedOver
from goldenami.model.roles import role_packages
from goldenami.model.roles.recipes import CudaWheel
from goldenami.model.supported import compatibility
from goldenami.packages.apt import Deb
from goldenami.packages.pypi import PyFile

TOOLKIT = "cuda-toolkit"
"""The project on the package index whose extras pin NVIDIA's wheels of one CUDA release."""
OWN_ENVIRONMENT = "cuda"
"""The environment of CUDA's wheels in an image without frameworks."""
FIRST_WITH_NVCC = 13
"""The first CUDA major whose wheels hold nvcc. `nvidia-cuda-nvcc-cu12` has only ptxas and libnvvm
(12.0 to 12.9, 2026-11)."""
_RUNTIME = re.compile(r"nvidia-cuda-runtime(-cu\d+)?")
_PARTS = ("nvidia-*", "cuda-*")
"""Patterns of projects that are installed with CUDA, before the frameworks. Libraries that only
frameworks use are among them."""


def of_packages(resolution: Resolution, debs: Sequence[Deb]) -> Cuda | None:
    """The CUDA among `debs`, checked against the driver and the declared GPUs; None if CUDA comes
    from wheels or is not asked for."""
    if not _is_asked_for(resolution) or from_wheels(resolution):
        return None
    runtime = next((deb for deb in debs if driver_fit.CUDA_RUNTIME.fullmatch(deb.name)), None)
    if runtime is None:
        raise NoFit(
            "the closure has no CUDA runtime library, so the CUDA version is unknown",
            hint="see roles/cuda/vars",
        )
    version, fitted = driver_fit.cuda_release(runtime.version), resolution.fitted
    why = _prove(resolution, version)
    architectures = resolution.derived["cuda"]["cuda_architectures"]
    drivers, driver = compatibility.load(resolution.root), fitted.driver if fitted else ""
    passed_over = driver_fit.newer_cuda(resolution.apt, version, driver, architectures, drivers)
    _derive(resolution, version)
    _choose(resolution, version, why, passed_over)
    return Cuda(version=version, variant=resolution.setting("cuda", "variant"), why=why)


def from_wheels(resolution: Resolution) -> bool:
    """Whether the image's CUDA comes from the package index."""
    return _is_asked_for(resolution) and bool(resolution.setting("cuda", "source") == "wheels")


def requirement(resolution: Resolution, resolver: FrameworkResolver) -> str:
    """pip's requirement for the wheels of the CUDA release that the definition or its frameworks
    name."""
    release = resolution.setting("cuda", "release") or _release_of_frameworks(resolver)
    variant = resolution.setting("cuda", "variant")
    facts = role_packages.facts(
        resolution.root, "cuda", resolution.platform, resolution.given("cuda")
    )
    if variant == "nvcc":
        # The variant nvcc takes the compiler from the distribution and only the libraries from
        # wheels.
        _demand_same_major(facts["__cuda_distribution_version"], release, resolution)
    if variant == "toolkit" and int(release.partition(".")[0]) < FIRST_WITH_NVCC:
        raise NoFit(
            f"the package index has no nvcc of CUDA {release}: NVIDIA's wheels hold it "
            "from CUDA "
            f"{FIRST_WITH_NVCC}.0 on, those of 12 ptxas and libnvvm only",
            hint="set cuda_variant: jit for these, nvcc for the distribution's besides, or "
            "take a driver for CUDA 13",
        )
    versions = resolver.index.versions(TOOLKIT)
    if not any(f"{version}.".startswith(f"{release}.") for version in versions):
        releases = list(dict.fromkeys(".".join(version.split(".")[:2]) for version in versions))
        raise NoFit(
            f"the package index has no CUDA {release}: its {TOOLKIT} is {', '.join(releases)}",
            hint="set cuda_release to one of these, or leave it to the frameworks",
        )
    return f"{TOOLKIT}[{','.join(facts['__cuda_parts'])}]=={release}.*"


def _demand_same_major(nvcc: str, release: str, resolution: Resolution) -> None:
    if nvcc.partition(".")[0] != release.partition(".")[0]:
        raise NoFit(
            f"cuda_variant is nvcc, and the distribution's nvcc is of CUDA {nvcc}: nothing that it "
            f"compiles runs with wheels of CUDA {release}",
            hint=f"set cuda_variant: toolkit from CUDA {FIRST_WITH_NVCC} on, jit for others",
        )
    drivers = compatibility.load(resolution.root)
    drivers.check_architectures(nvcc, resolution.derived["cuda"]["cuda_architectures"])


def _release_of_frameworks(resolver: FrameworkResolver) -> str:
    cuda_by_framework = dict[str, str]()
    for name in resolver.request.names:
        wheel = resolver.fitting(name).recipe.wheel
        if isinstance(wheel, CudaWheel):
            cuda_by_framework[name] = wheel.cuda
    if len(set(cuda_by_framework.values())) == 1:
        return cuda_by_framework.popitem()[1]
    listed = ", ".join(
        f"{name} has CUDA {release}" for name, release in sorted(cuda_by_framework.items())
    )
    raise BadInput(
        f"cuda_source is wheels, and {listed or 'no framework of the image has CUDA'}",
        hint='set cuda_release, such as "13.2"',
    )


def of_wheels(
    resolution: Resolution,
    files: Sequence[PyFile],
    request: FrameworkRequest,
) -> Cuda:
    """The CUDA among `files`, which were resolved with the frameworks, or alone if there are
    none."""
    parts = list[PyFile]()
    for file in files:
        if any(fnmatchcase(file.project, pattern) for pattern in _PARTS):
            parts.append(file)
    runtime = next(file for file in parts if _RUNTIME.fullmatch(file.project))
    version = ".".join(runtime.version.split(".")[:2])
    why = _prove(resolution, version)
    environment = request.shared_environment or OWN_ENVIRONMENT
    _derive(resolution, version, environment=environment, wheels=parts)
    _choose(resolution, version, why, [])
    return Cuda(
        version=version,
        variant=resolution.setting("cuda", "variant"),
        why=why,
        environment=environment,
        wheels=parts,
        allow=frameworks.allowances(resolution.root, parts),
    )


def _prove(resolution: Resolution, version: str) -> str:
    """The reason why CUDA `version` runs on the driver. Raises NoFit if it does not, or lacks a
    declared GPU architecture."""
    fitted, drivers = resolution.fitted, compatibility.load(resolution.root)
    why = "no driver in this image"
    if fitted:
        why = drivers.check_cuda(version, fitted.driver)
    drivers.check_architectures(version, resolution.derived["cuda"]["cuda_architectures"])
    return why


def _derive(
    resolution: Resolution, version: str, *, environment: str = "", wheels: Sequence[PyFile] = ()
) -> None:
    resolution.derived["cuda"] |= {
        "cuda_version": version,
        "cuda_environment": environment,
        "cuda_wheels": frameworks.told(wheels),
    }


def _choose(resolution: Resolution, version: str, why: str, passed_over: list[PassedOver]) -> None:
    resolution.choices.append(
        Choice(component="cuda", taken=version, why=why, passed_over=passed_over)
    )


def _is_asked_for(resolution: Resolution) -> bool:
    return "cuda" in resolution.definition.roles
