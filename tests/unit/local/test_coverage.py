"""The coverage check on programs made here: what a newer machine's compiler leaves behind is found,
by name."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

import pytest
from goldenami.core import shell
from goldenami.core.errors import StageFailed
from goldenami.local.code_coverage import coverage, instructions
from goldenami.local.programs import read_code
from goldenami.model.builds.build_records import CoverageRecord, Finding
from goldenami.model.builds.plans import CoverageRequest
from goldenami.model.locked import lockfile
from goldenami.model.roles.recipes import Allowance
from goldenami.model.supported import architectures, instruction_sets
from iced_x86 import CpuidFeature
from support.builds import sample_plan, tools
from support.builds.device_code import EXACT, FAMILY, PTX, SASS, fat_binary, library

# What hnswlib's distance is: a plain loop that the compiler turns into the widest instructions it
# may use.
DISTANCE = """
#include <stddef.h>
float distance(const float *a, const float *b, size_t n) {
  float sum = 0;
  for (size_t i = 0; i < n; i++) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return sum;
}
size_t lowest_bit(size_t x) { return (size_t)__builtin_ctzl(x); }
"""
CLONES = DISTANCE.replace(
    "float distance", '__attribute__((target_clones("avx512f", "default"))) float distance'
)


def compiled(folder: Path, name: str, *options: str, source: str = DISTANCE) -> Path:
    """`source` as the library opt/ml/`name` below `folder`."""
    made = folder / "opt/ml" / name
    made.parent.mkdir(parents=True, exist_ok=True)
    text = folder / f"{name}.c"
    text.write_text(source, encoding="utf-8")
    shell.output(
        [
            tools.find("gcc"),
            "-O3",
            "-ffast-math",
            "-shared",
            "-fPIC",
            *options,
            "-o",
            str(made),
            str(text),
        ]
    )
    return made


def scan(
    folder: Path, cpu: str, *allowances: Allowance, sm: tuple[str, ...] = ()
) -> CoverageRecord:
    return coverage.scan(folder, request(cpu, sm=list(sm), allow=list(allowances)))


def request(cpu: str, **changes: Any) -> CoverageRequest:
    asked = {
        "folders": ["opt/ml"],
        "features": sorted(instruction_sets.features(cpu)),
        "sm": [],
        "allow": [],
    }
    return CoverageRequest.model_validate(asked | changes)


def said(record: CoverageRecord) -> set[str]:
    return {f"{found.symbol} {found.extension}" for found in record.findings}


def test_code_for_a_newer_machine_is_found(tmp_path: Path) -> None:
    """The case of a package without a wheel: `pip install` compiles for the builder's CPU."""
    compiled(tmp_path, "hnswlib.so", "-march=icelake-server", "-mprefer-vector-width=512")
    record = scan(tmp_path, "x86-64-v3")
    assert "distance avx512f" in said(record)
    assert {(found.file, found.symbol) for found in record.findings} == {
        ("opt/ml/hnswlib.so", "distance")
    }
    assert all(
        re.fullmatch(r"0x[0-9a-f]+: v\w+ .*[xyz]mm.*", found.example) for found in record.findings
    )
    with pytest.raises(StageFailed) as caught:
        coverage.demand(record)
    assert re.search(
        r"cannot run on every declared machine: opt/ml/hnswlib.so: distance: "
        r"\d+ instructions? needs? avx512\w+ \(0x[0-9a-f]+: v",
        caught.value.message,
    )
    assert said(scan(tmp_path, "icelake-server")) == set()


@pytest.mark.parametrize(
    ("options", "cpu", "findings"),
    [
        (["-march=x86-64-v3"], "x86-64-v2", {"distance avx", "distance fma"}),
        (["-march=x86-64-v3"], "haswell", set()),
        (["-march=x86-64", "-mlzcnt"], "x86-64", set()),
    ],
)
def test_a_level_runs_where_it_is_within_the_baseline(
    tmp_path: Path,
    options: list[str],
    cpu: str,
    findings: set[str],
) -> None:
    compiled(tmp_path, "code.so", *options)
    assert said(scan(tmp_path, cpu)) == findings


def test_stripped_code_is_found_function_by_function(tmp_path: Path) -> None:
    """No symbol names the two functions that need AVX; the unwind table tells where each begins."""
    hidden = "\n".join(
        f"static __attribute__((noinline)) float {name}(const float *a, int n) "
        f"{{ float s = {start}; for (int i = 0; i < n; i++) s += a[i] * s; return s; }}"
        for name, start in (("first", 1), ("second", 2))
    )
    source = f"{hidden}\nint call(const float *a, int n) {{ return first(a, n) < second(a, n); }}\n"
    compiled(tmp_path, "stripped.so", "-march=x86-64-v3", "-s", source=source)
    found = {finding.symbol for finding in scan(tmp_path, "x86-64-v2").findings} - {"call"}
    assert len(found) == 2, found
    assert all(re.fullmatch(r"\.text\+0x[0-9a-f]+", symbol) for symbol in found)


def test_dispatched_code_is_allowed_by_name_and_reason_only(tmp_path: Path) -> None:
    compiled(tmp_path, "dispatch.so", source=CLONES)
    dispatched = said(scan(tmp_path, "x86-64-v2"))
    assert {found.partition(" ")[0].removesuffix(".0") for found in dispatched} == {
        "distance.avx512f"
    }
    fitting = Allowance(
        files="opt/ml/*.so",
        symbols="*.avx512f*",
        extensions=["avx*", "fma"],
        reason="an IFUNC asks",
    )
    unused = Allowance(files="opt/ml/other.so", extensions=["*"], reason="not needed")
    record = scan(tmp_path, "x86-64-v2", unused, fitting)
    assert record.findings == []
    assert record.allowed["an IFUNC asks"] > 0
    assert record.allowed["not needed"] == 0
    for change in ({"symbols": "distance"}, {"extensions": ["avx2"]}, {"files": "opt/ml/other.so"}):
        assert said(scan(tmp_path, "x86-64-v2", fitting.model_copy(update=change))) == dispatched


def test_every_instruction_set_is_no_gpu_and_no_file_that_cannot_be_read(tmp_path: Path) -> None:
    every = Allowance(files="*", extensions=["*"], reason="it asks the CPU")
    assert coverage.fits(
        every, Finding(file="a.so", symbol="f", extension="avx512f", count=1, example="")
    )
    for extension in ("sm_75", "unreadable"):
        found = Finding(file="a.so", symbol="file", extension=extension, count=1, example="")
        assert not coverage.fits(every, found)
        assert coverage.fits(every.model_copy(update={"extensions": [extension]}), found)


def test_a_layer_is_read_while_the_bake_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check of the sealed tree then reads nothing that it has from the layer, and finds the
    same."""
    layer, other = tmp_path / "layer", tmp_path / "other"
    compiled(layer, "one.so", "-march=haswell")
    other.mkdir()
    lock, digest = lockfile.read(lockfile.path_of(tools.ROOT, "debian-13-ml-cpu"))
    plan = sample_plan.sample(tmp_path, lock, digest)
    asked = request("x86-64", known=tmp_path / "known")
    with read_code.reading_ahead(plan.model_copy(update={"coverage": asked})) as ahead:
        ahead.read(other)
        ahead.read(layer)
        ahead.wait()
    assert [path.name for path in tmp_path.glob("code-*")] == ["code-0"], "the other has no code"
    found = scan(layer, "x86-64").findings
    monkeypatch.setattr(coverage, "_read", None)
    assert found and coverage.scan(layer, asked).findings == found


def test_a_file_that_cannot_be_read_is_a_finding(tmp_path: Path) -> None:
    whole = compiled(tmp_path, "whole.so")
    (whole.parent / "half.so").write_bytes(whole.read_bytes()[:3000])
    arm = bytearray(whole.read_bytes())
    struct.pack_into("<H", arm, 18, 183)
    (whole.parent / "arm.so").write_bytes(arm)
    (whole.parent / "text.so").write_text("not a program", encoding="utf-8")
    (whole.parent / "link.so").symlink_to("half.so")
    record = scan(tmp_path, "x86-64-v2")
    assert [(found.file, found.extension) for found in record.findings] == [
        ("opt/ml/arm.so", "unreadable"),
        ("opt/ml/half.so", "unreadable"),
    ]
    assert "another machine (ELF machine 183)" in record.findings[0].example
    assert [file.path for file in record.files] == ["opt/ml/whole.so"]
    assert scan(tmp_path / "opt", "x86-64-v2").files == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([("<Q", 40, 0), ("<H", 60, 0)], "no section has the code that is loaded at 0x"),
        ([("<H", 60, 0)], "has more sections than its header counts"),
        ([("<H", 56, 0)], None),
    ],
)
def test_code_that_no_section_names_cannot_be_looked_at(
    tmp_path: Path,
    changes: list[tuple[str, int, int]],
    said: str | None,
) -> None:
    """Of e_shoff, e_shnum and e_phnum: a program needs no section to run (`sstrip` and packers take
    them off)."""
    path = compiled(tmp_path, "bare.so")
    content = bytearray(path.read_bytes())
    for form, at, value in changes:
        struct.pack_into(form, content, at, value)
    path.write_bytes(content)
    assert [found.extension for found in scan(tmp_path, "x86-64-v3").findings] == ["unreadable"] * (
        said is not None
    )
    assert said is None or said in scan(tmp_path, "x86-64-v3").findings[0].example


def test_every_extension_of_the_decoder_has_gccs_name() -> None:
    """A feature of a -march that the decoder calls otherwise would be a finding on its own
    baseline."""
    known = {instructions.option(name) for name in vars(CpuidFeature)}
    assert {name for row in architectures.X86.values() for name in row.adds} - known == {"sahf"}


# --- device code ---

NVCC = Path(__file__).parent / "nvcc"
"""What nvcc 13.0 wrote of `__global__ void scale(float *x) { x[threadIdx.x] *= 2; }`, named by its
`code` options:
    nvcc -fatbin -gencode=arch=compute_86,code=sm_86
        -gencode=arch=compute_86,code=compute_86 -o OUT kernel.cu"""


@pytest.mark.parametrize(
    ("codes", "asked"),
    [
        ("sm_80-sm_90a", [("80 90", ""), ("80 86 89", ""), ("75 80 100", "75 100")]),
        ("sm_86-compute_86", [("86 89 90 120", ""), ("75 80 86", "75 80")]),
        ("sm_100f-compute_90a", [("90 100 103", ""), ("80 120", "80 120")]),
    ],
)
def test_what_nvcc_left_out_is_found(
    tmp_path: Path, codes: str, asked: list[tuple[str, str]]
) -> None:
    with_device_code(tmp_path, (NVCC / f"{codes}.fatbin").read_bytes())
    for declared, missing in asked:
        record = scan(tmp_path, "x86-64-v3", sm=tuple(declared.split()))
        assert said(record) == {f"file sm_{name}" for name in missing.split()}
    listed = {f"sm_{name}" for name in record.files[0].sass} | {
        f"compute_{name}" for name in record.files[0].ptx
    }
    assert listed == set(codes.split("-"))


def with_device_code(folder: Path, *binaries: bytes) -> Path:
    return library(folder / "opt/ml/device.so", *binaries, source=DISTANCE)


@pytest.mark.parametrize(
    ("images", "declared", "missing"),
    [
        ([(SASS, 75, 0), (SASS, 80, 0), (SASS, 90, 0)], "75 80 86 89 90", ""),
        ([(SASS, 86, 0)], "80 86 89", "80"),
        ([(SASS, 80, 0), (PTX, 80, 0)], "75 90 120", "75"),
        ([(SASS, 90, EXACT)], "90 100", "100"),
        ([(PTX, 90, EXACT)], "90 100", "100"),
        ([(SASS, 100, FAMILY)], "100 103 120", "120"),
        ([(PTX, 100, FAMILY)], "103 120", "120"),
        ([(8, 90, 0)], "90", ""),
    ],
)
def test_every_declared_gpu_needs_code(
    tmp_path: Path,
    images: list[tuple[int, int, int]],
    declared: str,
    missing: str,
) -> None:
    with_device_code(tmp_path, fat_binary(*images))
    record = scan(tmp_path, "x86-64-v3", sm=tuple(declared.split()))
    assert said(record) == {f"file sm_{name}" for name in missing.split()}


def test_a_source_file_that_was_compiled_for_fewer_gpus_is_found(tmp_path: Path) -> None:
    with_device_code(tmp_path, fat_binary((SASS, 80, 0), (SASS, 90, 0)), fat_binary((SASS, 90, 0)))
    record = scan(tmp_path, "x86-64-v3", sm=("80", "90", "120"))
    assert said(record) == {"file sm_120", "device code 2 of 2 sm_80"}
    assert {found.example for found in record.findings} == {"has sm_80, sm_90", "has sm_90"}
    parts = Allowance(
        files="*", symbols="device code *", extensions=["sm_*"], reason="kernels of Hopper only"
    )
    assert said(scan(tmp_path, "x86-64-v3", parts, sm=("80", "90", "120"))) == {"file sm_120"}


def test_a_wheel_that_was_compiled_with_cuda_has_code_for_each_gpu(tmp_path: Path) -> None:
    """Where CUDA's flags do not reach the build nothing else fails: the CPU's code works here."""
    declared = ["80", "90"]
    compiled(tmp_path, "plain.so")
    coverage.demand_device_code(tmp_path, [], "recipe demo")
    with pytest.raises(StageFailed, match=r"sm_80, sm_90 \(has no device code\)") as caught:
        coverage.demand_device_code(tmp_path, declared, "recipe demo")
    assert "CUDA flags do not reach the build" in caught.value.hint
    with_device_code(tmp_path, fat_binary((SASS, 90, 0)))
    with pytest.raises(StageFailed, match=r"recipe demo: .* no code for sm_80 \(has sm_90\)"):
        coverage.demand_device_code(tmp_path, declared, "recipe demo")
    with_device_code(tmp_path, fat_binary((SASS, 80, 0)), fat_binary((SASS, 90, 0)))
    coverage.demand_device_code(tmp_path, declared, "recipe demo")


# --- what is known already ---


def known_scan(folder: Path, cpu: str = "x86-64-v2") -> CoverageRecord:
    return coverage.scan(folder, request(cpu, known=folder / "known"))


def test_a_file_is_read_once_whatever_its_name_and_for_one_baseline(tmp_path: Path) -> None:
    path = compiled(tmp_path, "code.so", "-march=x86-64-v3")
    first = known_scan(tmp_path)
    assert first == scan(tmp_path, "x86-64-v2") and first.findings
    (kept,) = (path for path in (tmp_path / "known").rglob("*") if path.is_file())
    kept.write_text(
        kept.read_text(encoding="utf-8").replace("distance", "renamed"), encoding="utf-8"
    )
    path.rename(path.with_name("moved.so"))
    again = known_scan(tmp_path)
    assert {(found.file, found.symbol) for found in again.findings} == {
        ("opt/ml/moved.so", "renamed")
    }
    assert known_scan(tmp_path, "haswell") == scan(tmp_path, "haswell")


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"{}"])
def test_a_damaged_file_of_the_cache_is_not_believed(tmp_path: Path, damage: bytes) -> None:
    compiled(tmp_path, "code.so", "-march=x86-64-v3")
    known_scan(tmp_path)
    (kept,) = (path for path in (tmp_path / "known").rglob("*") if path.is_file())
    kept.write_bytes(damage)
    assert known_scan(tmp_path) == scan(tmp_path, "x86-64-v2")
    assert kept.read_bytes() != damage
