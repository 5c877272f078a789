"""The inputs of a bake: the lock's files in the store, as one repository, and a plan.

Every stage that runs the lock's packages uses them: `bake`, and `scenario` for Molecule's
containers.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from goldenami.core import records, shell
from goldenami.core.cache_paths import CachePaths
from goldenami.core.errors import BadInput, HostNotReady, StageFailed, Vanished
from goldenami.core.terminal.progress import Progress
from goldenami.image.bake import toolchain_digest
from goldenami.image.lock.compilation import dummy_packages, kernel_modules, wheel_builds
from goldenami.image.lock.compilation.kernel_modules import ModuleBuild
from goldenami.image.lock.compilation.wheel_builds import WheelCompiler
from goldenami.model.builds.build_folder import BuildFolder, ImageFolder
from goldenami.model.builds.build_records import LOCK_FILE, ROLES_JOINED_BY
from goldenami.model.builds.plans import BakePlan, BakeStep, CoverageRequest, Tree
from goldenami.model.locked import locked_downloads, lockfile, vendor_archives
from goldenami.model.locked.lockfile import Lock, Step
from goldenami.model.roles.recipes import Allowance
from goldenami.model.supported import base_images
from goldenami.packages import local_repository, mirrors, registries
from goldenami.packages.apt import BUILT, LOOSE, Deb, store_requests
from goldenami.packages.download import StoreRequest
from goldenami.packages.local_repository import LocalRepository
from goldenami.packages.pypi import Index
from goldenami.packages.store import Store

FORMAT = 1
"""Raise this when the code of a bake changes what a layer holds for the same inputs."""

UNCOMMITTED, LOCK_ON_TOP = "uncommitted", "+lock-"
_MADE_BY_WATCH = (":(exclude)packer/images", ":(exclude)packer/locks")
"""Git's pathspecs for everything but definitions and locks, which are all that a new lock
changes."""

CODE_FOLDERS = ("opt/ml",)
"""Folders whose code no distribution compiled for every x86-64: the coverage check reads them."""


@dataclass(frozen=True)
class BakeInputs:
    """The inputs of a bake of `lock`: the roles of the checkout `root`, and the lock's files in
    `store`. `own_layers` is the folder of layers if those of the cache must not be used, else
    None."""

    root: Path
    lock: Lock
    lock_sha256: str
    store: Store
    progress: Progress
    own_layers: Path | None = None

    @property
    def build_id(self) -> str:
        return self.lock_sha256[: lockfile.ID_LENGTH]

    @property
    def build(self) -> BuildFolder:
        return ImageFolder.of(self.root, self.lock.image).build(self.build_id)

    @property
    def layers(self) -> Path:
        """The folder that keeps the trees of steps."""
        return self.own_layers or self.store.cache.layers

    def of_part(self, lock: Lock) -> BakeInputs:
        """The inputs of `lock`, which is a part of this lock."""
        return replace(self, lock=lock, lock_sha256=records.sha256_text(lockfile.text_of(lock)))

    def lacking_modules(self) -> list[ModuleBuild]:
        """The builds of the lock's kernel modules that are missing from the store."""
        lacking = list[ModuleBuild]()
        for build in ModuleBuild.of(self.lock):
            package = self.lock.packages.get(build.package)
            if package is not None and not self.store.has(package.sha256, package.size):
                lacking.append(build)
        return lacking

    def steps_before_modules(self) -> int:
        """The number of steps that can be made while the modules compile: 0 if no module is
        lacking, or wheels are lacking too."""
        lacking = {build.package for build in self.lacking_modules()}
        if not lacking or wheel_builds.lacking(self.lock, self.store):
            return 0
        return next(
            number for number, step in enumerate(self.lock.steps) if lacking & {*step.packages}
        )

    def fetch(self, *, tools: bool = False) -> None:
        """Fetch every file that the lock names into the store; compiled files only from a remote
        store. With `tools` also the packages that compiled its modules."""
        lock, store = self.lock, self.store
        self._pull_compiled()
        debs = self._needed_debs(tools=tools)
        files = wheel_builds.from_index(lock, store)
        needed = [(download.sha256, download.size) for download in lock.downloads]
        needed += [(deb.sha256, deb.size) for deb in debs]
        needed += [(file.sha256, file.size) for file in files]
        needed += lock.container_blobs().items()
        with self.progress.in_all():  # each file is hashed: 5 GB take some seconds
            missing = store.missing(StoreRequest(sha256, size, "", "") for sha256, size in needed)
        if not missing:
            return
        missing_sha256 = {request.sha256 for request in missing}
        total = sum(request.size for request in missing)
        with self.progress.download(
            "fetch", f"{total / 1e6:.0f} MB in {len(missing_sha256)} packages", total
        ) as on_bytes:
            downloads = [file for file in lock.downloads if file.sha256 in missing_sha256]
            debs = [deb for deb in debs if deb.sha256 in missing_sha256]
            archives = self._archives(debs)
            store.fetch(locked_downloads.store_requests(downloads), on_bytes)
            store.fetch(store_requests(debs, archives), on_bytes)
            registries.fetch(lock.containers, store, on_bytes)
            if any(file.sha256 in missing_sha256 for file in files):
                private = lock.python.index if lock.python else None
                Index.configured(private).fetch(files, store, on_bytes)

    def _pull_compiled(self) -> None:
        """Fetch compiled files from a remote store. Those that it lacks are compiled again."""
        requests = list[StoreRequest]()
        for deb in self.lock.debs():
            if deb.archive == BUILT:
                requests.append(StoreRequest(deb.sha256, deb.size, "", deb.name))
        for framework in self.lock.frameworks:
            if framework.made:
                wheel = framework.wheel
                requests.append(StoreRequest(wheel.sha256, wheel.size, "", wheel.filename))
        self.store.pull(requests)

    def _needed_debs(self, *, tools: bool) -> list[Deb]:
        """The lock's packages from archives, and those that compile what the store lacks; with
        `tools` also those that compiled what it has."""
        debs = [deb for deb in self.lock.debs() if deb.archive not in LOOSE]
        for build in ModuleBuild.of(self.lock) if tools else self.lacking_modules():
            debs += [build.source, *build.toolchain]
        if wheel_builds.lacking(self.lock, self.store):
            for name, package in self.lock.toolchain.items():
                if package.origin == BUILT:
                    debs.append(dummy_packages.have(self.store, name, package))
                else:
                    debs.append(package.deb(name))
        return debs

    def _archives(self, debs: list[Deb]) -> Mapping[str, str]:
        """The addresses of the packages' archives, with the logins that they need."""
        vendors = vendor_archives.of_lock(self.root, self.lock)
        uris = mirrors.locate(sorted({deb.archive for deb in debs}), vendors)
        return mirrors.with_logins(uris, vendors)

    def compile_again(self, log: Path) -> None:
        """Compile the files that the lock names and this machine lacks. Their inputs have to be in
        the store."""
        for build in self.lacking_modules():
            self._recompile(build, log)
        WheelCompiler(self.root, self.store, self.progress, log).rebuild(self.lock)

    def _recompile(self, build: ModuleBuild, log: Path) -> None:
        with self.progress.step("modules", build.what()):
            outcome = kernel_modules.compile_modules(
                build, self.store, log=log, progress=self.progress
            )
        locked = self.lock.packages[build.package]
        if outcome.deb_sha256 is None:
            raise StageFailed(
                f"{build.what()} does not compile here: {outcome.first_error}",
                log=log,
                hint="it did when the lock was made: run `make lock` and compare",
            )
        if outcome.deb_sha256 != locked.sha256:
            raise StageFailed(
                f"{build.package} compiled to {outcome.deb_sha256[:12]}, the lock names "
                f"{locked.sha256[:12]}",
                log=log,
                hint="the build is not reproducible on this machine: run `make lock`",
            )

    def repository(self, *, tools: bool = False) -> Path:
        """The lock's files as one local apt repository with the wheels in a folder of it. All bakes
        of the same files share it.

        With `tools` it also holds the packages that compiled the lock's modules, for a scenario
        that compiles them itself. Modules that are still to be compiled are left out.
        """
        lock, store = self.lock, self.store
        debs = {deb.sha256: deb for deb in lock.debs()}
        for build in self.lacking_modules():
            del debs[lock.packages[build.package].sha256]
        for step in lock.steps:
            for name, package in step.stand_ins.items():
                debs[package.sha256] = dummy_packages.have(store, name, package)
        if tools:
            for build in ModuleBuild.of(lock):
                debs.update((deb.sha256, deb) for deb in (build.source, *build.toolchain))
        others = wheel_builds.installed_wheels(lock)
        for file in lock.downloads:
            if not file.package:
                others[f"{locked_downloads.FOLDER}/{file.file}"] = file.sha256
        for sha256 in lock.container_blobs():
            others[f"{registries.FOLDER}/{sha256}"] = sha256
        shape = records.canonical(
            {
                "files": sorted([*debs, *others.values()]),
                "steps": [step.model_dump() for step in lock.steps],
            }
        )
        folder = store.cache.repositories / records.sha256_text(shape)[:16]
        repository = LocalRepository(
            list(debs.values()),
            suite=lock.base.release,
            epoch=lock.source_date_epoch,
            views=views(lock),
            files=others,
        )
        return repository.write(store, folder)

    def plan(self, work: Path, log: Path, packages: Path) -> BakePlan:
        """The plan of a bake in `work`, with the files that it names there: the lock and the roles'
        variables.

        `packages` is the `repository`.
        """
        # The lock is written from memory: the checkout's file may be another by now.
        lock, text = self.lock, lockfile.text_of(self.lock)
        if records.sha256_text(text) != self.lock_sha256:
            raise BadInput(
                f"the lock of {lock.image} has another form than this version writes",
                hint=f"locks are generated: run `make lock IMAGE={lock.image}`",
            )
        (work / "out").mkdir(exist_ok=True)
        records.write_text(work / "out" / LOCK_FILE, text)
        records.write_text(
            work / "out/vars.json",
            records.canonical(role_variables(self.root, lock, self.lock_sha256)),
        )
        tree = Tree(
            suite=lock.base.release,
            repository=packages,
            include=lock.base_packages,
            architecture=lock.base.architecture,
        )
        return BakePlan(
            work=work,
            log=log,
            root=self.root,
            lock=work / "out" / LOCK_FILE,
            image=lock.image,
            build_id=self.build_id,
            lock_sha256=self.lock_sha256,
            source_date_epoch=lock.source_date_epoch,
            disk_size_gib=lock.disk_size_gib,
            tree=tree,
            base_key=base_key(lock),
            layers=self.layers,
            layers_limit_bytes=layers_limit_bytes(),
            steps=_steps(self.root, lock, work),
            # The cache of read code lies beside the layers, so `reproduce`, whose layers are fresh,
            # reads all code anew.
            coverage=coverage(lock, CachePaths(self.layers.parent).code),
            packages={name: package.version for name, package in lock.packages.items()},
        )


def fetched(
    root: Path,
    read: Callable[[], tuple[Lock, str]],
    store: Store,
    progress: Progress,
    relock: Callable[[], tuple[Lock, str]] | None,
) -> tuple[Lock, str]:
    """The lock that `read` gives, with its files in the store.

    If upstream deleted one of them, the lock that `relock` makes. Raises Vanished if `relock` is
    None.
    """
    lock, digest = read()
    try:
        BakeInputs(root, lock, digest, store, progress).fetch()
    except Vanished as error:
        if relock is None:
            raise
        progress.say(f"{error.message}: making a new lock (see `git diff packer/locks`)")
        return relock()
    return lock, digest


def repositories(store: Store, digests: Collection[str]) -> list[Path]:
    """Repositories with a file whose SHA-256 is not among `digests`, or that a killed process left
    half-made."""
    # A repository's links keep the bytes of a file that the store has let go. Nobody knows what is
    # in a half-made one.
    parent = store.cache.repositories
    half_made = local_repository.abandoned(parent)
    folders = list[Path]()
    for folder in sorted(parent.glob("*")):
        if folder in half_made or not local_repository.contents(folder).issubset(digests):
            folders.append(folder)
    return folders


def views(lock: Lock) -> dict[str, set[str]]:
    """For each step the SHA-256 of all that apt sees in it: its packages, those of earlier steps,
    and dummy packages."""
    by_step = dict[str, set[str]]()
    visible = {lock.packages[name].sha256 for name in lock.base_packages}
    for number, step in enumerate(lock.steps):
        visible.update(lock.packages[name].sha256 for name in step.packages)
        dummies = {package.sha256 for package in step.stand_ins.values()}
        by_step[f"step-{number}"] = visible | dummies
    return by_step


def coverage(lock: Lock, known: Path | None = None) -> CoverageRequest:
    """The folders that the coverage check (local/code_coverage) reads, the limits that it applies,
    and `known`, its cache."""
    allowed = dict[tuple[str, ...], Allowance]()
    for allowance in lock.allowances():
        key = (allowance.files, allowance.symbols, *allowance.extensions)
        files = f"opt/ml/*/lib/python3*/site-packages/{allowance.files}"
        allowed[key] = allowance.model_copy(update={"files": files})
    return CoverageRequest(
        folders=list(CODE_FOLDERS),
        features=lock.hardware.features,
        sm=lock.hardware.sm,
        allow=list(allowed.values()),
        known=known,
    )


def layers_limit_bytes() -> int:
    """Most bytes that all layers may occupy: GOLDEN_LAYERS_GB, or 24 GB (those of `debian-13-ml`
    are 9 GB)."""
    text = os.environ.get("GOLDEN_LAYERS_GB", "24")
    if not text.isdecimal():
        raise BadInput(f"GOLDEN_LAYERS_GB is `{text}`", hint="give whole gigabytes, such as 24")
    return int(text) * 10**9


def base_key(lock: Lock) -> str:
    """SHA-256 over the base tree's files: a new driver or framework does not change it."""
    files = {name: lock.packages[name].sha256 for name in lock.base_packages}
    return records.sha256_text(
        records.canonical({"files": files, "suite": lock.base.release, "format": FORMAT})
    )


def _steps(root: Path, lock: Lock, work: Path) -> list[BakeStep]:
    all_variables = json.loads((work / "out/vars.json").read_text(encoding="utf-8"))
    parent, dummies, steps = base_key(lock), set[str](), list[BakeStep]()
    toolchain = toolchain_digest.digest(root)
    for number, step in enumerate(lock.steps):
        step_variables = _variables_of(step, all_variables, "golden_")
        path = work / f"step-{number}.json"
        records.write_text(path, records.canonical({**step_variables, "golden_steps": step.roles}))
        parent = _step_key(lock, step, parent, toolchain)
        steps.append(
            BakeStep(
                name=ROLES_JOINED_BY.join(step.roles),
                key=parent,
                view=f"step-{number}",
                variables=path,
                installs=bool(step.packages),
                # Dummies of the step before that this one does not use give way to the real
                # packages.
                replaces=sorted(dummies - step.stand_ins.keys()),
            )
        )
        dummies = set(step.stand_ins)
    return steps


def _step_key(lock: Lock, step: Step, parent: str, toolchain: str) -> str:
    """SHA-256 over all that shapes a step's layer."""
    # Variables named golden_ are left out: only `provenance` reads their values. Other roles only
    # ask whether there is a seal, which every image has.
    roles = {role: lock.inputs.get(f"roles/{role}") for role in step.roles}
    packages = {name: lock.packages[name].sha256 for name in step.packages}
    stand_ins = {name: package.sha256 for name, package in step.stand_ins.items()}
    return records.sha256_text(
        records.canonical(
            {
                "parent": parent,
                "format": FORMAT,
                "toolchain": toolchain,
                "playbook": lock.inputs.get("ansible"),
                "roles": roles,
                "variables": _variables_of(step, lock.variables),
                "packages": packages,
                "stand_ins": stand_ins,
            }
        )
    )


def _variables_of(step: Step, variables: dict[str, Any], *more: str) -> dict[str, Any]:
    """The variables of a step's roles, and those that begin with `more`."""
    prefixes = (*(f"{role}_" for role in step.roles), *more)
    return {name: value for name, value in variables.items() if name.startswith(prefixes)}


def role_variables(root: Path, lock: Lock, lock_sha256: str) -> dict[str, Any]:
    """All variables of Ansible, which the image's tests read too: the roles', and the facts of the
    build."""
    build_id = lock_sha256[: lockfile.ID_LENGTH]
    driver = lock.driver.version if lock.driver else None
    cuda = lock.cuda.version if lock.cuda else None
    frameworks = {framework.wheel.project: framework.version for framework in lock.frameworks}
    return {
        **lock.variables,
        "golden_image": lock.image,
        "golden_build_id": build_id,
        "golden_base_image": base_images.of_release(root, lock.base.release).model_dump(),
        "golden_lock_sha256": lock_sha256,
        "golden_roles": lock.roles,
        "golden_steps": lock.roles,
        "golden_git_commit": git_commit(root, lockfile.path_of(root, lock.image), lock_sha256),
        "provenance_record": {
            "image": lock.image,
            "build_id": build_id,
            "lock_sha256": lock_sha256,
            "source_date_epoch": lock.source_date_epoch,
            "kernel": lock.kernel.release,
            "driver": driver,
            "cuda": cuda,
            "frameworks": frameworks,
        },
    }


def git_commit(root: Path, path: Path, sha256: str) -> str:
    """The commit that brought the lock, for records and tags. It is never in an image.

    `<commit>+lock-<build id>` for a lock that is not committed, such as one that `watch` made a
    moment ago; the commit is the one that it was made on. `uncommitted` if the lock at `path` is
    another one, or anything but definitions and locks differs.
    """
    # Git lets root read a clone of the user who called sudo. Root runs the program of the clone
    # anyway, so its owner is trusted without sudo, too. Nothing of root's is left in the clone.
    owner = {"SUDO_UID": str(root.stat().st_uid or os.environ.get("SUDO_UID", "0"))}

    def git(*argv: str) -> str:
        # `git status` would write the index anew, which would then belong to root.
        return shell.output(["git", "--no-optional-locks", *argv], cwd=root, env=owner).strip()

    try:
        if not path.is_file() or records.sha256_file(path) != sha256:
            return UNCOMMITTED
        if not git("status", "--porcelain", "--", str(path)):
            return git("log", "-1", "--format=%H", "--", str(path)) or UNCOMMITTED
        if git("status", "--porcelain", "--", ".", *_MADE_BY_WATCH):
            return UNCOMMITTED
        return f"{git('rev-parse', 'HEAD')}{LOCK_ON_TOP}{sha256[: lockfile.ID_LENGTH]}"
    except (shell.CommandFailed, HostNotReady, OSError) as error:
        if isinstance(error, shell.CommandFailed) and "safe.directory" in error.output:
            print(
                f"golden: warning: git does not read {root}, which another user owns: the "
                "record names no commit",
                file=sys.stderr,
            )
        return UNCOMMITTED
