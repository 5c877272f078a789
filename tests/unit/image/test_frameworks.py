"""Frameworks from recipe to locked files: real pip and apt, a package index and an archive on
loopback.

What compiles is tests/contract/image/test_wheels.py's. Here a wheel that has to be compiled lies in
the cache already.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml
from goldenami.core import records
from goldenami.core.cache_paths import CachePaths
from goldenami.core.errors import BadInput, NoFit
from goldenami.core.terminal.progress import Progress
from goldenami.image.lock import build_decision, frameworks
from goldenami.image.lock.build_decision import Measurement, Measurements, Workload
from goldenami.image.lock.compilation import wheel_builds
from goldenami.image.lock.compilation.wheel_builds import WheelBuild, WheelOutcome
from goldenami.image.lock.frameworks import FrameworkRequest, FrameworkResolver
from goldenami.model.locked.lockfile import CompiledWheel, Origin, Target
from goldenami.model.roles import recipes
from goldenami.packages.pypi import VARIABLE, Archive, Index, Interpreter, PyFile
from goldenami.packages.store import Store
from support.builds import checkout
from support.debian import pyindex
from support.debian.debrepo import Package
from support.debian.pyindex import PyIndex
from support.debian.resolver import Resolver

RECIPES = {
    "plain": {
        "version": "1.0",
        "distribution": "plain",
        "module": "plain",
        "wheel": {"distribution": "plain"},
        "requires": ["helper"],
        "build": {"requires": [], "memory_mib": 100},
    },
    "loose": {
        "version": "1.0",
        "distribution": "loose",
        "module": "loose",
        "wheel": {"distribution": "loose"},
        "build": {"requires": [], "memory_mib": 100},
    },
    "solo": {
        "version": "2.0",
        "distribution": "solo",
        "module": "solo",
        "generic": "x86-64-v3",
        "requires": ["plain", "lib"],
        "build": {
            "requires": ["setuptools==80.9.0"],
            "environment": {"CXXFLAGS": "{options}"},
            "memory_mib": 100,
        },
    },
}
ALLOWED = {"li*": [{"files": "lib/*.so", "extensions": ["avx*"], "reason": "it asks the CPU"}]}
TOOLS = [*wheel_builds.PACKAGES, "apt"]
ARCHIVE = [
    Package("python3", "3.11.2-1", depends="libc6"),
    Package("libc6", "2.36-9"),
    Package("base-files", fields={"Essential": "yes", "Priority": "required"}),
    *(Package(name, depends="python3" if name == "python3-dev" else "") for name in TOOLS),
]
REQUEST = FrameworkRequest(
    names=["solo", "plain", "loose"],
    shared_environment="",
    cpus=["znver4"],
    suite="trixie",
    gcc=(12, 2),
    target=Target(cpu="znver4", options=["-march=znver3"]),
)


@pytest.fixture
def served() -> Iterator[PyIndex]:
    with pyindex.serve() as index:
        index.wheel("pip", "26.3")
        index.wheel("setuptools", "80.9.0")
        index.wheel("plain", "1.0", ("lib<2",), tag="cp311-cp311-manylinux_2_28_x86_64")
        for version in ("1.0", "1.1", "2.0"):
            index.wheel("lib", version)
        index.wheel("helper", "1.0")
        index.wheel("loose", "1.0", ("lib",))
        for name, version in (("plain", "1.0"), ("solo", "2.0")):
            index.sdist(name, version, {"setup.py": ""})
        yield index


@pytest.fixture
def asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """pip runs once in a test for what it is asked several times: the index stays as it is."""
    answers: dict[object, list[PyFile]] = {}
    ask = Index.resolve

    def resolve(
        index: Index,
        requirements: Sequence[str],
        constraints: Sequence[str],
        python: Interpreter,
    ) -> list[PyFile]:
        key = (index, tuple(requirements), tuple(constraints), python)
        if key not in answers:
            answers[key] = ask(index, requirements, constraints, python)
        return answers[key]

    monkeypatch.setattr(Index, "resolve", resolve)


@pytest.fixture
def around(
    served: PyIndex,
    resolver: Resolver,
    asked_once: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> FrameworkResolver:
    """A copy of the checkout whose only recipes are these, an archive of tiny tools, an empty
    store."""
    root = checkout.copy(tmp_path / "checkout")
    for name in recipes.known(root):
        (root / recipes.FOLDER / name / "recipe.yml").unlink()
    recipes.known.cache_clear()
    for name, recipe in RECIPES.items():
        (root / recipes.FOLDER / name).mkdir()
        (root / recipes.FOLDER / name / "recipe.yml").write_text(
            yaml.safe_dump(recipe), encoding="utf-8"
        )
    (root / recipes.DISPATCHING).write_text(yaml.safe_dump(ALLOWED), encoding="utf-8")
    (root / build_decision.FILE).unlink()
    monkeypatch.setenv(VARIABLE, served.url)
    return FrameworkResolver(
        request=REQUEST,
        root=root,
        apt=resolver.root(ARCHIVE),
        store=Store(tmp_path / "cache"),
        index=Index.configured(),
        log=tmp_path,
        progress=Progress.of("lock", "demo", CachePaths(tmp_path)),
        fetch_debs=lambda _: None,
    )


def have_built(around: FrameworkResolver, order: WheelBuild, content: str) -> PyFile:
    """Leave `content` as the outcome of `order`, as a build does."""
    made = around.log / f"{order.name}-{order.recipe.version}-cp311-cp311-linux_x86_64.whl"
    made.write_text(content, encoding="utf-8")
    wheel = PyFile(
        project=order.name,
        version=order.recipe.version,
        filename=made.name,
        sha256=around.store.add(made),
        size=len(content),
    )
    path = wheel_builds.path_of(around.store, order.key)
    path.parent.mkdir(exist_ok=True)
    records.write(
        path,
        WheelOutcome(
            key=order.key, wheel=wheel, compiler="gcc 12", tests="", seconds=1, jobs=1, cache={}
        ),
    )
    return wheel


def order_of(
    around: FrameworkResolver,
    name: str,
    request: FrameworkRequest = REQUEST,
    **source: object,
) -> WheelBuild:
    """The order for a recipe, with this source if one is named."""
    recipe = recipes.load(around.root, name)
    if source:
        given = recipes.FrameworkSource.model_validate(source)
        recipe = recipe.model_copy(update={"source": given})
    return dataclasses.replace(around, request=request).wheel_build(name, recipe, [], [])


def names(files: Sequence[PyFile]) -> list[str]:
    return [f"{file.project} {file.version}" for file in files]


def test_a_wheel_and_a_build_share_one_choice_of_versions(around: FrameworkResolver) -> None:
    """`plain` takes lib 1.1 at most, so `loose`, which would take 2.0, gets that too; `solo` comes
    after `plain`."""
    order = order_of(around, "solo")
    assert names(order.requires) == ["pip 26.3", "setuptools 80.9.0"]
    assert order.flags == {"CXXFLAGS": "-march=znver3"}
    assert (order.source.filename, order.target) == ("solo-2.0.tar.gz", REQUEST.target)
    assert {"python3-dev", "python3", "base-files"} < {deb.name for deb in order.debs}
    wheel = have_built(around, order, "built")
    found = around.resolve()
    loose, plain, solo = found.frameworks
    assert names(loose.requires) == ["lib 1.1"]
    assert (plain.origin, plain.made, plain.environment) == (Origin.WHEEL, None, "plain")
    assert plain.wheel.filename == "plain-1.0-cp311-cp311-manylinux_2_28_x86_64.whl"
    assert names(plain.requires) == ["helper 1.0", "lib 1.1"]
    assert (solo.origin, solo.wheel, solo.environment) == (Origin.SOURCE, wheel, "solo")
    assert names(solo.requires) == ["lib 1.1", "plain 1.0"]
    assert solo.made is not None
    assert (solo.made.key, solo.made.compiler) == (order.key, "gcc 12")
    assert solo.made.source == order.source
    assert [one.reason for one in solo.allow] == ["it asks the CPU"]
    assert {deb.name for deb in found.toolchain} == set(solo.made.build)
    assert [(one.component, one.taken) for one in found.choices] == [
        ("loose", "1.0, the index's wheel"),
        ("plain", "1.0, the index's wheel"),
        ("solo", "2.0, compiled for znver4"),
    ]
    assert plain.why == "the rule's default; not measured on znver4"
    assert solo.why == "the index has no wheel; not measured on znver4"


def committed(key: str) -> str:
    row = Measurement(
        framework="plain",
        version="1.0",
        cpu="znver4",
        against="the wheel",
        machine="m",
        rounds=3,
        key=key,
        workloads=[Workload(name="w", ratio=1.5, low=1.5, high=1.5)],
    )
    return Measurements(measurements=[row]).model_dump_json()


def test_what_was_measured_to_gain_is_compiled_and_serves_the_others(
    around: FrameworkResolver,
) -> None:
    """The build takes the place of the index's wheel in the environment of `solo`."""
    file = around.root / build_decision.FILE
    file.write_text(committed("0"), encoding="utf-8")
    order = order_of(around, "plain")
    built = have_built(around, order, "plain built")
    have_built(around, order_of(around, "solo"), "solo built")
    _, plain, solo = around.resolve().frameworks
    assert (plain.wheel, plain.gain, plain.measured_on) == (built, None, None)
    assert plain.why == (
        "1.50x over the wheel, measured on znver4; "
        "that was another build of this version: measure again"
    )
    assert built in solo.requires
    file.write_text(committed(order.key), encoding="utf-8")
    again = around.resolve().frameworks[1]
    assert (again.gain, again.measured_on, again.why) == (
        1.5,
        "znver4",
        "1.50x over the wheel, measured on znver4",
    )


def test_what_the_former_lock_has_with_the_same_key_is_not_compiled_again(
    around: FrameworkResolver,
) -> None:
    """Its wheel and its words stay, on a machine that never compiled it; another key is
    compiled."""
    order = order_of(around, "solo")
    wheel = have_built(around, order, "built")
    former = around.resolve().frameworks
    wheel_builds.path_of(around.store, order.key).unlink()
    around = dataclasses.replace(around, previous_frameworks=former)
    assert around.resolve().frameworks == former
    assert not wheel_builds.path_of(around.store, order.key).exists()
    assert former[-1].wheel == wheel
    own = have_built(around, order, "what this machine builds of the same key")
    assert around.resolve().frameworks[-1].wheel == own
    other = dataclasses.replace(
        REQUEST, target=REQUEST.target.model_copy(update={"options": ["-march=znver2"]})
    )
    built = have_built(around, order_of(around, "solo", other), "built for another")
    assert dataclasses.replace(around, request=other).resolve().frameworks[-1].wheel == built


@pytest.mark.parametrize(("version", "equal"), [("535.309.01-1", True), ("550.54.14-1", False)])
def test_a_driver_release_of_the_branch_compiles_no_wheel_again(
    around: FrameworkResolver,
    resolver: Resolver,
    version: str,
    equal: bool,
) -> None:
    """What compiles depends on the driver's library, as Debian's CUDA does, and gets a dummy in its
    place."""

    def order(version: str) -> WheelBuild:
        apt = resolver.root(
            [
                *ARCHIVE,
                Package("compiler", depends="libdriver1 (>= 530)"),
                Package("libdriver1", version, fields={"Source": "driver"}),
            ]
        )
        recipe = recipes.load(around.root, "solo")
        build = recipe.build.model_copy(update={"packages": ["compiler"]})
        request = dataclasses.replace(
            REQUEST, driver=version.partition("-")[0], driver_sources=["driver"]
        )
        own = dataclasses.replace(around, apt=apt, request=request)
        return own.wheel_build("solo", recipe.model_copy(update={"build": build}), [], [])

    before, after = order("535.261.03-1"), order(version)
    dummies = [deb for deb in before.debs if deb.name == "libdriver1"]
    assert [(deb.version, around.store.check(deb.sha256)) for deb in dummies] == [
        ("535+golden", True)
    ]
    assert (before.key == after.key) is equal


def test_a_source_that_is_not_what_the_recipe_names(
    around: FrameworkResolver, served: PyIndex
) -> None:
    there = hashlib.sha256(served.files["solo"]["solo-2.0.tar.gz"]).hexdigest()
    assert order_of(around, "solo", sha256=there).source.sha256 == there
    with pytest.raises(
        BadInput,
        match=rf"recipe solo: solo-2.0.tar.gz on the package index has SHA-256 {there[:12]}, "
        "the recipe names 000000000000",
    ):
        order_of(around, "solo", sha256="0" * 64)


def test_a_source_from_an_address_of_its_own(around: FrameworkResolver, served: PyIndex) -> None:
    """By SHA-256 and size: fetched, and in the lock with its address, so that another machine finds
    it."""
    data = served.files["solo"]["solo-2.0.tar.gz"]
    page = next(one for one in around.index._files("solo") if one["filename"] == "solo-2.0.tar.gz")
    source = {
        "kind": "archive",
        "url": page["url"],
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    found = order_of(around, "solo", **source).source
    assert isinstance(found, Archive)
    assert (found.url, found.filename) == (page["url"], "solo-2.0.tar.gz")
    order = order_of(around, "solo", **source)
    around.index.fetch([found], around.store)
    assert around.store.check(found.sha256)
    made = frameworks._compiled_wheel(order, "gcc", "")
    assert CompiledWheel.model_validate_json(made.model_dump_json()).source == found
    with pytest.raises(NoFit, match="recipe solo: its source archive has no SHA-256 and size"):
        order_of(around, "solo", kind="archive", url=page["url"])


def test_frameworks_that_fit_no_common_versions_are_refused(
    around: FrameworkResolver, served: PyIndex
) -> None:
    served.wheel("helper", "1.1", ("lib>=2",))
    served.files["helper"] = {
        name: data for name, data in served.files["helper"].items() if "1.1" in name
    }
    why = (
        r"pip finds no wheels for plain, lib, plain==1\.0, helper, .*: .*"
        r"plain 1\.0 depends on lib<2; .*helper 1\.1 depends on lib>=2$"
    )
    with pytest.raises(NoFit, match=why) as caught:
        around.resolve()
    assert caught.value.hint.startswith(
        "they share one choice of versions: give those that conflict images of their"
    )
