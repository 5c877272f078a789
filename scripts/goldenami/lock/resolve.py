"""The `lock` stage: a definition resolved to exact files, and a driver proved to compile on the kernel."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from goldenami.compilation import driver_fit, dummy_packages
from goldenami.compilation.driver_fit import FittedDriver, LockConstraints
from goldenami.core.errors import NoFit
from goldenami.core.progress import Progress
from goldenami.core.records import sha256_text
from goldenami.local import module_signing
from goldenami.lock import frameworks, lint
from goldenami.model import compatibility, driver_requests, hardware, lockfile, recipes, release_dates, role_packages
from goldenami.model.definition import Definition
from goldenami.model.lockfile import (
    BaseLock,
    Choice,
    Cuda,
    Driver,
    Kernel,
    KernelModules,
    Lock,
    Package,
    Step,
    Suite,
    Target,
)
from goldenami.model.platforms import PLATFORMS, Platform
from goldenami.packages import local_repository, mirrors
from goldenami.packages.apt import AptRoot, Deb, store_requests
from goldenami.packages.pypi import Index
from goldenami.packages.store import Store

BASE_PACKAGES = ("openssh-server", "python3", "python3-apt", "systemd-sysv", "dbus", "ca-certificates")
"""What Ansible needs to reach and manage a tree, beyond the distribution's own base set."""
SEED = ("?essential", "?priority(required)", "?priority(important)", "apt")
"""mmdebstrap's `important` variant, in apt's own pattern language."""


@dataclass
class Resolution:
    """The state of one lock in the making."""

    root: Path
    definition: Definition
    store: Store
    progress: Progress
    log: Path
    platform: Platform
    apt: AptRoot
    derived: dict[str, dict[str, Any]] = field(default_factory=dict)
    choices: list[Choice] = field(default_factory=list)
    keep: LockConstraints = field(default_factory=LockConstraints)
    offered: list[Deb] = field(default_factory=list)
    frameworks: frameworks.ResolvedFrameworks = frameworks.NO_FRAMEWORKS

    def given(self, role: str) -> dict[str, Any]:
        """What the definition and the lock give to `role`."""
        return {**self.definition.variables(role), **self.derived.get(role, {})}

    def setting(self, role: str, name: str) -> Any:
        """One effective variable of `role`."""
        return role_packages.variables(self.root, role, self.given(role))[f"{role}_{name}"]

    def fetch(self, debs: list[Deb]) -> None:
        """Have the files in the store."""
        self.store.fetch(store_requests(debs, self.apt.uris))


def run(
    root: Path, definition: Definition, store: Store, progress: Progress, log: Path, *,
    keep: LockConstraints | None = None,
) -> tuple[Lock, str]:
    """Resolve `definition`, write its lock; returns it with its SHA-256. What `keep` names does not move.

    NoFit where the parts do not fit each other; the old lock stays.
    """
    path = lockfile.path_of(root, definition.image)
    with opened(root, definition, store, progress, log, keep) as resolution:
        if former := lockfile.previous(root, definition.image):
            release_dates.demand_progress(former, [Suite(**entry) for entry in _upstream(resolution.apt)])
        lock = _resolve(resolution)
    lint.demand(lock, hardware.load(root), NoFit)
    lock = _settled(lockfile.previous(root, definition.image), lock)
    return lock, lockfile.write(path, lock)


def _settled(old: Lock | None, lock: Lock) -> Lock:
    """`lock`, or the one that is there already if they differ only in how the archives were signed last."""
    if old is None:
        return lock
    base = old.base.model_copy(update={"suites": lock.base.suites})
    return old if old.model_copy(update={"base": base}) == lock else lock


@contextmanager
def opened(
    root: Path, definition: Definition, store: Store, progress: Progress, log: Path,
    keep: LockConstraints | None = None,
) -> Iterator[Resolution]:
    """A resolution with today's indexes, held for this process."""
    resolution = _open(root, definition, store, progress, log, keep or LockConstraints())
    apt = resolution.apt
    with apt.locked():
        (apt.folder / "built").mkdir(parents=True, exist_ok=True)
        local_repository.write(store, [], apt.folder / "built", suite="golden", epoch=0)
        apt.configure()
        apt.pin({})
        with progress.step("indexes", ", ".join(source.archive for source in apt.sources)):
            apt.update()
        yield resolution


def _open(
    root: Path, definition: Definition, store: Store, progress: Progress, log: Path, keep: LockConstraints,
) -> Resolution:
    base = definition.base
    nvidia = definition.variables("nvidia_driver").get("nvidia_driver_source") == "nvidia"
    sources = mirrors.sources(base.distribution, base.release, backports=base.backports, nvidia=nvidia)
    uris = mirrors.locate([source.archive for source in sources])
    folder = store.cache.apt / sha256_text(repr((definition.image, sources, sorted(uris.items()))))[:16]
    apt = AptRoot(folder=folder, sources=tuple(sources), uris=uris, architecture=base.architecture,
                  local_repo=folder / "built",
                  stock={package.sha256: package.deb(name) for name, package in keep.stock.items()})
    return Resolution(root, definition, store, progress, log, PLATFORMS[base.release], apt, keep=keep)


def _resolve(resolution: Resolution) -> Lock:
    apt, progress, definition = resolution.apt, resolution.progress, resolution.definition
    _hold(resolution)
    kernels = [resolution.keep.kernel] if resolution.keep.kernel else driver_fit.kernels(apt, definition.kernel)
    fitted = _fit_driver(resolution, kernels) if "nvidia_driver" in definition.roles else None
    kernel = fitted.kernel if fitted else kernels[0]
    if fitted is None:
        resolution.choices.append(Choice(component="kernel", taken=kernel.release, passed_over=[],
                                         why=_why(resolution, kernel)))
    _derive(resolution, kernel, fitted)
    with progress.step("packages"):
        base = [deb.name for deb in apt.solve([*SEED, *BASE_PACKAGES])]
        debs = _solve(resolution)
        cuda = _cuda(resolution, fitted, debs)
    if definition.frameworks:
        _frameworks(resolution)
    with progress.step("fetch", f"{sum(deb.size for deb in debs) / 1e6:.0f} MB in {len(debs)} packages"):
        resolution.fetch(debs)
    with progress.step("steps"):
        steps = _steps(resolution, fitted, base, debs)
    return _assemble(resolution, kernel, fitted, cuda, base, debs, steps)


def _why(resolution: Resolution, kernel: Kernel) -> str:
    """Why an image without a driver has `kernel`: the same words whether a policy led there or not."""
    with contextlib.suppress(NoFit):
        if driver_fit.kernels(resolution.apt, resolution.definition.kernel)[0] == kernel:
            return "the newest"
    return "the policy keeps it"


def _epoch(resolution: Resolution, debs: list[Deb]) -> int:
    """When the image's newest package was built, in seconds since 1970: no new date without a new file.

    A package that is younger than the index that lists it was built by a wrong clock and does not count.
    """
    indexes = max(int(parsedate_to_datetime(entry["date"]).timestamp()) for entry in _upstream(resolution.apt))
    built = [local_repository.built_at(resolution.store, deb) for deb in debs]
    return max((date for date in built if date <= indexes), default=indexes)


def _hold(resolution: Resolution) -> None:
    """Pin what is to stay, and offer from the store what the archive has dropped of it."""
    apt, keep = resolution.apt, resolution.keep
    found = apt.entries(sorted(keep.stock))
    resolution.offered = [package.deb(name) for name, package in sorted(keep.stock.items())
                          if package.version not in {one.version for one in found.get(name, [])}]
    resolution.fetch(resolution.offered)
    if resolution.offered:
        local_repository.write(resolution.store, resolution.offered, apt.folder / "built", suite="golden", epoch=0)
        apt.update()
    apt.pin(keep.packages)


def _upstream(apt: AptRoot) -> list[dict[str, str]]:
    return [entry for entry in apt.releases() if entry["suite"] != "golden"]


def _fit_driver(resolution: Resolution, kernels: list[Kernel]) -> FittedDriver:
    given, signer = resolution.given("nvidia_driver"), module_signing.configured()
    requests = driver_requests.requests(resolution.root, resolution.definition, given)
    wanted = f"{resolution.setting('nvidia_driver', 'branch')}, {resolution.setting('nvidia_driver', 'flavour')}"
    with resolution.progress.step("driver", f"branch {wanted}"):
        compile_pair = driver_fit.compiler(
            resolution.apt, resolution.store, suite=resolution.definition.base.release,
            log=resolution.log, fetch=resolution.fetch,
            signature=signer.signature if signer else None,
            on_try=lambda what: resolution.progress.say(f"trying {what}"),
        )
        fitted = driver_fit.fit(resolution.apt, requests, kernels, compile_pair=compile_pair,
                                only=resolution.keep.driver)
    for choice in fitted.choices:
        for entry in choice.passed_over:
            resolution.progress.say(f"passed over {entry.what}: {entry.reason}")
    resolution.choices.extend(fitted.choices)
    _offer_modules(resolution, fitted)
    return fitted


def _offer_modules(resolution: Resolution, fitted: FittedDriver) -> None:
    """Put the compiled package into the private root's local repository, so that apt can choose it."""
    assert fitted.outcome.deb_sha256 is not None
    deb = built_deb(fitted.build.package, fitted.driver, fitted.outcome.deb_sha256, fitted.outcome.deb_size,
                    fitted.outcome.installed_size)
    local_repository.write(resolution.store, [deb, *resolution.offered], resolution.apt.folder / "built",
                           suite="golden", epoch=0)
    resolution.apt.pin({**resolution.keep.packages, **fitted.pins})
    resolution.apt.update()


def built_deb(package: str, driver: str, sha256: str, size: int, installed_size: int) -> Deb:
    """The resolver's view of a package made by the lock step."""
    return Deb(name=package, version=f"{driver}-1", architecture="amd64", sha256=sha256, size=size,
               installed_size=installed_size, archive="built", path=f"{package}.deb", source=package)


def _derive(resolution: Resolution, kernel: Kernel, fitted: FittedDriver | None) -> None:
    """The role variables that follow from what was chosen."""
    sm = hardware.architectures(resolution.root, resolution.definition.hardware)
    resolution.derived["kernel"] = {"kernel_package": kernel.package, "kernel_release": kernel.release}
    resolution.derived["cuda"] = {"cuda_architectures": sm}
    if fitted is not None:
        resolution.derived["nvidia_driver"] = {
            "nvidia_driver_branch": fitted.driver.split(".")[0], "nvidia_driver_flavour": fitted.flavour,
            "nvidia_driver_version": fitted.driver,
            "nvidia_driver_kernel_release": kernel.release, "nvidia_driver_modules_package": fitted.build.package,
            "nvidia_driver_modules_signer": signed.signer if (signed := fitted.build.signature) else "",
        }
        _leave_out_gsp(resolution, fitted.flavour)


def _leave_out_gsp(resolution: Resolution, flavour: str) -> None:
    if families := driver_requests.without_gsp(resolution.root, resolution.definition, flavour):
        resolution.derived["nvidia_driver"][driver_requests.GSP_VARIABLE] = False
        resolution.choices.append(Choice(component="GSP firmware", taken="off", passed_over=[],
                                         why=f"EC2's advice for {', '.join(families)} with proprietary modules"))


def _solve(resolution: Resolution) -> list[Deb]:
    names = [name for role in resolution.definition.role_names
             for name in role_packages.packages(resolution.root, role, resolution.platform, resolution.given(role))]
    return resolution.apt.solve(list(dict.fromkeys([*SEED, *BASE_PACKAGES, *names])))


def _frameworks(resolution: Resolution) -> None:
    """Wheel or source for each framework, exact files, and what has to be compiled compiled (or found in the cache)."""
    definition = resolution.definition
    with resolution.progress.step("frameworks", ", ".join(definition.frameworks)):
        found = frameworks.resolve(*wanted_frameworks(resolution))
    resolution.frameworks = found
    resolution.choices.extend(found.choices)
    modules = {name: recipes.load(resolution.root, name).module for name in definition.frameworks}
    resolution.derived["frameworks"] = {
        "frameworks_installed": frameworks.variables(found.frameworks, modules),
        "frameworks_cpu_features": lockfile.derive_hardware(resolution.root, definition).features,
    }


def wanted_frameworks(resolution: Resolution) -> tuple[frameworks.FrameworkRequest, frameworks.ResolverContext]:
    """What the definition asks of frameworks, for which hardware, and what resolving and building it needs."""
    definition, shared = resolution.definition, lockfile.derive_hardware(resolution.root, resolution.definition)
    cpu = shared.cpus[0] if len(shared.cpus) == 1 else f"{shared.march} ({', '.join(shared.cpus)})"
    request = frameworks.FrameworkRequest(
        names=definition.frameworks, shared_environment=resolution.setting("frameworks", "shared_environment"),
        cpus=shared.cpus, target=Target(cpu=cpu, options=shared.options, sm=shared.sm), suite=definition.base.release,
        gcc=resolution.platform.gcc,
        driver=resolution.derived.get("nvidia_driver", {}).get("nvidia_driver_version", ""),
    )
    return request, frameworks.ResolverContext(
        root=resolution.root, apt=resolution.apt, store=resolution.store, index=Index.configured(),
        progress=resolution.progress, log=resolution.log, fetch_debs=resolution.fetch,
        previous_frameworks=former.frameworks if (former := lockfile.previous(resolution.root,
                                                                              definition.image)) else (),
    )


def _steps(resolution: Resolution, fitted: FittedDriver | None, base: list[str], debs: list[Deb]) -> list[Step]:
    """Which packages each step of the bake installs, solved by apt among the image's own files only.

    So a step's layer depends on no package of a later step, and a driver release leaves the layers below it alone.
    """
    stand_ins = _stand_ins(resolution, fitted, debs)
    early = _closure(resolution, "early", [deb for deb in debs if deb.name not in stand_ins] + list(stand_ins.values()))
    whole = _closure(resolution, "whole", debs) if stand_ins else early
    names, known, steps, current = [*SEED, *BASE_PACKAGES], set(base), list[Step](), early
    for roles in resolution.definition.steps:
        current = whole if "nvidia_driver" in roles else current
        names += [name for role in roles for name in role_packages.packages(
            resolution.root, role, resolution.platform, resolution.given(role))]
        found = {deb.name for deb in current.solve(list(dict.fromkeys(names)))}
        standing = {name: Package.of(stand_ins[name]) for name in found & stand_ins.keys() if current is early}
        new = found - known - standing.keys()
        steps.append(Step(roles=roles, packages=sorted(new), stand_ins=standing))
        known |= new
    late = {deb.name for deb in debs} - known
    return [*steps[:-1], steps[-1].model_copy(update={"packages": sorted({*steps[-1].packages, *late})})]


def _stand_ins(resolution: Resolution, fitted: FittedDriver | None, debs: list[Deb]) -> dict[str, Deb]:
    """A stand-in for each package of the driver's own sources, which steps before the driver's may depend on."""
    if fitted is None:
        return {}
    sources = role_packages.facts(resolution.root, "nvidia_driver", resolution.platform,
                              resolution.given("nvidia_driver"))["__nvidia_driver_pinned_sources"]
    branch = fitted.driver.split(".")[0]
    return {deb.name: dummy_packages.make(resolution.store, deb.name, branch, deb.architecture)
            for deb in debs if deb.source in sources}


def _closure(resolution: Resolution, name: str, debs: list[Deb]) -> AptRoot:
    """An apt root that knows `debs` and nothing else."""
    folder = resolution.apt.folder / "closure" / name
    offered = local_repository.write(resolution.store, debs, folder / "repo", suite="golden", epoch=0)
    inner = AptRoot(folder=folder, sources=(), uris={}, architecture=resolution.apt.architecture, local_repo=offered)
    inner.configure()
    inner.pin({})
    inner.update()
    return inner


def _cuda(resolution: Resolution, fitted: FittedDriver | None, debs: list[Deb]) -> Cuda | None:
    """The CUDA that the closure contains, proved against the driver and the declared architectures."""
    if "cuda" not in resolution.definition.roles:
        return None
    found = next((deb for deb in debs if driver_fit.CUDA_RUNTIME.fullmatch(deb.name)), None)
    if found is None:
        raise NoFit("the closure has no CUDA runtime library, so the CUDA version is unknown",
                    hint="see roles/cuda/vars")
    version = driver_fit.cuda_release(found.version)
    why = compatibility.check_cuda(version, fitted.driver) if fitted else "no driver in this image"
    architectures = resolution.derived["cuda"]["cuda_architectures"]
    compatibility.check_architectures(version, architectures)
    resolution.derived["cuda"]["cuda_version"] = version
    newer = driver_fit.newer_cuda(resolution.apt, version, fitted.driver if fitted else "", architectures)
    resolution.choices.append(Choice(component="cuda", taken=version, why=why, passed_over=newer))
    return Cuda(version=version, variant=resolution.setting("cuda", "variant"), why=why)


def _assemble(
    resolution: Resolution, kernel: Kernel, fitted: FittedDriver | None, cuda: Cuda | None, base_names: list[str],
    debs: list[Deb], steps: list[Step],
) -> Lock:
    definition, root = resolution.definition, resolution.root
    base = BaseLock(
        distribution=definition.base.distribution, release=definition.base.release, major=resolution.platform.major,
        architecture=definition.base.architecture, suites=[Suite(**entry) for entry in _upstream(resolution.apt)],
    )
    return Lock(
        image=definition.image, description=definition.description, source_date_epoch=_epoch(resolution, debs),
        disk_size_gib=definition.disk_size_gib, base=base, kernel=kernel,
        driver=_driver(resolution, fitted) if fitted else None, cuda=cuda,
        hardware=lockfile.derive_hardware(root, definition), choices=resolution.choices, base_packages=base_names,
        packages={deb.name: Package.of(deb) for deb in debs},
        frameworks=resolution.frameworks.frameworks,
        toolchain={deb.name: Package.of(deb) for deb in resolution.frameworks.toolchain}, roles=definition.role_names,
        steps=steps,
        variables={name: value for role in definition.role_names
                   for name, value in role_packages.variables(root, role, resolution.given(role)).items()},
        inputs=lockfile.digests(root, definition),
    )


def _driver(resolution: Resolution, fitted: FittedDriver) -> Driver:
    branch = fitted.driver.split(".")[0]
    build = fitted.build
    return Driver(
        version=fitted.driver, branch=branch, flavour=fitted.flavour,
        source=resolution.setting("nvidia_driver", "source"), cuda=compatibility.CUDA_OF_BRANCH.get(branch, "unknown"),
        modules=KernelModules(
            key=build.key, package=build.package, source_package=build.source.name,
            compiler=fitted.outcome.compiler, signature=build.signature, provides=list(build.provides),
            depends=list(build.depends),
            build={deb.name: Package.of(deb) for deb in [build.source, *build.toolchain]},
        ),
    )
