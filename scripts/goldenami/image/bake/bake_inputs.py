"""The inputs of a bake: the lock's files in the store, as one repository, and a plan.

Every stage that runs the lock's packages uses them: `bake`, and `scenario` for Molecule's
containers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from goldenami.core import records
from goldenami.core.cache_paths import CachePaths
from goldenami.core.errors import BadInput, StageFailed, Vanished
from goldenami.core.terminal.progress import Progress
from goldenami.image.bake import bake_plan
from goldenami.image.lock.compilation import dummy_packages, kernel_modules, wheel_builds
from goldenami.image.lock.compilation.kernel_modules import ModuleBuild
from goldenami.image.lock.compilation.wheel_builds import WheelCompiler
from goldenami.model.builds.build_folder import BuildFolder, ImageFolder
from goldenami.model.builds.build_records import LOCK_FILE
from goldenami.model.builds.plans import BakePlan, Tree
from goldenami.model.locked import locked_downloads, lockfile, vendor_archives
from goldenami.model.locked.lockfile import Lock
from goldenami.packages import local_repository, mirrors, registries
from goldenami.packages.apt import BUILT, LOOSE, Deb, store_requests
from goldenami.packages.download import StoreRequest
from goldenami.packages.local_repository import LocalRepository
from goldenami.packages.pypi import Index
from goldenami.packages.store import Store


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
            views=bake_plan.views(lock),
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
            records.canonical(bake_plan.role_variables(self.root, lock, self.lock_sha256)),
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
            base_key=bake_plan.base_key(lock),
            layers=self.layers,
            layers_limit_bytes=bake_plan.layers_limit_bytes(),
            steps=bake_plan.steps(self.root, lock, work),
            # The cache of read code lies beside the layers, so `reproduce`, whose layers are fresh,
            # reads all code anew.
            coverage=bake_plan.coverage(lock, CachePaths(self.layers.parent).code),
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
