"""The frameworks of an image, resolved: versions that fit together, wheel or source by the rule, exact files.

All frameworks of an image share one choice of versions, so that a numpy built for the hardware serves the others too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from goldenami.compilation import wheel_builds
from goldenami.compilation.wheel_builds import WheelBuild
from goldenami.core.errors import BadInput, NoFit, StageFailed
from goldenami.core.progress import Progress
from goldenami.lock import build_decision, cuda_wheels
from goldenami.lock.build_decision import Decision
from goldenami.lock.cuda_wheels import FittedRecipe
from goldenami.model import instruction_sets, recipes
from goldenami.model.lockfile import Choice, CompiledWheel, Framework, Origin, PassedOver, Target
from goldenami.model.recipes import Recipe, SourceKind
from goldenami.packages.apt import AptRoot, Deb
from goldenami.packages.pypi import Archive, Index, Interpreter, PyFile
from goldenami.packages.store import Store

_GLIBC = re.compile(r"2\.(\d+)")


@dataclass(frozen=True)
class FrameworkRequest:
    """What a definition asks for, on which hardware: `cpus` are all micro-architectures, `target` what they share;
    `driver` is NVIDIA's locked version, "" without one."""

    names: Sequence[str]
    shared_environment: str
    cpus: Sequence[str]
    target: Target
    suite: str
    gcc: instruction_sets.GccVersion
    driver: str = ""


@dataclass(frozen=True)
class ResolverContext:
    """What resolving and building needs of its surroundings; `before` is what the image's former lock says of
    frameworks."""

    root: Path
    apt: AptRoot
    store: Store
    index: Index
    progress: Progress
    log: Path
    fetch_debs: Callable[[list[Deb]], None]
    before: Sequence[Framework] = ()


@dataclass(frozen=True)
class ResolvedFrameworks:
    """The frameworks in the order of their installation, the packages that compiled them, and the choices."""

    frameworks: list[Framework]
    toolchain: list[Deb]
    choices: list[Choice]


@dataclass(frozen=True)
class BenchmarkPair:
    """Two environments to compare: the build for the image's hardware, and the generic wheel or build `against`.

    Each side is the framework's own wheel, then what it needs; `order` is that of the image's build.
    """

    order: WheelBuild
    image: list[PyFile]
    generic: list[PyFile]
    against: str


NO_FRAMEWORKS = ResolvedFrameworks([], [], [])
"""Of an image without frameworks."""


def interpreter(debs: Sequence[Deb]) -> Interpreter:
    """The Python and the glibc of a set of packages."""
    versions = {deb.name: deb.version for deb in debs}
    major, minor = versions["python3"].split(".")[:2]
    match = _GLIBC.match(versions["libc6"])
    assert match is not None, versions["libc6"]
    return Interpreter((int(major), int(minor)), int(match[1]))


def resolve(request: FrameworkRequest, around: ResolverContext) -> ResolvedFrameworks:
    """Decide, resolve and build what `request` names."""
    fitted = {name: fitting(name, request, around) for name in request.names}
    wanted = {name: one.recipe for name, one in fitted.items()}
    measured, allowances = build_decision.load(around.root), recipes.dispatching(around.root)
    decided = {name: build_decision.decide(name, recipe, request.cpus, request.target.sm if recipe.build.cuda else [],
                                           measured)
               for name, recipe in wanted.items()}
    python = interpreter(around.apt.solve(["?essential", "apt", *wheel_builds.PACKAGES]))
    asked = {name: _requirements(one, decided[name].origin, request.target.sm) for name, one in fitted.items()}
    closures, pins = _closures(asked, around.index, python, shared=bool(request.shared_environment))
    found, toolchain = dict[str, Framework](), dict[str, Deb]()
    order = _in_order(wanted, closures)
    for name in order:
        recipe, decision = wanted[name], decided[name]
        own, others = _parts(recipe, closures[name], found)
        made = None
        if decision.origin is Origin.SOURCE:
            job = order_for(name, recipe, request, around, others, pins)
            own, made = _made(job, around)
            decision = decided[name] = decision.of(job.key)
            toolchain.update((deb.name, deb) for deb in job.debs)
        assert own is not None
        found[name] = Framework(
            name=name, version=recipe.version, environment=request.shared_environment or name, origin=decision.origin,
            why=decision.why, gain=decision.gain, measured_on=decision.measured_on, wheel=own, requires=others,
            made=made, allow=[allowed for file in [own, *others] for pattern, several in allowances.items()
                              if fnmatchcase(file.project, pattern) for allowed in several])
    frameworks = [found[name] for name in order]
    return ResolvedFrameworks(frameworks, list(toolchain.values()), [
        _choice(one, fitted[one.name], decided[one.name], request.target.cpu) for one in frameworks])


def fitting(name: str, request: FrameworkRequest, around: ResolverContext) -> FittedRecipe:
    """The recipe `name` with the wheel that fits the image's driver and GPUs."""
    return cuda_wheels.fit(recipes.load(around.root, name), request.driver, request.target.sm)


def sides(name: str, request: FrameworkRequest, around: ResolverContext) -> BenchmarkPair:
    """What to compare for the recipe `name`; both sides are built or fetched here."""
    job, theirs, pins = alone(name, request, around)
    recipe, others = job.recipe, job.runs_with
    ours = _built(job, around).wheel
    if theirs is None:
        assert recipe.generic is not None
        options = list(instruction_sets.baseline([recipe.generic], request.gcc).options)
        plain = replace(request, target=Target(cpu=recipe.generic, options=options))
        theirs = _built(order_for(name, recipe, plain, around, others, pins), around).wheel
        demand_difference(name, ours, theirs)
    around.index.fetch([theirs, *others], around.store)
    return BenchmarkPair(job, [ours, *others], [theirs, *others], recipe.against)


def demand_difference(name: str, ours: PyFile, theirs: PyFile) -> None:
    """StageFailed where builds for different CPUs are one and the same: then no flag reached the compiler."""
    if ours.sha256 == theirs.sha256:
        raise StageFailed(f"recipe {name}: the builds for different CPUs are the same bytes, {ours.sha256[:12]}",
                          hint="`{options}` does not reach the compiler: does the build read CFLAGS, or CXXFLAGS?")


def alone(name: str, request: FrameworkRequest, around: ResolverContext) -> tuple[WheelBuild, PyFile | None, list[str]]:
    """The build of the recipe `name` in an environment of its own, the index's wheel if it has one, and the versions
    chosen, as constraints."""
    fitted = fitting(name, request, around)
    recipe = fitted.recipe
    python = interpreter(around.apt.solve(["?essential", "apt", *wheel_builds.PACKAGES]))
    asked = _requirements(fitted, Origin.SOURCE, request.target.sm)
    closures, pins = _closures({name: asked}, around.index, python, shared=False)
    theirs, others = _parts(recipe, closures[name], {})
    order = order_for(name, recipe, request, around, others, pins)
    _supply(order, around)
    return order, theirs, pins


def _closures(
    asked: Mapping[str, list[str]], index: Index, python: Interpreter, *, shared: bool,
) -> tuple[dict[str, list[PyFile]], list[str]]:
    """The wheels of each framework's environment, of one choice of versions for all; and that choice as constraints."""
    every = index.resolve([one for several in asked.values() for one in several], [], python)
    pins = [f"{file.project}=={file.version}" for file in every]
    if shared:
        return dict.fromkeys(asked, every), pins
    return {name: index.resolve(several, pins, python) for name, several in asked.items()}, pins


def _in_order(wanted: Mapping[str, Recipe], closures: Mapping[str, list[PyFile]]) -> list[str]:
    """Each after the frameworks that it needs: those have fewer of the others in their environments."""
    projects = {name: canonicalize_name(recipe.distribution) for name, recipe in wanted.items()}

    def needs(name: str) -> int:
        return sum(file.project in projects.values() and file.project != projects[name] for file in closures[name])

    return sorted(wanted, key=lambda name: (needs(name), name))


def _requirements(fitted: FittedRecipe, origin: Origin, sm: Sequence[str]) -> list[str]:
    """What pip is asked for: the index's wheel, or what a build of one's own for `sm` needs to run."""
    build = fitted.recipe.build
    built = [*build.runs_with, *build.added(sm).runs_with] if origin is Origin.SOURCE else []
    return [*fitted.requirements, *fitted.recipe.requires, *built]


def _parts(
    recipe: Recipe, closure: Sequence[PyFile], built: Mapping[str, Framework],
) -> tuple[PyFile | None, list[PyFile]]:
    """The index's own wheel of a framework (if it has one), and the rest with what is built here in its place."""
    own = canonicalize_name(recipe.wheel.distribution) if recipe.wheel else ""
    here = {framework.wheel.project: framework for framework in built.values() if framework.made}
    rest = dict[str, PyFile]()
    for file in closure:
        other = here.get(file.project)
        for one in [other.wheel, *other.requires] if other else [file]:
            rest[one.project] = one
    return rest.pop(own, None), [rest[project] for project in sorted(rest)]


def order_for(
    name: str, recipe: Recipe, request: FrameworkRequest, around: ResolverContext, runs_with: Sequence[PyFile],
    pins: Sequence[str],
) -> WheelBuild:
    """The exact order of a build: everything that shapes the wheel."""
    cuda = bool(request.target.sm and recipe.build.cuda)
    debs = around.apt.solve(["?essential", "apt", *wheel_builds.PACKAGES, *recipe.build.packages,
                            *(wheel_builds.CUDA_PACKAGES if cuda else [])])
    python = interpreter(debs)
    source = _source(name, recipe, around.index)
    wanted = [wheel_builds.PIP, *recipe.build.requires, *recipe.build.added(request.target.sm).requires]
    requires = around.index.resolve(wanted, pins, python)
    # What only the tests need is in no image: the image's choice of versions does not bind it.
    tests = around.index.resolve([*recipe.suite.requires, *(f"{file.project}=={file.version}" for file in runs_with)],
                                [], python) if recipe.suite else []
    known = {file.project for file in runs_with} | {source.project}
    target = request.target if cuda else request.target.model_copy(update={"sm": []})
    return WheelBuild(name=name, recipe=recipe, target=target, suite=request.suite, source=source, debs=debs,
                      requires=requires, runs_with=runs_with,
                      tests=[file for file in tests if file.project not in known])


def _source(name: str, recipe: Recipe, index: Index) -> PyFile:
    """The archive or sdist that the recipe names, by the SHA-256 that it names."""
    source = recipe.source
    if source.kind is SourceKind.ARCHIVE:
        if not (source.url and source.size and source.sha256):
            raise NoFit(f"recipe {name}: its source archive has no SHA-256 and size",
                        hint="fetch it, look at it, and write both into the recipe")
        return Archive(project=recipe.distribution, version=recipe.version, url=source.url, size=source.size,
                       filename=source.url.rpartition("/")[2], sha256=source.sha256)
    found = index.sdist(recipe.distribution, recipe.version)
    if source.sha256 not in (None, found.sha256):
        raise BadInput(f"recipe {name}: {found.filename} on the package index has SHA-256 {found.sha256[:12] or 'none'}"
                       f", the recipe names {source.sha256[:12]}",
                       hint="find out why before the recipe takes it; a new version needs its own SHA-256")
    return found


def _supply(order: WheelBuild, around: ResolverContext) -> None:
    """Have everything in the store that a build needs, unless it was built on this machine already."""
    if wheel_builds.kept(around.store, order) is None:
        around.fetch_debs(list(order.debs))
        around.index.fetch([order.source, *order.requires, *order.runs_with, *order.tests], around.store)


def _built(order: WheelBuild, around: ResolverContext) -> wheel_builds.WheelOutcome:
    if found := wheel_builds.kept(around.store, order):
        return found
    _supply(order, around)
    with around.progress.step(f"build {order.name}", f"{order.recipe.version} for {order.target.cpu}"):
        return wheel_builds.build(around.root, order, around.store, around.progress, log=around.log)


def _made(order: WheelBuild, around: ResolverContext) -> tuple[PyFile, CompiledWheel]:
    """The wheel, and how it was made. One that the former lock has with the same key is not compiled again: the same
    inputs give the same bytes, and a bake that lacks it holds its own build to them. What this machine has built counts
    for more: where a bake found that those bytes do not come out, the next lock names its own."""
    for one in around.before if wheel_builds.kept(around.store, order) is None else []:
        if one.made and one.made.key == order.key:
            return one.wheel, _record(order, one.made.compiler, one.made.result)
    outcome = _built(order, around)
    return outcome.wheel, _record(order, outcome.compiler, outcome.tests)


def _record(order: WheelBuild, compiler: str, result: str) -> CompiledWheel:
    return CompiledWheel(key=order.key, target=order.target, compiler=compiler, source=order.source,
                         build=sorted(deb.name for deb
                                      in order.debs), requires=list(order.requires), tests=list(order.tests),
                         result=result)


def _choice(framework: Framework, fitted: FittedRecipe, decision: Decision, cpu: str) -> Choice:
    wheel, build = "the index's wheel", f"compiled for {cpu}"
    how, other = (build, wheel if fitted.recipe.wheel else "") if framework.made else (wheel, build)
    over = [*fitted.passed_over, *([(f"{framework.version}, {other}", decision.why)] if other else [])]
    return Choice(component=framework.name, taken=f"{framework.version}, {how}",
                  why="; ".join(part for part in (decision.why, fitted.why) if part),
                  passed_over=[PassedOver(what=what, reason=reason) for what, reason in over])


def variables(frameworks: Sequence[Framework], modules: Mapping[str, str]) -> list[dict[str, Any]]:
    """What the role gets, and so FRAMEWORKS.json and the image's tests."""
    return [{
        "name": one.name, "version": one.version, "module": modules[one.name], "environment": one.environment,
        "origin": one.origin.value, "distribution": one.wheel.project, "why": one.why, "gain": one.gain,
        "measured_on": one.measured_on, "cpu": one.made.target.cpu if one.made else None,
        "flags": one.made.target.options if one.made else [], "sm": one.made.target.sm if one.made else [],
        "wheels": {file.project: {"version": file.version, "sha256": file.sha256}
                   for file in [one.wheel, *one.requires]},
    } for one in frameworks]
