"""The lock, packer/locks/<image>.lock.json, from which alone a bake is made. It is canonical JSON,
and its SHA-256 is the build id. A file beside it has the SHA-256 in `sha256sum -c` form, so that an
edit by hand is noticed. Digests of its inputs show whether it is stale."""

from __future__ import annotations

import contextlib
import hashlib
import operator
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import Field

from goldenami.core import records
from goldenami.core.errors import BadInput
from goldenami.core.records import Lax, Record
from goldenami.model import program_files
from goldenami.model.definitions.customize_checks import FILES, named_files
from goldenami.model.definitions.definition import DRIVER_MODULES, Definition
from goldenami.model.definitions.definition_file import APART
from goldenami.model.locked import locked_hardware
from goldenami.model.locked.locked_downloads import LockedDownload
from goldenami.model.locked.locked_hardware import HardwareLock
from goldenami.model.locked.python_packages import PythonPackages
from goldenami.model.roles import recipes
from goldenami.model.roles.listening import Listen
from goldenami.model.roles.recipes import Allowance
from goldenami.model.roles.role_specs import tasks
from goldenami.packages.apt import Deb
from goldenami.packages.mirrors import VendorArchive
from goldenami.packages.pypi import Archive, PyFile
from goldenami.packages.registries import LockedContainer

ID_LENGTH = 12
"""Hex digits of the SHA-256 in names: 48 bits, as git and OCI tools abbreviate it."""


class Origin(StrEnum):
    """Origin of a framework's wheel: compiled for the image's hardware, or from the package
    index."""

    SOURCE = "source"
    WHEEL = "wheel"


class Suite(Record):
    """A suite of an archive when the lock was made: date and SHA-256 of its Release file."""

    suite: str
    date: str
    sha256: str


class BaseLock(Record):
    """The distribution, and the suites whose indexes were read."""

    distribution: str
    release: str
    major: int
    architecture: str
    suites: list[Suite]


class Package(Record):
    """A package file in the archive `origin`, compiled here (`built`), or at an address
    (`downloads`). Sizes are in bytes."""

    version: str
    architecture: str
    sha256: str
    size: int
    installed_size: int
    origin: str
    path: str
    source: str

    @classmethod
    def of(cls, deb: Deb) -> Package:
        return cls(
            version=deb.version,
            architecture=deb.architecture,
            sha256=deb.sha256,
            size=deb.size,
            installed_size=deb.installed_size,
            origin=deb.archive,
            path=deb.path,
            source=deb.source,
        )

    def deb(self, name: str) -> Deb:
        return Deb(
            name=name,
            version=self.version,
            architecture=self.architecture,
            sha256=self.sha256,
            size=self.size,
            installed_size=self.installed_size,
            archive=self.origin,
            path=self.path,
            source=self.source,
        )


class Kernel(Record):
    """The one kernel of the image."""

    release: str
    package: str
    version: str


class Signature(Record):
    """Signature of kernel modules: the signer as `modinfo -F signer` shows it, and the SHA-256 of
    the certificate."""

    signer: str
    certificate_sha256: str


class KernelModules(Record):
    """Kernel modules that `lock` compiled from `source_package`, as the package `package`.

    `key` is the SHA-256 of everything that shapes them; `build` has all packages of the tree in
    which they were compiled.
    """

    key: str
    package: str
    source_package: str
    compiler: str
    signature: Signature | None
    provides: list[str]
    depends: list[str]
    build: dict[str, Package]


class Driver(Record):
    """The NVIDIA driver."""

    version: str
    branch: str
    flavour: str
    source: str
    cuda: str
    modules: KernelModules | None


class Cuda(Record):
    """The CUDA of the image. If it comes from the package index, `wheels` are its files, installed
    in `environment`, and `allow` are their exceptions for the coverage check."""

    version: str
    variant: str
    why: str
    environment: str = ""
    wheels: list[PyFile] = Field(default_factory=list)
    allow: list[Allowance] = Field(default_factory=list)


class Target(Record):
    """Target of compiled code: the CPU by GCC's name, the compiler's options for it, and CUDA
    architectures, if any."""

    cpu: str
    options: list[str]
    sm: list[str] = Field(default_factory=list)


class CompiledWheel(Record):
    """A wheel that is compiled here. `key` is the SHA-256 of everything that shapes it.

    `build` names packages of the lock's toolchain, `requires` are the wheels of the build
    environment, `tests` those that the framework's own tests need in addition. `result` is how
    these tests ended, or "" if the recipe runs none.
    """

    key: str
    target: Target
    compiler: str
    source: PyFile | Archive
    build: list[str]
    requires: list[PyFile]
    tests: list[PyFile]
    result: str


class Framework(Record):
    """An ML framework: the origin of its wheel and the reason for that, and the other wheels of its
    environment.

    `gain` is the measured speed of the image's build relative to the generic one, on the CPU
    `measured_on`.
    """

    name: str
    version: str
    environment: str
    origin: Lax[Origin]
    why: str
    gain: float | None
    measured_on: str | None
    wheel: PyFile
    requires: list[PyFile]
    made: CompiledWheel | None
    allow: list[Allowance]

    def files(self) -> list[PyFile]:
        files = [self.wheel, *self.requires]
        if self.made:
            files += [self.made.source, *self.made.requires, *self.made.tests]
        return files


class PassedOver(Record):
    """A candidate that was not taken, and why."""

    what: str
    reason: str


class Choice(Record):
    """What the resolver chose for one component."""

    component: str
    taken: str
    why: str
    passed_over: list[PassedOver]


class Step(Record):
    """Roles that make one layer, and their packages: those that apt sees in addition to the step
    before.

    `stand_ins` are dummy packages that take the place of a later step's (see dummy_packages.py).
    """

    roles: list[str]
    packages: list[str]
    stand_ins: dict[str, Package]


class Lock(Record):
    """Everything of which an image is made."""

    schema_version: int = 1
    image: str
    description: str
    source_date_epoch: int
    disk_size_gib: int
    base: BaseLock
    kernel: Kernel
    driver: Driver | None
    cuda: Cuda | None
    hardware: HardwareLock
    choices: list[Choice]
    base_packages: list[str]
    packages: dict[str, Package]
    frameworks: list[Framework] = Field(default_factory=list)
    # Left out of the file if empty, so that older locks keep their bytes, and so their build ids.
    kernel_modules: dict[str, KernelModules] = Field(
        default_factory=dict, exclude_if=lambda modules: not modules
    )
    toolchain: dict[str, Package] = Field(default_factory=dict)
    # The next five are left out if empty for the same reason.
    extra_repos: list[VendorArchive] = Field(default_factory=list, exclude_if=operator.not_)
    downloads: list[LockedDownload] = Field(default_factory=list, exclude_if=operator.not_)
    containers: list[LockedContainer] = Field(default_factory=list, exclude_if=operator.not_)
    python: PythonPackages | None = Field(default=None, exclude_if=lambda value: value is None)
    listen: list[Listen] = Field(default_factory=list, exclude_if=operator.not_)
    roles: list[str]
    steps: list[Step]
    variables: dict[str, Any]
    inputs: dict[str, str]

    @property
    def checked(self) -> list[str]:
        """The folders of checks that are for the image: those of its roles, and its own."""
        return [*self.roles, self.image]

    def debs(self) -> list[Deb]:
        return [package.deb(name) for name, package in self.packages.items()]

    def compiled_modules(self) -> dict[str, KernelModules]:
        """Return all compiled kernel modules by name; those of the driver are `nvidia`."""
        modules = dict[str, KernelModules]()
        if self.driver and self.driver.modules:
            modules[DRIVER_MODULES] = self.driver.modules
        return modules | self.kernel_modules

    def environments(self) -> dict[str, list[PyFile]]:
        """Return the wheels of each virtual environment, each once, those of CUDA first."""
        environments = dict[str, dict[str, PyFile]]()
        groups = [(part.environment, part.wheels) for part in (self.cuda, self.python) if part]
        groups += [
            (framework.environment, [framework.wheel, *framework.requires])
            for framework in self.frameworks
        ]
        for name, wheels in groups:
            if wheels:
                environments.setdefault(name, {}).update((file.sha256, file) for file in wheels)
        return {name: list(files.values()) for name, files in environments.items()}

    def allowances(self) -> list[Allowance]:
        rows = list[Allowance]()
        for part in (self.cuda, self.python, *self.frameworks):
            if part:
                rows += part.allow
        return rows

    def container_blobs(self) -> dict[str, int]:
        """Return the sizes in bytes of all containers' blobs, by SHA-256."""
        sizes = dict[str, int]()
        for container in self.containers:
            sizes |= container.blobs
        return sizes

    def objects(self) -> dict[str, int]:
        """Return the sizes in bytes of all files that a bake of this lock may need, by SHA-256."""
        files: list[Package | LockedDownload | PyFile] = [*self.packages.values()]
        for modules in self.compiled_modules().values():
            files += modules.build.values()
        for step in self.steps:
            files += step.stand_ins.values()
        files += [*self.toolchain.values(), *self.downloads]
        for framework in self.frameworks:
            files += framework.files()
        for part in (self.cuda, self.python):
            if part:
                files += part.wheels
        return self.container_blobs() | {file.sha256: file.size for file in files}


def path_of(root: Path, image: str) -> Path:
    """Return the path of the lock of `image`."""
    return root / "packer/locks" / f"{image}.lock.json"


def text_of(lock: Lock) -> str:
    """Return the text of the lock's file."""
    return records.canonical(lock.model_dump(mode="json"))


def write(path: Path, lock: Lock) -> str:
    """Write the lock and its checksum, and return the lock's SHA-256."""
    text = text_of(lock)
    digest = records.sha256_text(text)
    records.write_text(path, text)
    records.write_text(Path(f"{path}.sha256"), f"{digest}  {path.name}\n")
    return digest


def read(path: Path) -> tuple[Lock, str]:
    """Return the lock and its SHA-256. Raises BadInput if it is missing, edited by hand or
    malformed."""
    remake = f"run `make lock IMAGE={path.name.removesuffix('.lock.json')}`"
    if not path.is_file():
        raise BadInput(f"{path}: no lock", hint=remake)
    digest, recorded = records.sha256_file(path), Path(f"{path}.sha256")
    text = recorded.read_text(encoding="utf-8", errors="replace") if recorded.is_file() else ""
    if text.split()[:1] != [digest]:
        if b"\r\n" in path.read_bytes():
            raise BadInput(
                f"{path}: has the line ends of Windows (CRLF), by git's autocrlf or an editor",
                hint="write `packer/locks/* text eol=lf` into .gitattributes, remove the locks, "
                "and restore them by `git checkout -- packer/locks`",
            )
        raise BadInput(
            f"{path}: does not match {recorded.name}: it was edited by hand or half-committed",
            hint=f"locks are generated: {remake}, or restore both files from git",
        )
    return records.read(path, Lock), digest


def previous(root: Path, image: str) -> Lock | None:
    """Return the present lock, which a new one replaces, or None if there is no readable one."""
    with contextlib.suppress(BadInput):
        return read(path_of(root, image))[0]
    return None


def read_copy(path: Path) -> tuple[Lock, str]:
    """Return a build's copy of its lock, and its SHA-256."""
    return records.read(path, Lock), records.sha256_file(path)


def digests(root: Path, definition: Definition) -> dict[str, str]:
    """Return the SHA-256 of each input in the checkout that shapes the image, by name: of all that
    the definition says or names, and of nothing else."""
    # What is said counts, not how: neither comments nor the file that a value is inherited from.
    said = definition.model_dump(mode="json", exclude_unset=True, exclude={*APART, "extends"})
    inputs = {
        "definition": records.sha256_text(records.canonical(said)),
        "hardware": locked_hardware.digest(root, definition),
        "ansible": records.sha256_file(program_files.find(root, program_files.PLAYBOOK)),
    }
    for name in named_files(definition):
        inputs[f"{FILES}/{name}"] = records.sha256_file(root / FILES / name)
    for role in definition.role_names:
        inputs[f"{program_files.ROLES}/{role}"] = _role(root, role, definition.frameworks)
    for name in [*definition.role_names, definition.image]:
        if files := program_files.own_checks(root, name):
            inputs[f"{program_files.CHECKS}/{name}"] = _digest(files)
    return inputs


def _role(root: Path, role: str, frameworks: list[str]) -> str:
    """Return the SHA-256 of a role's files. Roles whose tasks it includes count, too. What
    definitions name in `customize` and `frameworks` does not, unless it is in `frameworks`."""
    files = program_files.role_files(root, role)
    others = {*recipes.known(root)} - {*frameworks}
    for task in tasks(program_files.role(root, role)):
        if included := (task.get("ansible.builtin.include_role") or {}).get("name"):
            files |= {
                Path("..", included, name): path
                for name, path in program_files.role_files(root, included).items()
            }
    for name in list(files):
        is_of_customize = role == program_files.CUSTOMIZE and name.parts[0] == program_files.FILES
        is_recipe = role == program_files.FRAMEWORKS and not others.isdisjoint(name.parts[1:2])
        if is_of_customize or is_recipe:
            del files[name]
    return _digest(files)


def _digest(files: dict[Path, Path]) -> str:
    """Return the SHA-256 of files by name, mode and content."""
    digest = hashlib.sha256()
    for name, path in files.items():
        # Documentation and Python's caches don't shape the image.
        if path.suffix not in (".md", ".pyc"):
            executable = bool(path.stat().st_mode & 0o100)
            digest.update(f"{name} {executable} {records.sha256_file(path)}\n".encode())
    return digest.hexdigest()


def check_fresh(root: Path, lock: Lock, definition: Definition) -> None:
    """Raise BadInput if inputs changed since the lock was made, with their names."""
    now = digests(root, definition)
    changed = sorted(
        name for name in now.keys() | lock.inputs.keys() if now.get(name) != lock.inputs.get(name)
    )
    if changed:
        raise BadInput(
            f"the lock of {definition.image} is stale: changed since it was made: "
            f"{program_files.by_owner(root, changed)}",
            hint=f"run `make lock IMAGE={definition.image}`, or `make lock STALE=1` for all that "
            "are, and review the difference with `git diff packer/locks`",
        )
