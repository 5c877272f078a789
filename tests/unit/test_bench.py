"""What the benchmarks say beside their figures: each aim with its verdict, and what was left
out."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench import bench_bake, bench_boot, bench_frameworks, harness
from goldenami.core.errors import BadInput
from goldenami.local.programs import benchmark


def test_a_framework_that_is_left_out_is_named_with_the_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert bench_frameworks.runnable(["pytorch", "hnswlib", "tensorflow"]) == ["hnswlib"]
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[0] for line in said] == ["pytorch", "tensorflow"]
    assert all("recipe not run here: it needs hours" in line for line in said)
    with pytest.raises(BadInput, match="no frameworks to compile"):
        bench_frameworks.runnable(["pytorch"])


def test_a_step_s_container_is_its_phase_without_its_roles() -> None:
    seconds = {"phase base": 10.0, "phase frameworks": 40.0, "role frameworks": 31.0,
               "phase disk": 9.0, "SSH bios": 50.0}
    sums = {"base + container": 19.0, "roles but CUDA": 31.0, "disk": 9.0, "SSH": 50.0}
    assert bench_bake.against_aims(seconds) == {**sums, "frameworks": 31.0}
    del seconds["role frameworks"]
    assert "frameworks" not in bench_bake.against_aims(seconds)


def test_what_a_machine_lacks_for_a_build_is_named() -> None:
    """A benchmark that dies of SIGILL says no more than that."""
    flags = "processor\t: 0\nflags\t\t: fpu pni ssse3 cx16 popcnt lahf_lm sse4_1 sse4_2\n"
    needs = ["avx512bf16", "lzcnt", "sahf", "sse3", "sse4.2"]
    assert benchmark.lacking(needs, flags) == ["avx512bf16", "lzcnt"]
    assert benchmark.lacking(["sahf"], flags) == benchmark.lacking([], flags) == []


@pytest.mark.parametrize(("ours", "verdict"), [
    (60.0, "0.60 (aim 0.6: met)"), (61.0, "0.61 (aim 0.6: missed)"),
])
def test_a_boot_is_held_to_its_aim_by_the_median(
    ours: float, verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def runs(*seconds: float) -> list[dict[str, float]]:
        return [{"seconds to SSH": each, "seconds of processors": 1.0} for each in seconds]

    monkeypatch.setattr(harness, "ROOT", tmp_path)
    bench_boot.compare("demo", {"plain Debian": runs(100, 90, 500), "demo": runs(ours, 10, 900)})
    said = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert said[2] == f"share of plain Debian's {verdict}"
    assert (tmp_path / "build/bench/boot-demo.json").is_file()
