"""The emulated CPU runs what a baseline's code is, and kills what needs more."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from goldenami.core import shell
from goldenami.local.vm import cpu
from goldenami.model.supported import instruction_sets
from support.builds import tools

# A loop that the compiler turns into the widest instructions it may use, and an answer that depends
# on all of it.
PROGRAM = """
#include <stdio.h>
__attribute__((noinline)) double dot(const double *a, const double *b, int n) {
  double sum = 0;
  for (int i = 0; i < n; i++) sum += a[i] * b[i];
  return sum;
}
int main(void) {
  double a[512], b[512];
  for (int i = 0; i < 512; i++) { a[i] = i; b[i] = 2; }
  return dot(a, b, 512) == 261632.0 ? 0 : 1;
}
"""
SIGILL = -4


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The program, compiled for a chain of ever newer machines."""
    folder = tmp_path_factory.mktemp("programs")
    source = folder / "dot.c"
    source.write_text(PROGRAM, encoding="utf-8")
    made = {march: folder / march for march in ("x86-64-v2", "haswell", "skylake-avx512")}
    for march, path in made.items():
        shell.output(
            [
                tools.find("gcc"),
                "-O3",
                "-ffast-math",
                "-static",
                f"-march={march}",
                "-mprefer-vector-width=512",
                "-o",
                str(path),
                str(source),
            ]
        )
    return made


def run(program: Path, features: frozenset[str]) -> int:
    """How the program ends on a CPU with just these features: its exit status, or minus the signal
    that killed it."""
    argument = cpu.emulated(features, instruction_sets.KNOWN_X86).argument
    argv = ["prlimit", "--core=0", tools.find("qemu-x86_64"), "-cpu", argument, str(program)]
    return subprocess.run(argv, check=False, capture_output=True, cwd=program.parent).returncode


@pytest.mark.parametrize(
    ("march", "cpus"),
    [
        ("x86-64-v2", ["x86-64-v2"]),
        ("haswell", ["cascadelake", "znver2", "znver3"]),
    ],
)
def test_code_for_a_baseline_runs_on_the_oldest_of_its_machines(
    programs: dict[str, Path],
    march: str,
    cpus: list[str],
) -> None:
    assert run(programs[march], frozenset(instruction_sets.baseline(cpus, (12, 2)).features)) == 0


@pytest.mark.parametrize(
    ("march", "older"), [("haswell", "x86-64-v2"), ("skylake-avx512", "broadwell")]
)
def test_it_dies_on_a_machine_that_is_one_older(
    programs: dict[str, Path], march: str, older: str
) -> None:
    assert run(programs[march], instruction_sets.features(older)) == SIGILL


def test_what_the_emulator_lacks_is_named() -> None:
    assert (
        cpu.emulated(instruction_sets.features("x86-64-v2"), instruction_sets.KNOWN_X86).missing
        == ()
    )
    missing = set(
        cpu.emulated(instruction_sets.features("znver4"), instruction_sets.KNOWN_X86).missing
    )
    assert {"avx512f", "avx512vnni"} <= missing
    assert not missing & instruction_sets.features("x86-64-v3")


def test_qemu_knows_every_property() -> None:
    """A feature under another name would be left on, and counted as missing from a baseline that
    has it."""
    known = set(shell.output([tools.find("qemu-system-x86_64"), "-cpu", "help"]).split())
    names = {cpu.PROPERTIES.get(name, name) for name in instruction_sets.KNOWN_X86}
    assert sorted(names - known - {"mwaitx"}) == []  # which no QEMU emulates
