"""The key of a wheel, and what a lock's wheels are in the store; how many compilers run; versions
of one choice."""

from __future__ import annotations

import dataclasses
import fcntl
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from goldenami.core import records
from goldenami.core.terminal.progress import Progress
from goldenami.image.lock import frameworks
from goldenami.image.lock.compilation import wheel_builds
from goldenami.image.lock.compilation.wheel_builds import WheelBuild
from goldenami.image.lock.cuda_wheels import FittedRecipe
from goldenami.model.locked.lockfile import CompiledWheel, Framework, Origin, Package, Target
from goldenami.model.roles.recipes import (
    BuildInstructions,
    CudaAdditions,
    Patch,
    Recipe,
    UpstreamTests,
    Wheel,
)
from goldenami.packages.apt import Deb
from goldenami.packages.pypi import PyFile
from goldenami.packages.store import Store
from support.builds.sample_lock import sample


def pyfile(project: str, digit: str = "0", version: str = "1.0") -> PyFile:
    return PyFile(
        project=project,
        version=version,
        filename=f"{project}-{version}.whl",
        sha256=digit * 64,
        size=3,
    )


def deb(name: str, digit: str = "a") -> Deb:
    return Deb(
        name=name,
        version="3.11.2-1",
        architecture="amd64",
        sha256=digit * 64,
        size=1,
        installed_size=1,
        archive="debian",
        path="p",
        source=name,
    )


BUILD = BuildInstructions(
    requires=["setuptools"],
    environment={"CFLAGS": "{options}", "ARCHS": "{sm_dotted}"},
    memory_mib=500,
    cuda=CudaAdditions(environment={"USE_CUDA": "1"}, requires=["nccl"], runs_with=["nccl"]),
    settings={"a": ["-j{jobs}"]},
    patches=[Patch(file="f", find="x", replace="y")],
)
RECIPE = Recipe(version="1.0", distribution="demo", module="demo", generic="x86-64-v3", build=BUILD)
ORDER = WheelBuild(
    name="demo",
    recipe=RECIPE,
    target=Target(cpu="znver4", options=["-march=znver4"]),
    suite="trixie",
    source=pyfile("demo", "1"),
    debs=[deb("python3")],
    requires=[pyfile("pip", "2")],
    runs_with=[pyfile("numpy", "3")],
    tests=[],
)


TESTED = dataclasses.replace(
    ORDER,
    tests=[pyfile("pytest", "7")],
    recipe=RECIPE.model_copy(
        update={"suite": UpstreamTests(requires=["pytest"], arguments=["-q"])}
    ),
)
OTHER_SUITE = TESTED.recipe.model_copy(
    update={"suite": UpstreamTests(requires=["pytest"], arguments=["-x"])}
)


def rebuilt(**changes: Any) -> WheelBuild:
    return dataclasses.replace(
        ORDER, recipe=RECIPE.model_copy(update={"build": BUILD.model_copy(update=changes)})
    )


@pytest.mark.parametrize(
    "other",
    [
        dataclasses.replace(ORDER, target=Target(cpu="znver3", options=["-march=znver3"])),
        dataclasses.replace(ORDER, target=ORDER.target.model_copy(update={"sm": ["80"]})),
        dataclasses.replace(ORDER, source=pyfile("demo", "9")),
        dataclasses.replace(ORDER, debs=[deb("python3", "b")]),
        dataclasses.replace(ORDER, requires=[pyfile("pip", "9")]),
        dataclasses.replace(ORDER, suite="noble"),
        rebuilt(environment={"CFLAGS": "-O1 {options}"}),
        rebuilt(settings={}),
        rebuilt(files={"f": "x"}),
        rebuilt(patches=[]),
        rebuilt(library_path="$ORIGIN"),
        dataclasses.replace(TESTED, recipe=OTHER_SUITE),
    ],
)
def test_what_shapes_a_wheel_changes_its_key(other: WheelBuild) -> None:
    assert other.key not in (ORDER.key, TESTED.key)


@pytest.mark.parametrize(
    "other",
    [
        rebuilt(memory_mib=900),
        dataclasses.replace(ORDER, runs_with=[]),
        dataclasses.replace(ORDER, name="another"),
    ],
)
def test_what_does_not_shape_it_leaves_the_key(other: WheelBuild) -> None:
    assert other.key == ORDER.key


def test_what_only_a_build_with_cuda_needs() -> None:
    """Of a build without GPUs, and of the index's wheel, it is no part."""
    wheel = FittedRecipe(
        RECIPE.model_copy(update={"wheel": Wheel(distribution="demo"), "requires": ["numpy"]})
    )
    asked = {
        (origin, sm): frameworks.requirements(wheel, origin, sm)
        for origin in Origin
        for sm in ((), ("80",))
    }
    assert asked.pop((Origin.SOURCE, ("80",))) == ["demo==1.0", "numpy", "nccl"]
    assert set(map(tuple, asked.values())) == {("demo==1.0", "numpy")}


def test_ccache_knows_the_whole_compiler(tmp_path: Path) -> None:
    """An update of what makes no object leaves what it has; and it is none of the flags, which are
    in a wheel's key."""

    def namespace(**digits: str) -> str:
        sources = ("binutils", "gcc_12", "nvidia_cuda_toolkit", "python3_defaults")
        debs = [
            dataclasses.replace(deb("x", digits.get(one, "a")), source=one.replace("_", "-"))
            for one in sources
        ]
        order = dataclasses.replace(ORDER, debs=debs)
        return wheel_builds._cache(Store(tmp_path), order)[0]["CCACHE_NAMESPACE"]

    found = {
        namespace(),
        namespace(binutils="b"),
        namespace(gcc_12="c"),
        namespace(nvidia_cuda_toolkit="d"),
    }
    assert len(found) == 4
    assert namespace(python3_defaults="b") == namespace()
    assert "CCACHE_NAMESPACE" not in ORDER.flags


def framework(name: str, wheel: PyFile, requires: list[PyFile], *, made: bool = False) -> Framework:
    how = (
        CompiledWheel(
            key="k",
            target=ORDER.target,
            compiler="gcc",
            source=pyfile(name, "1"),
            build=["gcc"],
            requires=[pyfile("pip", "2")],
            tests=[],
            result="",
        )
        if made
        else None
    )
    return Framework(
        name=name,
        version="1.0",
        environment=name,
        origin=Origin.SOURCE if made else Origin.WHEEL,
        why="",
        gain=None,
        measured_on=None,
        wheel=wheel,
        requires=requires,
        made=how,
        allow=[],
    )


def test_what_the_index_has_to_give(tmp_path: Path) -> None:
    """Not what was compiled here; what compiles it only while it is lacking."""
    store = Store(tmp_path)
    (tmp_path / "built.whl").write_text("abc", encoding="utf-8")
    built = pyfile("demo").model_copy(update={"sha256": store.add(tmp_path / "built.whl")})
    lock = sample(
        frameworks=[
            framework("demo", built, [pyfile("numpy", "3")], made=True),
            framework("user", pyfile("user", "4"), [built, pyfile("numpy", "3")]),
        ],
        toolchain={"gcc": Package.of(deb("gcc"))},
    )
    assert {file.project for file in wheel_builds.from_index(lock, store)} == {"numpy", "user"}
    assert set(wheel_builds.installed_wheels(lock)) == {
        "wheels/demo-1.0.whl",
        "wheels/numpy-1.0.whl",
        "wheels/user-1.0.whl",
    }
    assert {built.sha256, "1" * 64, "2" * 64, "a" * 64} <= set(lock.objects())
    store.path(built.sha256).write_text("damaged", encoding="utf-8")
    assert [one.name for one in wheel_builds.lacking(lock, store)] == ["demo"]
    assert {file.sha256[0] for file in wheel_builds.from_index(lock, store)} == {"1", "2", "3", "4"}


class Waiting(Progress):
    seen = threading.Event()

    def say(self, text: str) -> None:
        assert text == "waits for a wheel that another process compiles"
        self.seen.set()


def test_a_wheel_that_another_process_compiles_is_waited_for(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    (tmp_path / "built.whl").write_text("abc", encoding="utf-8")
    path = wheel_builds.path_of(store, ORDER.key)
    path.parent.mkdir(parents=True)
    progress = Waiting("test", "demo", tmp_path / "timings")
    with ThreadPoolExecutor(1) as pool:
        with path.with_suffix(".lock").open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            compiler = wheel_builds.WheelCompiler(tmp_path, store, progress, tmp_path / "log")
            waiting = pool.submit(compiler.compiled, ORDER)
            while not progress.seen.wait(0.05) and not waiting.done():
                pass
            wheel = pyfile("demo").model_copy(update={"sha256": store.add(tmp_path / "built.whl")})
            made = wheel_builds.WheelOutcome(
                key=ORDER.key, wheel=wheel, compiler="gcc", tests="", seconds=1, jobs=1, cache={}
            )
            records.write(path, made)
        assert waiting.result() == made
