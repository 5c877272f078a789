"""The kernel modules that a definition names, compiled for the kernel of a new lock in the way the
driver's are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from goldenami.core import process
from goldenami.core.errors import BadInput, NoFit
from goldenami.core.yaml_lines import YamlFile
from goldenami.image.lock import addressed_files
from goldenami.image.lock.compilation import driver_fit, kernel_modules
from goldenami.image.lock.compilation.kernel_modules import ModuleBuild, ModuleOutcome
from goldenami.image.lock.resolution import Resolution
from goldenami.local.kernel import dkms_source, module_signing
from goldenami.local.machine import container
from goldenami.model.definitions import definition_file
from goldenami.model.definitions.definition import KernelModule, ModuleSource
from goldenami.model.locked.lockfile import Choice, Kernel, PassedOver, Signature
from goldenami.packages import http_documents
from goldenami.packages.apt import Deb
from goldenami.packages.download import StoreRequest


def first(resolution: Resolution, kernels: list[Kernel]) -> tuple[Kernel, list[PassedOver]]:
    """The newest of `kernels` on which every module compiles, and the newer ones that were passed
    over. Raises NoFit with the compilers' messages if there is none."""
    names = ", ".join(module.name for module in resolution.definition.kernel_modules)
    passed_over = list[PassedOver]()
    if not names:
        return kernels[0], passed_over
    with resolution.progress.step("modules", names):
        for kernel, _ in driver_fit.tries(kernels, [None]):
            try:
                compiled(resolution, kernel)
            except NoFit as error:
                resolution.progress.say(f"passed over kernel {kernel.release}: {error.message}")
                passed_over.append(
                    PassedOver(what=f"kernel {kernel.release}", reason=error.message)
                )
                continue
            return kernel, passed_over
    mistake = _lines(resolution).error(
        ("kernel_modules",), f"no kernel of this release takes {names}"
    )
    raise NoFit(
        mistake.message,
        log=resolution.log,
        tail="\n".join(f"  {entry.what}: {entry.reason}" for entry in passed_over),
        hint="take another version of the module, or base.backports: true",
    )


def add(resolution: Resolution, kernel: Kernel) -> list[dict[str, Any]]:
    """Offer apt the modules for the chosen kernel. Returns the value of `kernel_modules` of the
    role `kernel`."""
    builds = compiled(resolution, kernel)
    for build, outcome in builds:
        resolution.kernel_modules[build.name] = build.locked(outcome)
        resolution.choices.append(
            Choice(
                component=f"module {build.name}",
                taken=build.version,
                passed_over=[],
                why=f"compiled on {kernel.release} with {outcome.compiler}",
            )
        )
    if builds:
        resolution.offer_more([build.deb(outcome) for build, outcome in builds], {})
    rows = list[dict[str, Any]]()
    for build, outcome in builds:
        signer = build.signature.signer if build.signature else ""
        rows.append({"package": build.package, "names": outcome.modules, "signer": signer})
    return rows


def compiled(resolution: Resolution, kernel: Kernel) -> list[tuple[ModuleBuild, ModuleOutcome]]:
    """Every module for `kernel`, from the cache or compiled now. Raises NoFit with the compiler's
    first error."""
    # A driver that was tried in the meantime has set pins of its own.
    resolution.apt.pin({**resolution.constraints.packages, **resolution.pins})
    builds, owners = list[tuple[ModuleBuild, ModuleOutcome]](), dict[str, str]()
    for index, module in enumerate(resolution.definition.kernel_modules):
        build = _build(resolution, kernel, index, module)
        if kernel_modules.known(build, resolution.store) is None:
            resolution.progress.say(f"trying {build.what()}")
        outcome = compile_build(resolution, build, list(build.toolchain))
        if outcome.deb_sha256 is None:
            raise NoFit(f"{build.what()}: {outcome.first_error}", log=resolution.log)
        for name in outcome.modules:
            # modprobe goes by a module's name: two of one name would hide each other.
            if name in owners:
                raise _mistake(
                    resolution, index, "name", f"makes {name}.ko, as `{owners[name]}` does"
                )
            owners[name] = build.name
        builds.append((build, outcome))
    return builds


def compile_build(resolution: Resolution, build: ModuleBuild, files: list[Deb]) -> ModuleOutcome:
    """The outcome of `build`, after the archives' `files` that it needs were fetched."""
    if kernel_modules.known(build, resolution.store) is None:
        container.check_host()  # before its tools are fetched
    resolution.fetch(files)
    return kernel_modules.compile_modules(
        build, resolution.store, log=resolution.log, progress=resolution.progress
    )


def signature() -> Signature | None:
    """The identity of the key that signs modules, or None if no key is configured."""
    signer = module_signing.configured()
    return signer.signature if signer else None


def _mistake(
    resolution: Resolution, index: int, key: str, message: str, hint: str = ""
) -> BadInput:
    return _lines(resolution).error(("kernel_modules", index, key), message, hint=hint)


def _lines(resolution: Resolution) -> YamlFile:
    return definition_file.source_of(resolution.root, resolution.definition.image)


def _build(resolution: Resolution, kernel: Kernel, index: int, module: KernelModule) -> ModuleBuild:
    apt = resolution.apt
    build_packages, provides = list(module.build_packages), list[str]()
    if module.package:
        source = _package(resolution, index, module.package)
        # apt installs the package's dependencies, not the package: its maintainer scripts would
        # compile while the tree is made.
        build_packages, provides = (
            [*build_packages, source.name],
            [f"{source.name} (= {source.version})"],
        )
    else:
        assert module.source is not None
        source = _tarball(resolution, index, module.source)
    try:
        with process.scratch() as folder:
            _, version = dkms_source.unpack(resolution.store.path(source.sha256), Path(folder))
    except BadInput as error:
        key = "package" if module.package else "source"
        raise _mistake(
            resolution, index, key, f"{source.name} {error.message}", error.hint
        ) from None
    # A tarball has no version of its own: its dkms.conf states one.
    source = replace(source, version=source.version or version)
    toolchain = kernel_modules.toolchain(apt, kernel.release, build_packages)
    return ModuleBuild(
        name=module.name,
        kernel_release=kernel.release,
        version=version,
        provides=provides,
        depends=[kernel.package],
        suite=resolution.definition.base.release,
        source=source,
        toolchain=[deb for deb in toolchain if deb.name != source.name],
        signature=signature(),
    )


def _package(resolution: Resolution, index: int, name: str) -> Deb:
    version = resolution.apt.preferred([name]).get(name)
    if version is None:
        raise _mistake(
            resolution,
            index,
            "package",
            f"the archives have no package `{name}`",
            "check its name, and that a role states the vendor's archive",
        )
    source = resolution.apt.file(name, version)
    resolution.fetch([source])
    return source


def _tarball(resolution: Resolution, index: int, module_source: ModuleSource) -> Deb:
    store, (folder, _, filename) = resolution.store, module_source.url.rpartition("/")
    if not store.check(module_source.sha256):
        with addressed_files.by_line(_lines(resolution), ("kernel_modules", index, "source")):
            size = http_documents.remote_file(module_source.url).size
            with resolution.progress.download("files", filename, size) as on_bytes:
                store.fetch(
                    [StoreRequest(module_source.sha256, size, module_source.url, filename)],
                    on_bytes,
                )
    return Deb(
        name=filename,
        version="",
        architecture="all",
        sha256=module_source.sha256,
        size=store.path(module_source.sha256).stat().st_size,
        installed_size=0,
        archive=folder,
        path=filename,
        source=filename,
    )
