"""Kernel modules compiled for a kernel before the image exists: the proof that they fit it.

The scratch tree holds the image's own compiler and the kernel's headers. It has no network and
nothing of the running kernel. The output is a Debian package, so the image's package database owns
the modules. Results, failures included, are kept in the cache under a key of everything that shapes
them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import Field

from goldenami.core import records, shell
from goldenami.core.errors import BadInput, HostNotReady, StageFailed
from goldenami.core.records import Record
from goldenami.core.terminal.progress import Progress
from goldenami.local.host import workspace
from goldenami.local.kernel import module_signing
from goldenami.local.sandbox import how_far, namespaces, program
from goldenami.model.builds.plans import ModulesPlan, ModulesResult, Tree
from goldenami.model.definitions.definition import DRIVER_MODULES
from goldenami.model.locked.lockfile import KernelModules, Lock, Package, Signature
from goldenami.packages.apt import AptRoot, Deb
from goldenami.packages.local_repository import LocalRepository
from goldenami.packages.store import Store

FORMAT = 6
"""Raise this when programs/compile_modules.py changes the output for the same inputs."""
_REVISION = "-1"
"""The part of a package's version that follows the modules' own version."""
EPOCH = 315532800
"""1980-01-01 in seconds since 1970, the earliest date that FAT and ZIP can hold: modules do not
change when an index does."""


def package_name(name: str, kernel_release: str) -> str:
    """The name of the package that holds the modules `name`, compiled for `kernel_release`."""
    return f"golden-{name}-modules-{kernel_release}"


def toolchain(apt: AptRoot, kernel_release: str, build_packages: Sequence[str]) -> list[Deb]:
    """The packages that compile modules for a kernel, and `build_packages`. Raises NoFit if apt
    finds no solution."""
    return apt.solve(
        [
            "?essential",
            "apt",
            "dkms",
            "make",
            "gcc",
            "kmod",
            f"linux-headers-{kernel_release}",
            *build_packages,
        ]
    )


class ModuleOutcome(Record):
    """The result of a compilation: the package's SHA-256, size in bytes and `modules`, or the
    compiler's first error line."""

    key: str
    deb_sha256: str | None
    deb_size: int
    installed_size: int
    compiler: str
    first_error: str
    seconds: float
    modules: list[str] = Field(default_factory=list)


@dataclass(frozen=True)
class ModuleBuild:
    """Modules to compile. `source` is the DKMS package or tarball, `toolchain` the closure of the
    scratch tree without it.

    `signature` is the identity of the key that signs the modules, or None.
    """

    name: str
    kernel_release: str
    version: str
    provides: Sequence[str]
    depends: Sequence[str]
    suite: str
    source: Deb
    toolchain: Sequence[Deb]
    signature: Signature | None = None

    @classmethod
    def of(cls, lock: Lock) -> list[ModuleBuild]:
        """The builds of all compiled modules of a lock."""
        builds = []
        for name, modules in lock.compiled_modules().items():
            tools = {tool: package.deb(tool) for tool, package in modules.build.items()}
            source = tools.pop(modules.source_package)
            # A bake may compile the driver's modules itself: then the lock has no package of them.
            if lock.driver and name == DRIVER_MODULES:
                version = lock.driver.version
            else:
                version = lock.packages[modules.package].version.removesuffix(_REVISION)
            builds.append(
                cls(
                    name=name,
                    kernel_release=lock.kernel.release,
                    version=version,
                    provides=modules.provides,
                    depends=modules.depends,
                    suite=lock.base.release,
                    source=source,
                    toolchain=list(tools.values()),
                    signature=modules.signature,
                )
            )
        return builds

    @property
    def package(self) -> str:
        return package_name(self.name, self.kernel_release)

    def what(self) -> str:
        """The build's name in messages."""
        noun = "driver" if self.name == DRIVER_MODULES else f"module {self.name}"
        return f"{noun} {self.version} on kernel {self.kernel_release}"

    def deb(self, outcome: ModuleOutcome) -> Deb:
        assert outcome.deb_sha256 is not None
        return Deb(
            name=self.package,
            version=f"{self.version}{_REVISION}",
            architecture="amd64",
            sha256=outcome.deb_sha256,
            size=outcome.deb_size,
            installed_size=outcome.installed_size,
            archive="built",
            path=f"{self.package}.deb",
            source=self.package,
        )

    def locked(self, outcome: ModuleOutcome) -> KernelModules:
        return KernelModules(
            key=self.key,
            package=self.package,
            source_package=self.source.name,
            compiler=outcome.compiler,
            signature=self.signature,
            provides=list(self.provides),
            depends=list(self.depends),
            build={deb.name: Package.of(deb) for deb in [self.source, *self.toolchain]},
        )

    @property
    def key(self) -> str:
        shape = {
            "recipe": FORMAT,
            "kernel": self.kernel_release,
            "driver": self.version,
            "package": self.package,
            "provides": list(self.provides),
            "depends": list(self.depends),
            "source": self.source.sha256,
            "build": sorted(deb.sha256 for deb in self.toolchain),
            "epoch": EPOCH,
            "signature": self.signature and self.signature.certificate_sha256,
        }
        return records.sha256_text(records.canonical(shape))

    @property
    def tree_key(self) -> str:
        """SHA-256 over the files of the scratch tree: modules for one kernel share it."""
        return records.sha256_text(
            records.canonical(
                {"suite": self.suite, "modules": sorted(deb.sha256 for deb in self.toolchain)}
            )
        )


def compile_modules(
    build: ModuleBuild,
    store: Store,
    *,
    log: Path,
    progress: Progress | None = None,
) -> ModuleOutcome:
    """The outcome of `build`, from the cache if it is there and whole, else compiled in a sandbox.

    Raises BadInput if the modules are signed and the environment has no key or another one. Raises
    HostNotReady, and keeps nothing, if the machine lacks disk space or memory.
    """
    if outcome := known(build, store):
        return outcome
    _check_key(build)
    with workspace.scratch_in(workspace.in_cache(store), f"modules-{build.key[:12]}") as work:
        outcome = _compile(build, store, work, log, progress)
    records.write(_cached(build, store), outcome)
    return outcome


def known(build: ModuleBuild, store: Store) -> ModuleOutcome | None:
    """The outcome of `build` if this machine tried it before and still has the whole package, else
    None."""
    outcome = records.read_if_whole(_cached(build, store), ModuleOutcome)
    if outcome is None or outcome.deb_sha256 is None:
        return outcome
    if not store.has(outcome.deb_sha256, outcome.deb_size):
        return None
    return outcome


def _cached(build: ModuleBuild, store: Store) -> Path:
    return store.cache.modules / f"{build.key}.json"


def _check_key(build: ModuleBuild) -> None:
    """Raise BadInput if the environment's key is not the one that signs `build`."""
    if build.signature is None:
        return
    signer = module_signing.configured()
    if signer is None or signer.signature != build.signature:
        certificate = build.signature.certificate_sha256[:12]
        state = "another key" if signer else "not set"
        raise BadInput(
            f"the modules are signed by {build.signature.signer} (certificate {certificate}), and "
            f"{module_signing.KEY} is {state}",
            hint="set it and its certificate, fetch the signed modules from a remote store, or "
            "make a new lock",
        )


def _compile(
    build: ModuleBuild,
    store: Store,
    work: Path,
    log: Path,
    progress: Progress | None,
) -> ModuleOutcome:
    try:
        repository = LocalRepository(build.toolchain, build.suite, EPOCH)
        folder = repository.write(store, work / "repo")
        plan = ModulesPlan(
            work=work,
            log=log,
            base_key=build.tree_key,
            layers=store.cache.layers,
            kernel_release=build.kernel_release,
            version=build.version,
            package=build.package,
            title="NVIDIA" if build.name == DRIVER_MODULES else build.name,
            provides=list(build.provides),
            depends=list(build.depends),
            tree=Tree(
                suite=build.suite,
                repository=folder,
                include=sorted(deb.name for deb in build.toolchain),
            ),
            source=store.path(build.source.sha256),
            source_date_epoch=EPOCH,
            signed=build.signature is not None,
        )
        look = partial(how_far.of_compilation, work)
        with progress.relaying(look) if progress else contextlib.nullcontext():
            namespaces.run(program.argv("goldenami.local.programs.compile_modules", plan), log=log)
        result = records.read(work / program.RESULT_FILE, ModulesResult)
        # A full disk or too little memory says nothing of the source, so no failure is recorded.
        if result.lacks:
            raise HostNotReady(
                f"compiling {build.package} broke off: {result.lacks}",
                log=log,
                hint="free space or memory and run again: nothing is concluded about the source",
            )
        sha256: str | None = None
        size = 0
        if result.deb:
            sha256, size = store.add(result.deb), result.deb.stat().st_size
        return ModuleOutcome(
            key=build.key,
            deb_sha256=sha256,
            deb_size=size,
            installed_size=result.installed_size,
            compiler=result.compiler,
            first_error=result.first_error,
            seconds=result.seconds,
            modules=result.modules,
        )
    except shell.CommandFailed as error:
        raise StageFailed(
            f"the scratch tree for {build.package} could not be made: {error.message}",
            hint="see the log; a broken package or a full disk looks like this",
            log=log,
            tail=error.tail,
        ) from error
