"""Wheels compiled from source for given hardware, with the image's own Python, glibc and compiler.

The scratch tree has no network; sources and tools come from the store. Results are kept in the
cache under a key of everything that shapes them, so that the second image that wants the same wheel
compiles nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from goldenami.core import locks, records
from goldenami.core.errors import BadInput, StageFailed
from goldenami.core.locks import AT_ONCE, EXCLUSIVE
from goldenami.core.records import Record
from goldenami.core.terminal.progress import Progress
from goldenami.local.host import host_tools, workspace
from goldenami.local.sandbox import how_far, program
from goldenami.model import program_files
from goldenami.model.builds.plans import (
    Tree,
    WheelPlan,
    WheelResult,
    WheelTests,
)
from goldenami.model.locked.lockfile import Framework, Lock, Target
from goldenami.model.roles import recipes
from goldenami.model.roles.recipes import Recipe
from goldenami.packages import local_repository
from goldenami.packages.apt import Deb
from goldenami.packages.local_repository import LocalRepository
from goldenami.packages.pypi import PyFile
from goldenami.packages.store import Store

FORMAT = 1
"""Raise when programs/build_wheel.py or wheel_pack.py change what comes out for the same inputs."""
EPOCH = 315532800
"""1980-01-01, the earliest date that ZIP knows: a wheel does not change because an index did."""
MEMORY_SHARE = 0.8
"""Part of the free memory that compilers may take together."""
PACKAGES = (
    "python3-dev",
    "python3-venv",
    "g++",
    "make",
    "cmake",
    "ninja-build",
    "pkgconf",
    "patchelf",
    "ccache",
)
"""What every build has beside the essential packages."""
CUDA_PACKAGES = ("nvidia-cuda-toolkit", "nvidia-cuda-toolkit-gcc")
_COMPILERS = re.compile(r"binutils|gcc-\d+|llvm-toolchain-\d+|nvidia-cuda-toolkit")
"""Their source packages. ccache itself looks at the driver only: not at as, ptxas and cicc, and
nvcc's is a script."""
PIP = "pip==26.3"
"""The build environment's own: the release's may be too old for repeated settings of a build
backend (pip 23.1)."""


class WheelOutcome(Record):
    """What a build gave: the wheel, the compiler's name, the closing line of the framework's own
    tests.

    `seconds` are those of the compilation with `jobs` compilers; `cache` counts ccache's hits and
    misses.
    """

    key: str
    wheel: PyFile
    compiler: str
    tests: str
    seconds: float
    jobs: int
    cache: dict[str, int]


@dataclass(frozen=True)
class WheelBuild:
    """What to build: `requires` is the build environment, `runs_with` what the wheel needs to run,
    `tests` for its own tests besides; `debs` the closure of the scratch tree."""

    name: str
    recipe: Recipe
    target: Target
    suite: str
    source: PyFile
    debs: Sequence[Deb]
    requires: Sequence[PyFile]
    runs_with: Sequence[PyFile]
    tests: Sequence[PyFile]

    @classmethod
    def of(cls, lock: Lock, framework: Framework, recipe: Recipe) -> WheelBuild:
        wheel = framework.made
        assert wheel is not None
        return cls(
            name=framework.name,
            recipe=recipe,
            target=wheel.target,
            suite=lock.base.release,
            source=wheel.source,
            debs=[lock.toolchain[name].deb(name) for name in wheel.build],
            requires=wheel.requires,
            runs_with=framework.requires,
            tests=wheel.tests,
        )

    @property
    def flags(self) -> dict[str, str]:
        """The environment of the build; what stands for the number of compilers is left in."""
        instructions = self.recipe.build
        environment = instructions.environment | instructions.added(self.target.sm).environment
        words = {
            "{options}": " ".join(self.target.options),
            "{sm}": ";".join(self.target.sm),
            "{sm_dotted}": ";".join(f"{sm[:-1]}.{sm[-1]}" for sm in self.target.sm),
        }
        return {name: _filled(value, words) for name, value in environment.items()}

    @property
    def toolchain_key(self) -> str:
        return records.sha256_text(
            records.canonical({"toolchain": sorted(deb.sha256 for deb in self.debs)})
        )

    @property
    def compilers_key(self) -> str:
        """SHA-256 over what makes an object of a source's text."""
        return records.sha256_text(
            records.canonical(
                sorted(deb.sha256 for deb in self.debs if _COMPILERS.fullmatch(deb.source))
            )
        )

    @property
    def key(self) -> str:
        instructions = self.recipe.build
        return records.sha256_text(
            records.canonical(
                {
                    "format": FORMAT,
                    "source": self.source.sha256,
                    "target": self.target.model_dump(mode="json"),
                    "flags": self.flags,
                    "settings": instructions.settings,
                    "files": instructions.files,
                    "suite": self.suite,
                    "patches": [patch.model_dump(mode="json") for patch in instructions.patches],
                    "library_path": instructions.library_path,
                    "toolchain": self.toolchain_key,
                    "requires": sorted(file.sha256 for file in self.requires),
                    "tests": sorted(file.sha256 for file in self.tests),
                    "epoch": EPOCH,
                    **({"arguments": self.recipe.suite.arguments} if self.recipe.suite else {}),
                }
            )
        )


def lacking(lock: Lock, store: Store) -> list[Framework]:
    """The frameworks whose wheel was compiled and is not in the store, or is damaged there."""
    return [
        framework
        for framework in lock.frameworks
        if framework.made and not store.has(framework.wheel.sha256, framework.wheel.size)
    ]


def from_index(lock: Lock, store: Store) -> list[PyFile]:
    """What the package index has to give: what environments hold, and what compiles the wheels that
    are lacking."""
    compiled = {framework.wheel.sha256 for framework in lock.frameworks if framework.made}
    files = [
        file
        for files in lock.environments().values()
        for file in files
        if file.sha256 not in compiled
    ]
    for framework in lacking(lock, store):
        assert framework.made is not None
        files += [framework.made.source, *framework.made.requires, *framework.made.tests]
    return list({file.sha256: file for file in files}.values())


def installed_wheels(lock: Lock) -> dict[str, str]:
    """The wheels that a bake installs: path in its repository -> SHA-256."""
    return {
        f"wheels/{file.filename}": file.sha256
        for files in lock.environments().values()
        for file in files
    }


def path_of(store: Store, key: str) -> Path:
    """Where the outcome of a build is kept."""
    return store.cache.wheels / f"{key}.json"


def known(store: Store, build: WheelBuild) -> WheelOutcome | None:
    """The outcome of `build`, if it was built on this machine and is whole."""
    outcome = records.read_if_whole(path_of(store, build.key), WheelOutcome)
    if outcome is None:
        return None
    return outcome if store.has(outcome.wheel.sha256, outcome.wheel.size) else None


@dataclass(frozen=True)
class WheelCompiler:
    """What compiles wheels by the recipes of the checkout `root`. The cache of `store` has what it
    compiles from, and keeps what comes out."""

    root: Path
    store: Store
    progress: Progress
    log: Path

    def rebuild(self, lock: Lock) -> None:
        """Compile the lock's wheels that this machine lacks; they have to be the lock's to the
        byte."""
        for framework in lacking(lock, self.store):
            build = WheelBuild.of(lock, framework, recipes.load(self.root, framework.name))
            path_of(self.store, build.key).unlink(missing_ok=True)
            with self.progress.step(
                f"build {framework.name}", f"{framework.version} for {build.target.cpu}"
            ):
                outcome = self.compiled(build)
            if outcome.wheel.sha256 != framework.wheel.sha256:
                raise StageFailed(
                    f"{outcome.wheel.filename} compiled to {outcome.wheel.sha256[:12]}, "
                    f"the lock names {framework.wheel.sha256[:12]}",
                    log=self.log,
                    hint="the build is not reproducible on this machine: run `make lock "
                    f"IMAGE={lock.image}`",
                )

    def compiled(self, build: WheelBuild) -> WheelOutcome:
        """The outcome of `build`: from the cache if it is there and whole, else by compiling in a
        sandbox.

        HostNotReady, and nothing is kept, where the machine had not the space or the memory.
        """
        if found := known(self.store, build):
            return found
        with _held(path_of(self.store, build.key).with_suffix(".lock"), self.progress):
            return known(self.store, build) or self._compile(build)

    def _compile(self, build: WheelBuild) -> WheelOutcome:
        store = self.store
        with workspace.scratch_in(workspace.in_cache(store), f"wheel-{build.key[:12]}") as work:
            result = program.call(
                "goldenami.local.programs.build_wheel",
                self.plan(build, work),
                WheelResult,
                self.progress,
                look=partial(how_far.of_compilation, work),
            )
            path = result.wheel
            wheel = PyFile(
                project=build.source.project,
                version=build.recipe.version,
                filename=path.name,
                sha256=store.add(path),
                size=path.stat().st_size,
            )
        outcome = WheelOutcome(
            key=build.key,
            wheel=wheel,
            compiler=result.compiler,
            tests=result.tests,
            seconds=result.seconds,
            jobs=result.jobs,
            cache=result.cache,
        )
        records.write(path_of(store, build.key), outcome)
        return outcome

    def plan(self, build: WheelBuild, work: Path) -> WheelPlan:
        """The plan of a build in `work`; the wheels that it names are linked there."""
        store = self.store
        if not store.check(build.source.sha256):
            raise BadInput(
                f"{build.source.filename} in the store is not what the lock names "
                f"({build.source.sha256[:12]}): removed",
                hint="run again: it is fetched anew",
            )
        (work / "wheels").mkdir()
        files = [*build.requires, *build.runs_with, *build.tests]
        for name, sha256 in {file.filename: file.sha256 for file in files}.items():
            local_repository.link(store.path(sha256), work / "wheels" / name)
        instructions, suite = build.recipe.build, build.recipe.suite
        cached, mounts = _cache(store, build)
        tests = WheelTests(wheels=_paths(build.tests), arguments=suite.arguments) if suite else None
        site = f"/build/venv/lib/python{_python(build.debs)}/site-packages"
        return WheelPlan(
            work=work,
            log=self.log,
            tree=tree(build, store),
            base_key=build.toolchain_key,
            layers=store.cache.layers,
            programs=self._programs(build.name, work),
            name=build.name,
            target=build.target.cpu,
            sm=build.target.sm if instructions.cuda else [],
            source=store.path(build.source.sha256),
            files=instructions.files,
            patches=instructions.patches,
            settings=instructions.settings,
            environment={
                **_COMMON,
                **cached,
                **{name: value.replace("{site}", site) for name, value in build.flags.items()},
            },
            library_path=instructions.library_path,
            jobs=jobs_for(instructions.memory_mib),
            requires=_paths(build.requires),
            runs_with=_paths(build.runs_with),
            tests=tests,
            mounts=mounts,
        )

    def _programs(self, name: str, work: Path) -> Path:
        made, timer = work / "programs", f"{recipes.FOLDER}/timing.py"
        shutil.copytree(recipes.folder(self.root, name), made / name)
        shutil.copy(program_files.find(self.root, timer), made)
        return made


@contextlib.contextmanager
def _held(path: Path, progress: Progress) -> Iterator[None]:
    """Hold this lock: two processes that want one wheel compile it once. It goes with the process
    that holds it."""
    try:
        handle = locks.hold(path, EXCLUSIVE | AT_ONCE)
    except BlockingIOError:
        progress.say("waits for a wheel that another process compiles")
        handle = locks.hold(path)
    with handle:
        yield


def tree(build: WheelBuild, store: Store) -> Tree:
    """The scratch tree of a build."""
    repository = LocalRepository(build.debs, build.suite, EPOCH)
    packages = repository.write(store, store.cache.repositories / build.toolchain_key[:16])
    return Tree(
        suite=build.suite, repository=packages, include=sorted(deb.name for deb in build.debs)
    )


_COMMON = {
    "SOURCE_DATE_EPOCH": str(EPOCH),
    "MAKEFLAGS": "-j{jobs}",
    "CMAKE_BUILD_PARALLEL_LEVEL": "{jobs}",
    "MAX_JOBS": "{jobs}",
    "CMAKE_GENERATOR": "Ninja",
    "PYTHONHASHSEED": "0",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "CCACHE_DIR": "/build/ccache",
    "CCACHE_COMPILERCHECK": "content",
    "CCACHE_STATSLOG": "/build/ccache-log",
    "CCACHE_MAXSIZE": "5G",
}
"""Common to all builds. The compiler's content, not its date, tells ccache which one it is: so a
shared cache fits. CCACHE_NAMESPACE tells it the rest."""


def _cache(store: Store, build: WheelBuild) -> tuple[dict[str, str], list[tuple[Path, str]]]:
    folder = store.cache.ccache
    folder.mkdir(exist_ok=True)
    return {"CCACHE_NAMESPACE": build.compilers_key}, [(folder, "build/ccache")]


def jobs_for(memory_mib: int) -> int:
    """How many compilers run at once: as many as there are CPUs and memory for."""
    fitting = int(host_tools.free_memory() / (1 << 20) * MEMORY_SHARE / memory_mib)
    return max(1, min(fitting, len(os.sched_getaffinity(0))))


def _filled(text: str, words: Mapping[str, str]) -> str:
    for word, value in words.items():
        text = text.replace(word, value)
    return text


def _paths(files: Sequence[PyFile]) -> list[str]:
    """Where a work folder has them."""
    return [f"wheels/{file.filename}" for file in files]


def _python(debs: Sequence[Deb]) -> str:
    """The release's Python, "3.11": the version that its package `python3` depends on."""
    return ".".join(next(deb.version for deb in debs if deb.name == "python3").split(".")[:2])
