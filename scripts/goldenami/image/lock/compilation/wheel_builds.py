"""Wheels compiled from source for given hardware, with the image's own Python, glibc and compiler.

The scratch tree has no network; sources and tools come from the store. Results are kept in the
cache under a key of everything that shapes them, so a second image that needs the same wheel
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
from itertools import chain
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
"""Raise this when programs/build_wheel.py or wheel_pack.py change the output for the same
inputs."""
EPOCH = 315532800
"""1980-01-01 in seconds since 1970, the earliest date that ZIP can hold: a wheel does not change
when an index does."""
MEMORY_SHARE = 0.8
"""Share of the free memory that all compilers together may use."""
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
"""Packages of every build, beside the essential ones."""
CUDA_PACKAGES = ("nvidia-cuda-toolkit", "nvidia-cuda-toolkit-gcc")
_COMPILERS = re.compile(r"binutils|gcc-\d+|llvm-toolchain-\d+|nvidia-cuda-toolkit")
"""Source packages of compilers. ccache itself looks at the compiler's driver only: not at as, ptxas
and cicc, and nvcc's driver is a script."""
PIP = "pip==26.3"
"""The pip of the build environment: the release's may be too old for repeated settings of a build
backend (pip 23.1)."""


class WheelOutcome(Record):
    """The result of a build: the wheel, the compiler's name, and the closing line of the
    framework's own tests.

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
    """A wheel to build. `requires` is the build environment, `runs_with` what the wheel needs to
    run, `tests` what its own tests need besides; `debs` is the closure of the scratch tree."""

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
        """The build that made a framework's wheel, by its lock."""
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
        """The environment variables of the build. The placeholders {jobs} and {site} are still in
        them."""
        instructions = self.recipe.build
        environment = instructions.environment | instructions.added(self.target.sm).environment
        placeholders = {
            "{options}": " ".join(self.target.options),
            "{sm}": ";".join(self.target.sm),
            "{sm_dotted}": ";".join(f"{sm[:-1]}.{sm[-1]}" for sm in self.target.sm),
        }
        return {name: _filled(value, placeholders) for name, value in environment.items()}

    @property
    def toolchain_key(self) -> str:
        """SHA-256 over the packages of the scratch tree."""
        return records.sha256_text(
            records.canonical({"toolchain": sorted(deb.sha256 for deb in self.debs)})
        )

    @property
    def compilers_key(self) -> str:
        """SHA-256 over the compilers, which is ccache's namespace: objects of other compilers are
        never taken."""
        compilers = [deb.sha256 for deb in self.debs if _COMPILERS.fullmatch(deb.source)]
        return records.sha256_text(records.canonical(sorted(compilers)))

    @property
    def key(self) -> str:
        instructions = self.recipe.build
        patches = [patch.model_dump(mode="json") for patch in instructions.patches]
        shape = {
            "format": FORMAT,
            "source": self.source.sha256,
            "target": self.target.model_dump(mode="json"),
            "flags": self.flags,
            "settings": instructions.settings,
            "files": instructions.files,
            "suite": self.suite,
            "patches": patches,
            "library_path": instructions.library_path,
            "toolchain": self.toolchain_key,
            "requires": _digests(self.requires),
            "tests": _digests(self.tests),
            "epoch": EPOCH,
        }
        if self.recipe.suite:
            shape["arguments"] = self.recipe.suite.arguments
        return records.sha256_text(records.canonical(shape))


def _digests(files: Sequence[PyFile]) -> list[str]:
    return sorted(file.sha256 for file in files)


def lacking(lock: Lock, store: Store) -> list[Framework]:
    """The frameworks with a compiled wheel that is missing from the store, or damaged there."""
    frameworks = list[Framework]()
    for framework in lock.frameworks:
        wheel = framework.wheel
        if framework.made and not store.has(wheel.sha256, wheel.size):
            frameworks.append(framework)
    return frameworks


def from_index(lock: Lock, store: Store) -> list[PyFile]:
    """The files that the package index has to give: those of the environments, and those that
    compile the lacking wheels."""
    compiled = {framework.wheel.sha256 for framework in lock.frameworks if framework.made}
    installed = chain.from_iterable(lock.environments().values())
    files = [file for file in installed if file.sha256 not in compiled]
    for framework in lacking(lock, store):
        assert framework.made is not None
        files += [framework.made.source, *framework.made.requires, *framework.made.tests]
    return list({file.sha256: file for file in files}.values())


def installed_wheels(lock: Lock) -> dict[str, str]:
    """The wheels that a bake installs: path in its repository -> SHA-256."""
    wheels = chain.from_iterable(lock.environments().values())
    return {f"wheels/{wheel.filename}": wheel.sha256 for wheel in wheels}


def path_of(store: Store, key: str) -> Path:
    """The record of a build's outcome in the cache."""
    return store.cache.wheels / f"{key}.json"


def known(store: Store, build: WheelBuild) -> WheelOutcome | None:
    """The outcome of `build` if this machine built it before and still has the whole wheel, else
    None."""
    outcome = records.read_if_whole(path_of(store, build.key), WheelOutcome)
    if outcome is None or not store.has(outcome.wheel.sha256, outcome.wheel.size):
        return None
    return outcome


@dataclass(frozen=True)
class WheelCompiler:
    """Compiles wheels by the recipes of the checkout `root`. Inputs come from the cache of `store`,
    results are kept there."""

    root: Path
    store: Store
    progress: Progress
    log: Path

    def rebuild(self, lock: Lock) -> None:
        """Compile the lock's wheels that this machine lacks. Raises StageFailed if one is not equal
        to the lock's, byte for byte."""
        for framework in lacking(lock, self.store):
            build = WheelBuild.of(lock, framework, recipes.load(self.root, framework.name))
            # The recorded outcome is of a wheel that the store has lost, or of other bytes than the
            # lock's.
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
        """The outcome of `build`, from the cache if it is there and whole, else compiled in a
        sandbox.

        Raises HostNotReady, and keeps nothing, if the machine lacks disk space or memory.
        """
        if outcome := known(self.store, build):
            return outcome
        with _held(path_of(self.store, build.key).with_suffix(".lock"), self.progress):
            # Another process may have compiled it while this one waited.
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
        """The plan of a build in `work`, with the wheels that it names linked there."""
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
        flags = {name: value.replace("{site}", site) for name, value in build.flags.items()}
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
            environment={**_COMMON, **cached, **flags},
            library_path=instructions.library_path,
            jobs=jobs_for(instructions.memory_mib),
            requires=_paths(build.requires),
            runs_with=_paths(build.runs_with),
            tests=tests,
            mounts=mounts,
        )

    def _programs(self, name: str, work: Path) -> Path:
        folder, timing = work / "programs", f"{recipes.FOLDER}/timing.py"
        shutil.copytree(recipes.folder(self.root, name), folder / name)
        shutil.copy(program_files.find(self.root, timing), folder)
        return folder


@contextlib.contextmanager
def _held(path: Path, progress: Progress) -> Iterator[None]:
    """Hold the lock at `path`, so that two processes that need one wheel compile it once. The
    kernel frees it when its holder ends."""
    try:
        # The first try does not wait, so that a wait can be announced.
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
"""Environment variables of all builds. ccache identifies the compiler by its content, not its date,
so one cache serves all trees; CCACHE_NAMESPACE has what it does not look at."""


def _cache(store: Store, build: WheelBuild) -> tuple[dict[str, str], list[tuple[Path, str]]]:
    folder = store.cache.ccache
    folder.mkdir(exist_ok=True)
    return {"CCACHE_NAMESPACE": build.compilers_key}, [(folder, "build/ccache")]


def jobs_for(memory_mib: int) -> int:
    """How many compilers run at once, at `memory_mib` each: limited by the free memory and the
    CPUs."""
    by_memory = int(host_tools.free_memory() / (1 << 20) * MEMORY_SHARE / memory_mib)
    return max(1, min(by_memory, len(os.sched_getaffinity(0))))


def _filled(text: str, placeholders: Mapping[str, str]) -> str:
    for placeholder, value in placeholders.items():
        text = text.replace(placeholder, value)
    return text


def _paths(files: Sequence[PyFile]) -> list[str]:
    """The wheels' paths in the work folder."""
    return [f"wheels/{file.filename}" for file in files]


def _python(debs: Sequence[Deb]) -> str:
    """The release's Python, "3.11", by the version of its package `python3`."""
    return ".".join(next(deb.version for deb in debs if deb.name == "python3").split(".")[:2])
