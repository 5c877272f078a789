"""The frameworks of an image, resolved: versions that fit together, wheel or source by the rule,
exact files.

All frameworks of an image share one choice of versions, so that a numpy built for the hardware
serves the others too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from goldenami.core.errors import BadInput, NoFit
from goldenami.core.terminal.progress import Progress
from goldenami.image.lock import build_decision, cuda_wheels
from goldenami.image.lock.build_decision import Decision
from goldenami.image.lock.compilation import dummy_packages, wheel_builds
from goldenami.image.lock.compilation.wheel_builds import WheelBuild, WheelCompiler, WheelOutcome
from goldenami.image.lock.cuda_wheels import FittedRecipe
from goldenami.local.machine import container
from goldenami.model.locked.lockfile import (
    Choice,
    CompiledWheel,
    Framework,
    Origin,
    PassedOver,
    Target,
)
from goldenami.model.roles import recipes
from goldenami.model.roles.recipes import Allowance, Recipe, SourceKind
from goldenami.model.supported.architectures import GccVersion
from goldenami.packages.apt import AptRoot, Deb
from goldenami.packages.pypi import Archive, Index, Interpreter, PyFile
from goldenami.packages.store import Store

_GLIBC = re.compile(r"2\.(\d+)")


@dataclass(frozen=True)
class FrameworkRequest:
    """What a definition asks for, on which hardware: `cpus` are all micro-architectures, `target`
    what they share; `driver` is NVIDIA's locked version, "" without one, and `driver_sources` its
    source packages. `beside` is what else the shared environment holds, for pip."""

    names: Sequence[str]
    shared_environment: str
    cpus: Sequence[str]
    target: Target
    suite: str
    gcc: GccVersion
    driver: str = ""
    driver_sources: Sequence[str] = ()
    beside: Sequence[str] = ()


@dataclass(frozen=True)
class ResolvedFrameworks:
    """The frameworks in the order of their installation, the packages that compiled them, and the
    choices."""

    frameworks: list[Framework]
    toolchain: list[Deb]
    choices: list[Choice]


NO_FRAMEWORKS = ResolvedFrameworks([], [], [])
"""Of an image without frameworks."""


def interpreter(debs: Sequence[Deb]) -> Interpreter:
    """The Python and the glibc of a set of packages."""
    versions = {deb.name: deb.version for deb in debs}
    major, minor = versions["python3"].split(".")[:2]
    match = _GLIBC.match(versions["libc6"])
    assert match is not None, versions["libc6"]
    return Interpreter((int(major), int(minor)), int(match[1]))


@dataclass(frozen=True)
class FrameworkResolver:
    """What resolves a `request` and builds what it needs; `previous_frameworks` are those of the
    lock that a new one replaces."""

    request: FrameworkRequest
    root: Path
    apt: AptRoot
    store: Store
    index: Index
    progress: Progress
    log: Path
    fetch_debs: Callable[[list[Deb]], None]
    previous_frameworks: Sequence[Framework] = ()

    def resolve(self) -> ResolvedFrameworks:
        """Decide, resolve and build what the request names."""
        request = self.request
        fitted = {name: self.fitting(name) for name in request.names}
        measurements = build_decision.load(self.root)
        decisions = {
            name: build_decision.decide(
                name,
                one.recipe,
                request.cpus,
                request.target.sm if one.recipe.build.cuda else [],
                measurements,
            )
            for name, one in fitted.items()
        }
        asked = {
            name: requirements(recipe, decisions[name].origin, request.target.sm)
            for name, recipe in fitted.items()
        }
        environments, pins = self._environments(asked)
        allowances = recipes.dispatching(self.root)
        frameworks, toolchain = dict[str, Framework](), dict[str, Deb]()
        for name in _in_order(fitted, environments):
            recipe = fitted[name].recipe
            wheel, requires = parts(recipe, environments[name], frameworks)
            made = None
            if decisions[name].origin is Origin.SOURCE:
                build = self.wheel_build(name, recipe, requires, pins)
                wheel, made = self._locked(build)
                decisions[name] = decisions[name].of(build.key)
                toolchain.update((deb.name, deb) for deb in build.debs)
            assert wheel is not None
            decision = decisions[name]
            frameworks[name] = Framework(
                name=name,
                version=recipe.version,
                environment=request.shared_environment or name,
                origin=decision.origin,
                why=decision.why,
                gain=decision.speedup,
                measured_on=decision.measured_on,
                wheel=wheel,
                requires=requires,
                made=made,
                allow=[
                    allowance
                    for file in [wheel, *requires]
                    for pattern, rows in allowances.items()
                    if fnmatchcase(file.project, pattern)
                    for allowance in rows
                ],
            )
        return ResolvedFrameworks(
            list(frameworks.values()),
            list(toolchain.values()),
            [
                _choice(framework, fitted[name], decisions[name], request.target.cpu)
                for name, framework in frameworks.items()
            ],
        )

    def fitting(self, name: str) -> FittedRecipe:
        """The recipe `name` with the wheel that fits the image's driver and GPUs."""
        recipe, request = recipes.load(self.root, name), self.request
        return cuda_wheels.fit(recipe, request.driver, request.target.sm)

    def _environments(
        self, asked: Mapping[str, list[str]]
    ) -> tuple[dict[str, list[PyFile]], list[str]]:
        """The wheels of each framework's environment, of one choice of versions for all; and that
        choice as constraints."""
        python = self.image_python()
        wanted = [line for lines in asked.values() for line in lines]
        closure = self.index.resolve([*wanted, *self.request.beside], [], python)
        pins = [f"{file.project}=={file.version}" for file in closure]
        if self.request.shared_environment:
            return dict.fromkeys(asked, closure), pins
        return {
            name: self.index.resolve(lines, pins, python) for name, lines in asked.items()
        }, pins

    def environment(self, resolved: ResolvedFrameworks) -> list[PyFile]:
        """All wheels of the environment that the frameworks share; without frameworks, those of
        what is asked for beside them. Nothing where each has an environment of its own."""
        if resolved.frameworks:
            files = (
                {
                    file.project: file
                    for one in resolved.frameworks
                    for file in [*one.requires, one.wheel]
                }
                if self.request.shared_environment
                else {}
            )
            return [files[project] for project in sorted(files)]
        return self.index.resolve(self.request.beside, [], self.image_python())

    def image_python(self) -> Interpreter:
        """The image's Python."""
        return interpreter(self.apt.solve(["?essential", "apt", *wheel_builds.PACKAGES]))

    def wheel_build(
        self,
        name: str,
        recipe: Recipe,
        runs_with: Sequence[PyFile],
        pins: Sequence[str],
    ) -> WheelBuild:
        """The exact order of a build: everything that shapes the wheel."""
        request = self.request
        cuda = bool(request.target.sm and recipe.build.cuda)
        debs = self.apt.solve(
            [
                "?essential",
                "apt",
                *wheel_builds.PACKAGES,
                *recipe.build.packages,
                *(wheel_builds.CUDA_PACKAGES if cuda else []),
            ]
        )
        dummies = dummy_packages.of_driver(self.store, debs, request.driver_sources, request.driver)
        python = interpreter(debs)
        source = _source(name, recipe, self.index)
        wanted = [
            wheel_builds.PIP,
            *recipe.build.requires,
            *recipe.build.added(request.target.sm).requires,
        ]
        requires = self.index.resolve(wanted, pins, python)
        # What only the tests need is in no image: the image's choice of versions does not bind it.
        tests = (
            self.index.resolve(
                [
                    *recipe.suite.requires,
                    *(f"{file.project}=={file.version}" for file in runs_with),
                ],
                [],
                python,
            )
            if recipe.suite
            else []
        )
        known = {file.project for file in runs_with} | {source.project}
        target = request.target if cuda else request.target.model_copy(update={"sm": []})
        return WheelBuild(
            name=name,
            recipe=recipe,
            target=target,
            suite=request.suite,
            source=source,
            debs=[dummies.get(deb.name, deb) for deb in debs],
            requires=requires,
            runs_with=runs_with,
            tests=[file for file in tests if file.project not in known],
        )

    @property
    def compiler(self) -> WheelCompiler:
        return WheelCompiler(self.root, self.store, self.progress, self.log)

    def compiled(self, build: WheelBuild) -> WheelOutcome:
        """The outcome of `build`, compiled now if this machine has not built it before."""
        if found := wheel_builds.known(self.store, build):
            return found
        container.check_host()  # before its tools are fetched
        self.fetch_debs(list(build.debs))
        self.index.fetch(
            [build.source, *build.requires, *build.runs_with, *build.tests], self.store
        )
        with self.progress.step(
            f"build {build.name}", f"{build.recipe.version} for {build.target.cpu}"
        ):
            return self.compiler.compiled(build)

    def _locked(self, build: WheelBuild) -> tuple[PyFile, CompiledWheel]:
        """The wheel, and how it was made. One that the previous lock has with the same key is not
        compiled again: the same inputs give the same bytes, and a bake that lacks it holds its own
        build to them. What this machine has built counts for more: where a bake found that those
        bytes do not come out, the next lock names its own."""
        for framework in (
            self.previous_frameworks if wheel_builds.known(self.store, build) is None else []
        ):
            if framework.made and framework.made.key == build.key:
                return framework.wheel, _compiled_wheel(
                    build, framework.made.compiler, framework.made.result
                )
        outcome = self.compiled(build)
        return outcome.wheel, _compiled_wheel(build, outcome.compiler, outcome.tests)


def _in_order(
    fitted: Mapping[str, FittedRecipe], environments: Mapping[str, list[PyFile]]
) -> list[str]:
    """Each after the frameworks that it needs: those have fewer of the others in their
    environments."""
    projects = {
        name: canonicalize_name(entry.recipe.distribution) for name, entry in fitted.items()
    }

    def needs(name: str) -> int:
        return sum(
            file.project in projects.values() and file.project != projects[name]
            for file in environments[name]
        )

    return sorted(fitted, key=lambda name: (needs(name), name))


def requirements(fitted: FittedRecipe, origin: Origin, sm: Sequence[str]) -> list[str]:
    """What pip is asked for: the index's wheel, or what a build of one's own for `sm` needs to
    run."""
    build = fitted.recipe.build
    built = [*build.runs_with, *build.added(sm).runs_with] if origin is Origin.SOURCE else []
    return [*fitted.requirements, *fitted.recipe.requires, *built]


def parts(
    recipe: Recipe,
    closure: Sequence[PyFile],
    built: Mapping[str, Framework],
) -> tuple[PyFile | None, list[PyFile]]:
    """The index's own wheel of a framework (if it has one), and the rest with what is built here in
    its place."""
    own = canonicalize_name(recipe.wheel.distribution) if recipe.wheel else ""
    compiled = {
        framework.wheel.project: framework for framework in built.values() if framework.made
    }
    rest = dict[str, PyFile]()
    for file in closure:
        framework = compiled.get(file.project)
        rest.update(
            (part.project, part)
            for part in ([framework.wheel, *framework.requires] if framework else [file])
        )
    return rest.pop(own, None), [rest[project] for project in sorted(rest)]


def _source(name: str, recipe: Recipe, index: Index) -> PyFile:
    source = recipe.source
    if source.kind is SourceKind.ARCHIVE:
        if not (source.url and source.size and source.sha256):
            raise NoFit(
                f"recipe {name}: its source archive has no SHA-256 and size",
                hint="fetch it, look at it, and write both into the recipe",
            )
        return Archive(
            project=recipe.distribution,
            version=recipe.version,
            url=source.url,
            size=source.size,
            filename=source.url.rpartition("/")[2],
            sha256=source.sha256,
        )
    sdist = index.sdist(recipe.distribution, recipe.version)
    if source.sha256 not in (None, sdist.sha256):
        raise BadInput(
            f"recipe {name}: {sdist.filename} on the package index has SHA-256 "
            f"{sdist.sha256[:12] or 'none'}"
            f", the recipe names {source.sha256[:12]}",
            hint="find out why before the recipe takes it; a new version needs its own SHA-256",
        )
    return sdist


def _compiled_wheel(build: WheelBuild, compiler: str, result: str) -> CompiledWheel:
    return CompiledWheel(
        key=build.key,
        target=build.target,
        compiler=compiler,
        source=build.source,
        build=sorted(deb.name for deb in build.debs),
        requires=list(build.requires),
        tests=list(build.tests),
        result=result,
    )


def _choice(framework: Framework, fitted: FittedRecipe, decision: Decision, cpu: str) -> Choice:
    wheel, build = "the index's wheel", f"compiled for {cpu}"
    how, other = (build, wheel if fitted.recipe.wheel else "") if framework.made else (wheel, build)
    over = [
        *fitted.passed_over,
        *([(f"{framework.version}, {other}", decision.why)] if other else []),
    ]
    return Choice(
        component=framework.name,
        taken=f"{framework.version}, {how}",
        why="; ".join(part for part in (decision.why, fitted.why) if part),
        passed_over=[PassedOver(what=what, reason=reason) for what, reason in over],
    )


def variables(frameworks: Sequence[Framework], modules: Mapping[str, str]) -> list[dict[str, Any]]:
    """What the role gets, and so FRAMEWORKS.json and the image's tests."""
    return [
        {
            "name": one.name,
            "version": one.version,
            "module": modules[one.name],
            "environment": one.environment,
            "origin": one.origin.value,
            "distribution": one.wheel.project,
            "why": one.why,
            "gain": one.gain,
            "measured_on": one.measured_on,
            "cpu": one.made.target.cpu if one.made else None,
            "flags": one.made.target.options if one.made else [],
            "sm": one.made.target.sm if one.made else [],
            "wheels": told([one.wheel, *one.requires]),
        }
        for one in frameworks
    ]


def told(wheels: Sequence[PyFile]) -> dict[str, dict[str, str]]:
    """What a role gets of wheels, by project."""
    return {file.project: {"version": file.version, "sha256": file.sha256} for file in wheels}


def allowances(root: Path, wheels: Sequence[PyFile]) -> list[Allowance]:
    """What of these wheels may hold code for newer CPUs, since it asks for the CPU."""
    return [
        row
        for pattern, rows in recipes.dispatching(root).items()
        for row in rows
        if any(fnmatchcase(file.project, pattern) for file in wheels)
    ]
