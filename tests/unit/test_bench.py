"""What the benchmarks say beside their figures: each aim with its verdict, and what was left out."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench import bench_bake, bench_boot, bench_frameworks
from goldenami.image.lock.compilation.wheel_builds import WheelOutcome
from goldenami.local.programs import benchmark
from goldenami.local.tree import layers
from goldenami.model.builds.build_records import Boot
from goldenami.packages import local_repository, store
from goldenami.packages.pypi import PyFile

WHEEL = PyFile(project="demo", version="1.0", filename="demo-1.0.whl", sha256="0" * 64, size=1)


def outcome(seconds: float, hits: int) -> WheelOutcome:
    return WheelOutcome(key="0", wheel=WHEEL, compiler="gcc", tests="", seconds=seconds, jobs=2,
                        cache={"hits": hits, "misses": 4 - hits})


@pytest.mark.parametrize(("warm", "said"), [
    (5.0, "100.0 s cold, 5.0 s warm: 5.0% (aim 5%: met), 4 of 4 known"),
    (5.1, "100.0 s cold, 5.1 s warm: 5.1% (aim 5%: missed), 4 of 4 known"),
])
def test_what_ccache_saves_is_held_to_its_aim(warm: float, said: str) -> None:
    assert bench_frameworks.said_of(outcome(100, 0), outcome(warm, 4)) == said


def test_ccache_can_be_measured_on_a_machine_that_has_compiled_nothing(tmp_path: Path) -> None:
    kept = store.Store(tmp_path / "real")
    (tmp_path / "own").mkdir()
    found = [bench_frameworks.own_cache(tmp_path / "own", kept) for _ in range(2)]
    assert {one.root.resolve() for one in found} == {kept.root}
    with layers.Stack(tmp_path / "own/layers"):
        assert (tmp_path / "real/layers").is_dir()
    assert local_repository.write(found[0], [], tmp_path / "own/repos/a", suite="bookworm", epoch=0).is_dir()


def test_a_framework_that_is_left_out_is_named_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_frameworks.runnable(["pytorch", "hnswlib", "tensorflow"]) == ["hnswlib"]
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[0] for line in said] == ["pytorch", "tensorflow"]
    assert all("recipe not run here: it needs hours" in line for line in said)


def test_installing_the_frameworks_is_held_to_its_aim() -> None:
    found = {"phase base": 10.0, "phase frameworks": 40.0, "role frameworks": 31.0, "phase disk": 9.0,
             "SSH (bios, tcg)": 50.0}
    assert bench_bake.against_aims(found)["frameworks"] == (31.0, 30)
    del found["role frameworks"]
    assert "frameworks" not in bench_bake.against_aims(found)


def test_what_a_machine_lacks_for_a_build_is_named() -> None:
    """A benchmark that dies of SIGILL says no more than that."""
    flags = "processor\t: 0\nflags\t\t: fpu pni ssse3 cx16 popcnt lahf_lm sse4_1 sse4_2\n"
    assert benchmark.lacking(["avx512bf16", "lzcnt", "sahf", "sse3", "sse4.2"], flags) == ["avx512bf16", "lzcnt"]
    assert benchmark.lacking(["sahf"], flags) == benchmark.lacking([], flags) == []


@pytest.mark.parametrize(("ours", "verdict"), [(60.0, "0.60 of the time (aim 0.6: met), 0.50 of the processors'"),
                                               (61.0, "0.61 of the time (aim 0.6: missed)")])
def test_a_boot_is_held_to_its_aim_by_the_median(
    ours: float, verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    def runs(*seconds: float, processor_s: float) -> list[bench_boot.Measured]:
        return [bench_boot.Measured(boot=Boot(firmware="bios", seconds_to_ssh=each), processor_s=processor_s)
                for each in seconds]

    monkeypatch.setattr(bench_boot, "ROOT", tmp_path)
    bench_boot.report("demo", {bench_boot.PLAIN: runs(100, 90, 500, processor_s=80),
                               "demo": runs(ours, 10, 900, processor_s=40)})
    assert verdict in capsys.readouterr().out.splitlines()[-1]
    assert (tmp_path / "build/bench/boot-demo.json").is_file()
