"""The frameworks of an image, resolved: versions that fit together, wheel or source by the rule,
exact files.

All frameworks of an image share one choice of versions, so a numpy that was built for the hardware
serves the others, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import chain
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
from goldenami.model.supported import compatibility
from goldenami.model.supported.architectures import GccVersion
from goldenami.packages.apt import AptRoot, Deb
from goldenami.packages.pypi import Archive, Index, Interpreter, PyFile
from goldenami.packages.store import Store

_GLIBC = re.compile(r"2\.(\d+)")


@dataclass(frozen=True)
class FrameworkRequest:
    """The frameworks that a definition asks for, and their hardware. `cpus` are all
    micro-architectures, `target` is what they share. `driver` is NVIDIA's locked version or "",
    `driver_sources` are its source packages. `beside` are pip's requirements for other packages of
    the shared environment."""

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
"""The value for an image without frameworks."""


def interpreter(debs: Sequence[Deb]) -> Interpreter:
    """The Python and the glibc of a set of packages."""
    versions = {deb.name: deb.version for deb in debs}
    major, minor = versions["python3"].split(".")[:2]
    match = _GLIBC.match(versions["libc6"])
    assert match is not None, versions["libc6"]
    return Interpreter((int(major), int(minor)), int(match[1]))


@dataclass(frozen=True)
class FrameworkResolver:
    """Resolves a `request` and builds the wheels that it needs. `previous_frameworks` are those of
    the lock that the new one replaces."""

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
        """Decide on wheel or source, resolve, and build what is taken from source."""
        request = self.request
        fitted = {name: self.fitting(name) for name in request.names}
        decisions = self._decisions(fitted)
        lines_by_framework = {
            name: requirements(recipe, decisions[name].origin, request.target.sm)
            for name, recipe in fitted.items()
        }
        environments, pins = self._environments(lines_by_framework)
        dispatching = recipes.dispatching(self.root)
        frameworks, toolchain = dict[str, Framework](), dict[str, Deb]()
        # A framework that needs another one gets its compiled wheel, so that has to be built first.
        for name in _in_order(fitted, environments):
            recipe = fitted[name].recipe
            wheel, requires = parts(recipe, environments[name], frameworks)
            compiled = None
            if decisions[name].origin is Origin.SOURCE:
                build = self.wheel_build(name, recipe, requires, pins)
                wheel, compiled = self._locked(build)
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
                made=compiled,
                allow=_allowances(dispatching, [wheel, *requires]),
            )
        choices = [
            _choice(framework, fitted[name], decisions[name], request.target.cpu)
            for name, framework in frameworks.items()
        ]
        return ResolvedFrameworks(list(frameworks.values()), list(toolchain.values()), choices)

    def _decisions(self, fitted: Mapping[str, FittedRecipe]) -> dict[str, Decision]:
        """Whether each framework is taken as a wheel or from source."""
        measurements = build_decision.load(self.root)
        decisions = dict[str, Decision]()
        for name, fitted_recipe in fitted.items():
            recipe = fitted_recipe.recipe
            sm = self.request.target.sm if recipe.build.cuda else []
            decisions[name] = build_decision.decide(
                name, recipe, self.request.cpus, sm, measurements
            )
        return decisions

    def fitting(self, name: str) -> FittedRecipe:
        """The recipe `name` with the wheel that fits the image's driver and GPUs."""
        recipe, request = recipes.load(self.root, name), self.request
        drivers = compatibility.load(self.root)
        return cuda_wheels.fit(recipe, request.driver, request.target.sm, drivers)

    def _environments(
        self, lines_by_framework: Mapping[str, list[str]]
    ) -> tuple[dict[str, list[PyFile]], list[str]]:
        """The wheels of each framework's environment, and pip's constraints that pin them. All
        environments share one choice of versions."""
        python = self.image_python()
        all_lines = [*chain.from_iterable(lines_by_framework.values()), *self.request.beside]
        closure = self.index.resolve(all_lines, [], python)
        pins = _pinned(closure)
        if self.request.shared_environment:
            return dict.fromkeys(lines_by_framework, closure), pins
        environments = dict[str, list[PyFile]]()
        for name, lines in lines_by_framework.items():
            environments[name] = self.index.resolve(lines, pins, python)
        return environments, pins

    def environment(self, resolved: ResolvedFrameworks) -> list[PyFile]:
        """All wheels of the environment that the frameworks share, or [] if each has its own.
        Without frameworks the wheels of the request's `beside`."""
        if not resolved.frameworks:
            return self.index.resolve(self.request.beside, [], self.image_python())
        files = dict[str, PyFile]()
        if self.request.shared_environment:
            for framework in resolved.frameworks:
                for file in (*framework.requires, framework.wheel):
                    files[file.project] = file
        return [files[project] for project in sorted(files)]

    def image_python(self) -> Interpreter:
        """The image's Python and glibc."""
        return interpreter(self.apt.solve(["?essential", "apt", *wheel_builds.PACKAGES]))

    def wheel_build(
        self,
        name: str,
        recipe: Recipe,
        runs_with: Sequence[PyFile],
        pins: Sequence[str],
    ) -> WheelBuild:
        """Everything that shapes the wheel of a build, to the exact file."""
        request, target = self.request, self.request.target
        packages = ["?essential", "apt", *wheel_builds.PACKAGES, *recipe.build.packages]
        if target.sm and recipe.build.cuda:
            packages += wheel_builds.CUDA_PACKAGES
        else:
            # Without GPU code the image's GPUs shape neither the wheel nor its key.
            target = target.model_copy(update={"sm": []})
        debs = self.apt.solve(packages)
        dummies = dummy_packages.of_driver(self.store, debs, request.driver_sources, request.driver)
        python = interpreter(debs)
        source = _source(name, recipe, self.index)
        lines = [
            wheel_builds.PIP,
            *recipe.build.requires,
            *recipe.build.added(request.target.sm).requires,
        ]
        requires = self.index.resolve(lines, pins, python)
        tests = list[PyFile]()
        if recipe.suite:
            # Packages that only the tests need are in no image, so the image's pins do not bind
            # them.
            test_lines = [*recipe.suite.requires, *_pinned(runs_with)]
            tests = self.index.resolve(test_lines, [], python)
        installed_projects = {source.project, *(file.project for file in runs_with)}
        return WheelBuild(
            name=name,
            recipe=recipe,
            target=target,
            suite=request.suite,
            source=source,
            debs=[dummies.get(deb.name, deb) for deb in debs],
            requires=requires,
            runs_with=runs_with,
            tests=[file for file in tests if file.project not in installed_projects],
        )

    @property
    def compiler(self) -> WheelCompiler:
        return WheelCompiler(self.root, self.store, self.progress, self.log)

    def compiled(self, build: WheelBuild) -> WheelOutcome:
        """The outcome of `build`, compiled now if this machine has not built it before."""
        if outcome := wheel_builds.known(self.store, build):
            return outcome
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
        """The wheel, and how it was made: from this machine's cache, the previous lock, or compiled
        now."""
        # The same key means the same bytes, so a wheel of the previous lock is not compiled again;
        # a bake that lacks it compares its own build with the lock. This machine's own outcome
        # comes first: if a bake found that those bytes do not come out here, the next lock names
        # the new ones.
        if wheel_builds.known(self.store, build) is None:
            for framework in self.previous_frameworks:
                made = framework.made
                if made and made.key == build.key:
                    return framework.wheel, _compiled_wheel(build, made.compiler, made.result)
        outcome = self.compiled(build)
        return outcome.wheel, _compiled_wheel(build, outcome.compiler, outcome.tests)


def _allowances(
    dispatching: Mapping[str, list[Allowance]], wheels: Sequence[PyFile]
) -> list[Allowance]:
    """The allowances of each wheel in turn: a row that two of them have comes twice."""
    allowed = list[Allowance]()
    for wheel in wheels:
        for pattern, rows in dispatching.items():
            if fnmatchcase(wheel.project, pattern):
                allowed += rows
    return allowed


def _pinned(files: Sequence[PyFile]) -> list[str]:
    """pip's requirements for exactly the versions of `files`."""
    return [f"{file.project}=={file.version}" for file in files]


def _in_order(
    fitted: Mapping[str, FittedRecipe], environments: Mapping[str, list[PyFile]]
) -> list[str]:
    """The frameworks in an order in which each comes after those that it needs."""
    projects = {
        name: canonicalize_name(entry.recipe.distribution) for name, entry in fitted.items()
    }

    def needs(name: str) -> int:
        return sum(
            file.project in projects.values() and file.project != projects[name]
            for file in environments[name]
        )

    # A framework has fewer others in its environment than one that needs it.
    return sorted(fitted, key=lambda name: (needs(name), name))


def requirements(fitted: FittedRecipe, origin: Origin, sm: Sequence[str]) -> list[str]:
    """pip's requirements: the index's wheel, or the packages that a build for `sm` needs to run."""
    build = fitted.recipe.build
    lines = [*fitted.requirements, *fitted.recipe.requires]
    if origin is Origin.SOURCE:
        lines += [*build.runs_with, *build.added(sm).runs_with]
    return lines


def parts(
    recipe: Recipe,
    closure: Sequence[PyFile],
    built_frameworks: Mapping[str, Framework],
) -> tuple[PyFile | None, list[PyFile]]:
    """The index's wheel of a framework (None if it has none), and the rest of `closure`, with the
    wheels that were built here in place of the index's."""
    own_project = canonicalize_name(recipe.wheel.distribution) if recipe.wheel else ""
    compiled = dict[str, list[PyFile]]()
    for framework in built_frameworks.values():
        if framework.made:
            compiled[framework.wheel.project] = [framework.wheel, *framework.requires]
    by_project = dict[str, PyFile]()
    for file in closure:
        for part in compiled.get(file.project, [file]):
            by_project[part.project] = part
    own_wheel = by_project.pop(own_project, None)
    return own_wheel, [by_project[project] for project in sorted(by_project)]


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
    taken, alternative = "the index's wheel", f"compiled for {cpu}"
    if framework.made:
        taken, alternative = alternative, taken
    passed_over = [PassedOver(what=what, reason=reason) for what, reason in fitted.passed_over]
    # A recipe without a wheel leaves no alternative to a build.
    if fitted.recipe.wheel or not framework.made:
        what = f"{framework.version}, {alternative}"
        passed_over.append(PassedOver(what=what, reason=decision.why))
    return Choice(
        component=framework.name,
        taken=f"{framework.version}, {taken}",
        why="; ".join(filter(None, (decision.why, fitted.why))),
        passed_over=passed_over,
    )


def variables(frameworks: Sequence[Framework], modules: Mapping[str, str]) -> list[dict[str, Any]]:
    """The value of the role's `frameworks_installed`, and so of FRAMEWORKS.json and the image's
    tests."""
    return [_variables(framework, modules[framework.name]) for framework in frameworks]


def _variables(framework: Framework, module: str) -> dict[str, Any]:
    target: dict[str, Any] = {"cpu": None, "flags": [], "sm": []}
    if framework.made:
        compiled_for = framework.made.target
        target = {
            "cpu": compiled_for.cpu,
            "flags": compiled_for.options,
            "sm": compiled_for.sm,
        }
    return {
        "name": framework.name,
        "version": framework.version,
        "module": module,
        "environment": framework.environment,
        "origin": framework.origin.value,
        "distribution": framework.wheel.project,
        "why": framework.why,
        "gain": framework.gain,
        "measured_on": framework.measured_on,
        **target,
        "wheels": told([framework.wheel, *framework.requires]),
    }


def told(wheels: Sequence[PyFile]) -> dict[str, dict[str, str]]:
    """Version and SHA-256 of each wheel by project, as roles get them."""
    return {file.project: {"version": file.version, "sha256": file.sha256} for file in wheels}


def allowances(root: Path, wheels: Sequence[PyFile]) -> list[Allowance]:
    """Allowances for those of `wheels` that detect the CPU at run time and so may hold code for
    newer ones."""
    allowed = list[Allowance]()
    for pattern, rows in recipes.dispatching(root).items():
        if any(fnmatchcase(file.project, pattern) for file in wheels):
            allowed += rows
    return allowed
