"""A wheel compiled in the real scratch tree: the same bytes twice, what ccache saves, and each way
to fail."""

from __future__ import annotations

import dataclasses
import secrets
import zipfile
from pathlib import Path

import pytest
from goldenami.core.cache_paths import CachePaths
from goldenami.core.errors import BadInput, ExitCode, HostNotReady, StageFailed
from goldenami.core.terminal.progress import Progress
from goldenami.image.lock.compilation import wheel_builds
from goldenami.image.lock.compilation.wheel_builds import WheelBuild
from goldenami.local.code_coverage import coverage
from goldenami.model.builds.plans import CoverageRequest
from goldenami.model.locked import lockfile
from goldenami.model.locked.lockfile import Lock
from goldenami.model.roles import recipes
from goldenami.model.roles.recipes import Patch, UpstreamTests
from goldenami.model.supported import instruction_sets
from goldenami.packages import store
from goldenami.packages.pypi import Index, PyFile
from support.builds.checkout import ROOT
from support.debian.demo_wheel import build, have, order, sdist

pytestmark = pytest.mark.slow
LONG = pytest.mark.long
IMAGE = "debian-13-ml-cpu"
KILLER = '["-wrapper", "/bin/sh,-c,test $MAX_JOBS = 1 && exec \\"$0\\" \\"$@\\" || kill -9 $$"]'
"""For the compiler's driver: its compiler is killed as the kernel does when memory is short, but
not if it is alone."""
SIGILL = "import os; os.kill(os.getpid(), 4)"
ALWAYS = '["-wrapper", "/bin/sh,-c,kill -9 $$"]'
KILLED = '(__import__("os").kill(__import__("os").getppid(), 9) or [])'
FULL = '(open("/dev/full", "w", buffering=1).write("x\\n") and [])'
"""For the package's setup.py: pip, its parent, is killed; and a file that cannot be written."""


def test_the_same_source_gives_the_same_wheel_and_ccache_knows_it_again(
    lock: Lock,
    kept: store.Store,
    tmp_path: Path,
) -> None:
    wanted = order(lock, kept, tmp_path, sdist(kept, tmp_path))
    first, second = build(wanted, kept, tmp_path), build(wanted, kept, tmp_path)
    assert first.wheel == second.wheel
    assert second.cache == {"hits": 1, "misses": 0}
    assert first.wheel.filename == "demo-1.0-cp313-cp313-linux_x86_64.whl"
    with zipfile.ZipFile(kept.path(first.wheel.sha256)) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        library = next(name for name in archive.namelist() if name.endswith(".so"))
        assert b".debug_info" not in archive.read(library)
        assert b"/build/" not in archive.read(library)
    progress = Progress.of("test", IMAGE, CachePaths(tmp_path))
    compiler = wheel_builds.WheelCompiler(tmp_path, kept, progress, tmp_path / "none")
    assert compiler.compiled(wanted) == second
    assert not (tmp_path / "none").exists(), "the second image that wants a wheel compiles nothing"


def unpack(kept: store.Store, wheel: PyFile, folder: Path) -> None:
    with zipfile.ZipFile(kept.path(wheel.sha256)) as archive:
        archive.extractall(folder / "opt/ml")


def test_a_package_compiled_for_the_machine_at_hand_is_stopped(
    lock: Lock, kept: store.Store, tmp_path: Path
) -> None:
    """hnswlib as a plain `pip install` compiles it: with -march=native, for a CPU that has AVX at
    least."""
    framework = next(one for one in lock.frameworks if one.name == "hnswlib")
    recipe = recipes.load(ROOT, "hnswlib")
    plain = recipe.model_copy(update={"build": recipe.build.model_copy(update={"environment": {}})})
    wanted = WheelBuild.of(lock, framework, plain)
    have(lock, kept, [wanted.source, *wanted.requires, *wanted.runs_with])
    unpack(kept, build(wanted, kept, tmp_path, ROOT).wheel, tmp_path)
    features = sorted(instruction_sets.features("x86-64-v2"))
    record = coverage.scan(
        tmp_path, CoverageRequest(folders=["opt/ml"], features=features, sm=[], allow=[])
    )
    assert "avx" in {found.extension for found in record.findings}
    with pytest.raises(
        StageFailed, match=r"opt/ml/hnswlib\S*\.so: .*: \d+ instructions? needs? \w+ \(0x"
    ):
        coverage.demand(record)


@LONG
def test_a_compiler_killed_for_memory_is_tried_again_with_half(
    lock: Lock,
    kept: store.Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wheel_builds, "jobs_for", lambda _: 2)
    unseen_by_ccache = f"42 + 0 * {secrets.randbits(31)}"
    killed = order(
        lock, kept, tmp_path, sdist(kept, tmp_path, answer=unseen_by_ccache, extra=KILLER)
    )
    assert build(killed, kept, tmp_path).jobs == 1
    with pytest.raises(
        HostNotReady, match="a compiler was killed for memory, also with 1 at a time"
    ):
        build(order(lock, kept, tmp_path, sdist(kept, tmp_path, extra=ALWAYS)), kept, tmp_path)


@LONG
def test_a_build_that_is_killed_itself_and_a_full_disk_are_no_fault_of_the_recipe(
    lock: Lock,
    kept: store.Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wheel_builds, "jobs_for", lambda _: 1)
    killed, full = (
        order(lock, kept, tmp_path, sdist(kept, tmp_path, extra=extra)) for extra in (KILLED, FULL)
    )
    with pytest.raises(
        HostNotReady, match="a compiler was killed for memory, also with 1 at a time"
    ):
        build(killed, kept, tmp_path)
    with pytest.raises(
        HostNotReady, match=r"recipe demo for \S+: compiling broke off: .*No space left"
    ) as caught:
        build(full, kept, tmp_path)
    assert (caught.value.exit_code, caught.value.log) == (ExitCode.HOST, tmp_path / "log")
    assert not wheel_builds.path_of(kept, full.key).exists()


def with_suite(wanted: WheelBuild, kept: store.Store, selected: str) -> WheelBuild:
    """`wanted` with tests of its own, by the pytest that NumPy's lock names: one fails, one
    passes."""
    numpy = next(
        one
        for one in lockfile.read(lockfile.path_of(ROOT, "debian-13-ml-frameworks"))[0].frameworks
        if one.name == "numpy"
    )
    assert numpy.made is not None
    tests = [
        file
        for file in numpy.made.tests
        if file.project in ("pytest", "pluggy", "iniconfig", "packaging")
    ]
    Index.configured().fetch(tests, kept)
    suite = UpstreamTests(
        requires=[],
        arguments=["-q", "-p", "no:cacheprovider", "-k", selected, "/build/src/demo-1.0"],
    )
    return dataclasses.replace(
        wanted, tests=tests, recipe=wanted.recipe.model_copy(update={"suite": suite})
    )


SUITE = {
    "test_demo.py": "import demo\n\ndef test_at_1():\n    assert demo.answer() == 42\n\n"
    "def test_at_2():\n    assert demo.answer() == 41\n"
}


def test_a_wheel_counts_only_if_the_frameworks_own_tests_pass_on_it(
    lock: Lock,
    kept: store.Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is selected names the number of compilers: with the half, the one that passes."""
    monkeypatch.setattr(wheel_builds, "jobs_for", lambda _: 2)
    plain, killed = (
        sdist(kept, tmp_path, answer=f"42 + 0 * {secrets.randbits(31)}", extra=extra)
        for extra in ("[]", KILLER)
    )
    failing, passing = (
        with_suite(order(lock, kept, tmp_path, source, files=SUITE), kept, "at_{jobs}")
        for source in (plain, killed)
    )
    with pytest.raises(
        StageFailed, match=r"recipe demo: its own tests fail on the wheel for \S+: FAILED \S+at_2"
    ):
        build(failing, kept, tmp_path)
    assert wheel_builds.known(kept, failing) is None
    assert build(passing, kept, tmp_path).tests == "1 passed, 1 deselected"


@LONG
def test_a_wheel_for_another_cpu_than_this_machines_is_not_tried_here(
    lock: Lock,
    kept: store.Store,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wanted = order(lock, kept, tmp_path, sdist(kept, tmp_path))
    smoke = tmp_path / recipes.FOLDER / "demo/smoke.py"
    smoke.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n", encoding="utf-8")
    assert build(wanted, kept, tmp_path).wheel.project == "demo"
    assert (
        "recipe demo for x86-64-v3: not tried, this machine's CPU lacks" in capsys.readouterr().err
    )


@LONG
def test_what_a_build_does_in_dev_stays_in_its_tree(
    lock: Lock, kept: store.Store, tmp_path: Path
) -> None:
    mark = f"/dev/golden-{secrets.token_hex(4)}"
    leaves_it = f'(__import__("subprocess").run(["cp", "/dev/null", "{mark}"], check=True) and [])'
    build(order(lock, kept, tmp_path, sdist(kept, tmp_path, extra=leaves_it)), kept, tmp_path)
    assert not Path(mark).exists()


def test_each_way_to_be_no_wheel(lock: Lock, kept: store.Store, tmp_path: Path) -> None:
    patches = [Patch(file="demo.cpp", find="METH_NOARGS", replace="METH_VARARGS", count=2)]
    wrong = order(lock, kept, tmp_path, sdist(kept, tmp_path), patches=patches)
    with pytest.raises(StageFailed, match=r"`METH_NOARGS` stands 1 times in demo\.cpp, not 2"):
        build(wrong, kept, tmp_path)
    with pytest.raises(StageFailed, match="the wheel does not work: AssertionError"):
        build(order(lock, kept, tmp_path, sdist(kept, tmp_path, answer="41")), kept, tmp_path)
    said = r"recipe demo for x86-64-v3 does not compile: demo\.cpp:3: error: .*nosuch"
    with pytest.raises(StageFailed, match=said) as caught:
        build(order(lock, kept, tmp_path, sdist(kept, tmp_path, answer="nosuch")), kept, tmp_path)
    assert caught.value.log == tmp_path / "log"
    source = sdist(kept, tmp_path, extra="['-O1']")
    wanted = order(lock, kept, tmp_path, source)
    kept.path(source.sha256).write_bytes(b"something else")
    with pytest.raises(BadInput, match=r"demo-1\.0\.tar\.gz in the store is not what the lock"):
        build(wanted, kept, tmp_path)
    assert not kept.path(source.sha256).exists(), "it is removed"
