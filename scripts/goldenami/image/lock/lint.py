"""Offline checks that the parts of a lock fit each other. A rule yields one message for each
violation."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path

from goldenami.core import clock
from goldenami.core.errors import BadInput, GoldenError, NoFit
from goldenami.core.records import Record
from goldenami.model.definitions.definition import Definition
from goldenami.model.locked import lockfile
from goldenami.model.locked.lockfile import Lock, Package
from goldenami.model.supported import compatibility, hardware, support
from goldenami.model.supported.compatibility import DriverTable
from goldenami.model.supported.hardware import Family, Maker, branch_refusal, by_modules
from goldenami.model.supported.support import SupportState
from goldenami.packages.pypi import PyFile

_DRIVER_SOURCES = ("nvidia-graphics-drivers", "nvidia-open-gpu-kernel-modules", "fabric-manager")
_FABRIC_MANAGER = re.compile(r"nvidia-fabric-?manager(-\d+)?")
"""Name of the fabric manager's package: NVIDIA's repository spells it in both ways, Ubuntu adds the
branch."""
_HELPERS = ("nvidia-persistenced", "nvidia-modprobe")
_TOOLKIT = "nvidia-container-toolkit"
_TOOLKIT_PARTS = (
    _TOOLKIT,
    "nvidia-container-toolkit-base",
    "libnvidia-container-tools",
    "libnvidia-container1",
)
_GPU_SOURCE = "container_runtime_gpu_source"
_ENGINES = frozenset({"containerd", "containerd.io", "cri-o", "docker-ce", "docker.io", "podman"})
_CUDA_PROJECT = re.compile(r"(?:^|-)cu(?:da)?(\d{2})(?:x|-|$)")
"""CUDA's major in project names on the package index: nvidia-nccl-cu12, cupy-cuda12x,
jax-cuda12-plugin."""
_CUDA_BUILD = re.compile(r"\+cu(\d{2})(\d)$")
"""CUDA's major and minor in versions: torch 2.7.0+cu128 is for CUDA 12.8."""
_CUDA_RUNTIME = re.compile(r"nvidia-cuda-runtime(-cu\d+)?")
_FOR_CPUS = frozenset({"hnswlib", "numpy", "pandas", "scikit-learn"})
"""Frameworks that have no GPU code at all."""


@dataclass(frozen=True)
class Tables:
    """What is known of the declared families, and of drivers."""

    families: dict[str, Family]
    drivers: DriverTable


def one_driver(lock: Lock, _: Tables) -> Iterator[str]:
    """Every package built from the driver's sources has the driver's version: a mix does not
    load."""
    if lock.driver is None:
        return
    for name, package in sorted(lock.packages.items()):
        # Distributions package persistenced from a source of its own; in NVIDIA's repository each
        # driver release has one.
        belongs_to_driver = (
            package.source.startswith(_DRIVER_SOURCES)
            or _FABRIC_MANAGER.fullmatch(name) is not None
            or (name == "nvidia-persistenced" and lock.driver.source == "nvidia")
        )
        if belongs_to_driver and compatibility.upstream(package.version) != lock.driver.version:
            yield f"{name} is {package.version}, the driver is {lock.driver.version}"


def same_branch(lock: Lock, _: Tables) -> Iterator[str]:
    """Helpers that distributions package apart (persistenced, modprobe) are at least as new as the
    driver's branch."""
    for name in _HELPERS:
        package = lock.packages.get(name)
        if (
            lock.driver
            and package
            and int(compatibility.upstream(package.version).split(".")[0]) < int(lock.driver.branch)
        ):
            yield (
                f"{name} is {package.version}, older than the driver's branch {lock.driver.branch}"
            )


def one_version(lock: Lock, _: Tables) -> Iterator[str]:
    """A package that compiled the modules and is in the image too has the same version in both."""
    toolchain = dict[str, Package]()
    for modules in lock.compiled_modules().values():
        toolchain |= modules.build
    for name in sorted(toolchain.keys() & lock.packages.keys()):
        if toolchain[name].version != lock.packages[name].version:
            yield (
                f"{name} is {lock.packages[name].version}, but the modules were compiled with "
                f"{toolchain[name].version}"
            )


def container_toolkit(lock: Lock, _: Tables) -> Iterator[str]:
    """NVIDIA's container toolkit is among the packages if the definition asks for it, and all its
    parts have one version."""
    is_wanted = (
        _TOOLKIT in lock.variables.get("os_updates_extra_packages", ())
        or lock.variables.get(_GPU_SOURCE) == "nvidia"
    )
    if is_wanted and _TOOLKIT not in lock.packages:
        yield f"{_TOOLKIT} is asked for, but not among the packages"
    versions = {
        name: lock.packages[name].version for name in _TOOLKIT_PARTS if name in lock.packages
    }
    if len(set(versions.values())) > 1:
        parts = ", ".join(f"{name} {version}" for name, version in versions.items())
        yield f"the container toolkit is of several versions: {parts}"


def containers_see_gpus(lock: Lock, _: Tables) -> Iterator[str]:
    """An image with a driver and a container engine has golden-cdi or the toolkit, which give GPUs
    to containers."""
    engines = sorted(_ENGINES & lock.packages.keys())
    has_gpu_support = lock.variables.get(_GPU_SOURCE) == "debian" or _TOOLKIT in lock.packages
    if lock.driver and engines and not has_gpu_support:
        yield (
            f"containers of {', '.join(engines)} see no GPU: "
            f"set {_GPU_SOURCE} of role container_runtime"
        )


def cuda_runs_on_driver(lock: Lock, tables: Tables) -> Iterator[str]:
    """The driver is new enough for the image's CUDA."""
    if lock.cuda and lock.driver:
        yield from _refusal(tables.drivers.check_cuda, lock.cuda.version, lock.driver.version)


def containers_run_on_driver(lock: Lock, _: Tables) -> Iterator[str]:
    """The driver is new enough for each container that goldenami made."""
    for container in lock.containers:
        if lock.driver and not compatibility.runs_on(container.least_driver, lock.driver.version):
            yield (
                f"{container.name} asks for driver {container.least_driver}, "
                f"the image has {lock.driver.version}"
            )


def cuda_reaches_hardware(lock: Lock, tables: Tables) -> Iterator[str]:
    """The image's CUDA compiles for every declared GPU."""
    if lock.cuda:
        yield from _refusal(tables.drivers.check_architectures, lock.cuda.version, lock.hardware.sm)


def wheels_run_on_driver(lock: Lock, tables: Tables) -> Iterator[str]:
    """The driver is new enough for the CUDA of every wheel."""
    if lock.driver is None:
        return
    for name, files in _wheels(lock):
        for file in files:
            if cuda := _cuda_of(file):
                for message in _refusal(tables.drivers.check_cuda, cuda, lock.driver.version):
                    yield f"{name}: {file.project} {file.version}: {message}"


def _wheels(lock: Lock) -> list[tuple[str, list[PyFile]]]:
    """The wheels of each framework's environment, by the framework's name; without frameworks those
    of `python_packages`."""
    # With frameworks the other packages are in the frameworks' environments already.
    if lock.python and not lock.frameworks:
        return [("python_packages", lock.python.wheels)]
    return [
        (framework.name, [framework.wheel, *framework.requires]) for framework in lock.frameworks
    ]


def _cuda_of(file: PyFile) -> str | None:
    """The CUDA that a wheel needs, by its name and version, or None: "12.8", or "12.0" if they name
    only the major."""
    if _CUDA_RUNTIME.fullmatch(file.project):
        return ".".join(file.version.split(".")[:2])
    if match := _CUDA_BUILD.search(file.version):
        return f"{match[1]}.{match[2]}"
    if match := _CUDA_PROJECT.search(file.project):
        return f"{match[1]}.0"
    return None


def frameworks_use_gpus(lock: Lock, _: Tables) -> Iterator[str]:
    """In an image with declared GPUs each framework has code for them: compiled here, or from
    wheels with CUDA."""
    if not lock.hardware.sm:
        return
    for framework in lock.frameworks:
        wheel, compiled = framework.wheel, framework.made
        has_code = compiled is not None and bool(compiled.target.sm)
        if not has_code:
            has_code = any(map(_cuda_of, [wheel, *framework.requires]))
        if framework.name not in _FOR_CPUS and not has_code:
            yield (
                f"{framework.name} leaves the GPUs idle: {wheel.project} {wheel.version} has "
                "no code for "
                f"sm_{', sm_'.join(lock.hardware.sm)}"
            )


def cuda_without_gpus(lock: Lock, _: Tables) -> Iterator[str]:
    """An image without declared GPUs has no wheels with CUDA, nor the libraries that those
    bring."""
    if lock.hardware.sm:
        return
    for name, files in _wheels(lock):
        idle = [file for file in files if _cuda_of(file) or file.project.startswith("nvidia-")]
        if idle:
            size = sum(file.size for file in idle) / 1e9
            yield (
                f"{name} brings {len(idle)} wheels of CUDA ({size:.1f} GB), and no "
                "GPU is declared: an "
                "index with its builds for CPUs (such as torch 2.15.0+cpu) has none"
            )


def flavour_runs_hardware(lock: Lock, tables: Tables) -> Iterator[str]:
    """The flavour of the kernel modules (open or proprietary) runs every declared GPU."""
    if lock.driver:
        yield from _refusal(
            compatibility.check_flavour,
            lock.driver.flavour,
            *by_modules(tables.families, lock.hardware.families),
        )


def branch_runs_hardware(lock: Lock, tables: Tables) -> Iterator[str]:
    """The driver's branch runs every declared GPU."""
    if lock.driver:
        refusal = branch_refusal(
            tables.families, lock.hardware.families, lock.driver.branch, tables.drivers
        )
        yield from filter(None, [refusal])


def one_kernel(lock: Lock, _: Tables) -> Iterator[str]:
    """The lock has one kernel, and the modules were compiled for it with its own headers."""
    for name in sorted(lock.packages):
        if name.startswith("linux-image-") and name != lock.kernel.package:
            yield f"{name} is a second kernel beside {lock.kernel.package}"
    kernel = lock.packages.get(lock.kernel.package)
    if kernel is None or kernel.version != lock.kernel.version:
        yield f"{lock.kernel.package} {lock.kernel.version} is not among the packages"
    for modules in lock.compiled_modules().values():
        if (
            not modules.package.endswith(lock.kernel.release)
            or lock.kernel.package not in modules.depends
        ):
            yield f"the modules {modules.package} are not for the kernel {lock.kernel.release}"
        headers = modules.build.get(f"linux-headers-{lock.kernel.release}")
        if headers is None or headers.version != lock.kernel.version:
            yield (
                "the modules were not compiled with the headers of "
                f"{lock.kernel.release} {lock.kernel.version}"
            )


def supported_parts(lock: Lock, root: Path, day: str) -> Iterator[str]:
    """Distribution, kernel, driver and CUDA still get fixes on `day` (ISO 8601). The report says
    the same of them."""
    checked_day = date.fromisoformat(day)
    for part in support.of_lock(
        root, lock.model_dump(mode="json", include={"base", "kernel", "driver", "cuda"})
    ):
        if part.state(checked_day) is SupportState.ENDED:
            name = f"{part.part} {part.version}"
            if part.note:
                name += f" ({part.note})"
            yield f"support of {name} {part.words(checked_day)}: {part.advice(checked_day)}"


def used_accelerators(lock: Lock, tables: Tables) -> Iterator[str]:
    """Every accelerator of the declared families has a driver in the image, and the driver has a
    GPU."""
    gpus = {name: gpu for name in lock.hardware.families if (gpu := tables.families[name].gpu)}
    nvidia = [name for name, gpu in gpus.items() if gpu.maker is Maker.NVIDIA]
    if nvidia and lock.driver is None:
        yield (
            f"the GPUs of {', '.join(nvidia)} stay idle: "
            "the image has no NVIDIA driver (role nvidia_driver)"
        )
    if lock.driver and not nvidia:
        yield (
            f"none of {', '.join(lock.hardware.families)} has an NVIDIA GPU for the image's driver"
        )
    for name in lock.hardware.families:
        # A chip (Inferentia, Trainium) or another maker's GPU has no driver here.
        unused = tables.families[name].chip
        if not unused and name in gpus and name not in nvidia:
            unused = gpus[name].name
        if unused:
            yield f"the {unused} of {name} stays idle: goldenami installs drivers of NVIDIA only"


def fabric_manager(lock: Lock, tables: Tables) -> Iterator[str]:
    """An image for families with an NVSwitch has the fabric manager: CUDA does not start there
    without it (NVIDIA's user guide)."""
    switched = [name for name in lock.hardware.families if tables.families[name].nvswitch]
    has_fabric_manager = any(_FABRIC_MANAGER.fullmatch(name) for name in lock.packages)
    if lock.driver and switched and not has_fabric_manager:
        verb = "needs" if len(switched) == 1 else "need"
        yield (
            f"{', '.join(switched)} {verb} the fabric manager, which the image has not: "
            "CUDA does not start there"
        )


def _refusal(check: Callable[..., object], *args: object) -> Iterator[str]:
    """Yield the message if `check(*args)` raises NoFit."""
    try:
        check(*args)
    except NoFit as error:
        yield error.message


LintRule = Callable[[Lock, Tables], Iterator[str]]
ERRORS: tuple[LintRule, ...] = (
    one_driver,
    same_branch,
    one_version,
    cuda_runs_on_driver,
    containers_run_on_driver,
    cuda_reaches_hardware,
    flavour_runs_hardware,
    branch_runs_hardware,
    one_kernel,
    container_toolkit,
    fabric_manager,
    wheels_run_on_driver,
)
WARNINGS: tuple[LintRule, ...] = (
    used_accelerators,
    containers_see_gpus,
    frameworks_use_gpus,
    cuda_without_gpus,
)


class Severity(StrEnum):
    """An error stops a release; a warning does so only under `--strict`."""

    ERROR = "error"
    WARNING = "warning"


class LintFinding(Record):
    """One violation of a rule."""

    rule: str
    severity: Severity
    message: str


def check(lock: Lock, root: Path, day: str | None = None) -> list[LintFinding]:
    """All violations of a lock of the repository `root` on `day` (ISO 8601; today if None), errors
    first."""
    today = day or clock.now().date().isoformat()
    tables = Tables(hardware.load(root), compatibility.load(root))
    results = [(rule.__name__, Severity.ERROR, rule(lock, tables)) for rule in ERRORS]
    results += [(rule.__name__, Severity.WARNING, rule(lock, tables)) for rule in WARNINGS]
    # This rule needs the day, so it is no LintRule.
    results.append((supported_parts.__name__, Severity.WARNING, supported_parts(lock, root, today)))
    findings = list[LintFinding]()
    for name, severity, messages in results:
        for message in messages:
            findings.append(LintFinding(rule=name, severity=severity, message=message))
    return findings


def demand(lock: Lock, root: Path, refusal: type[GoldenError] = BadInput) -> None:
    """Raise `refusal` if a rule with severity ERROR is violated; its tail lists all such violations
    with their rules."""
    errors = [finding for finding in check(lock, root) if finding.severity is Severity.ERROR]
    if errors:
        raise refusal(
            f"the parts of {lock.image} do not fit: {errors[0].message}",
            tail="\n".join(f"{finding.message} [{finding.rule}]" for finding in errors),
            hint=f"change the definition, or run `make lock IMAGE={lock.image}` once "
            "the archives agree",
        )


def committed(root: Path, definition: Definition) -> tuple[Lock, str]:
    """The lock of `definition` with its SHA-256. Raises BadInput if it is stale or edited, or if
    its parts do not fit."""
    lock, digest = lockfile.read(lockfile.path_of(root, definition.image))
    lockfile.check_fresh(root, lock, definition)
    demand(lock, root)
    return lock, digest
