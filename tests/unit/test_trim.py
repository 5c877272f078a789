"""roles/trim's program over made-up environments, run as the role runs it: three files, and nothing of the product."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from goldenami.core import records
from goldenami.local.code_coverage import coverage, fatbin
from goldenami.local.code_coverage.coverage import CodeBaseline
from goldenami.local.code_coverage.elf import Elf
from goldenami.model.builds.trim_records import Trimmed
from goldenami.model.supported import instruction_sets
from support.builds.device_code import EXACT, FAMILY, PTX, SASS, entry, fat_binary, fat_binary_of, library

ROLE = Path(__file__).resolve().parents[2] / "roles/trim/files"
PARTS = ("trim.py", "goldenami/local/code_coverage/elf.py", "goldenami/local/code_coverage/fatbin.py")
SITE = "opt/ml/ml/lib/python3.13/site-packages"
NCCL, TORCH = "nvidia/nccl/lib/libnccl.so.2", "torch/lib/libtorch_cuda.so"
DECLARED = ["75", "86", "89"]
ALL_ON = {"trim_gpu_code": "free", "trim_test_suites_enabled": True, "trim_build_leftovers_enabled": True,
          "trim_duplicates_enabled": True, "trim_architectures": DECLARED}
CODE = bytes(range(1, 251)) * 100
"""A payload of 25,000 bytes, without a zero."""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """As the role brings it."""
    folder = tmp_path / "program"
    for name in PARTS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROLE / name, folder / name)
    return folder / "trim.py"


def trim(program: Path, root: Path, **settings: Any) -> list[str]:
    """What it said."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-B", str(program), "--root", str(root)], env=environment, text=True,
                          input=json.dumps({**ALL_ON, **settings}), capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def report(root: Path) -> Trimmed:
    return records.read(root / "opt/ml/TRIMMED.json", Trimmed)


def noted(content: bytes) -> str:
    """A digest as a wheel's RECORD has it."""
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def write(root: Path, name: str, content: bytes | str) -> Path:
    path = root / SITE / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def record(root: Path, wheel: str, *names: str) -> Path:
    """The wheel's RECORD, as pip writes it, of files that are there."""
    rows = [f"{name},{noted((root / SITE / name).read_bytes())},{(root / SITE / name).stat().st_size}\r\n"
            for name in names]
    return write(root, f"{wheel}.dist-info/RECORD", "".join(rows) + f"{wheel}.dist-info/RECORD,,\r\n")


def rows_of(path: Path) -> dict[str, str]:
    with path.open(encoding="utf-8", newline="") as file:
        return {row[0]: row[1] for row in csv.reader(file)}


def payloads(path: Path) -> dict[str, bool]:
    """Of each entry `sm_86` or `compute_86`, whether it still holds code; of all fat binaries together."""
    found = dict[str, bool]()
    with Elf(path) as elf:
        for binary in fatbin.binaries(elf):
            for one in binary.entries:
                at = one.offset - 64
                kind, = struct.unpack_from("<H", elf.data, at)
                capability, = struct.unpack_from("<I", elf.data, at + 28)
                flags, = struct.unpack_from("<Q", elf.data, at + 40)
                suffix = "a" if flags & EXACT else "f" if flags & FAMILY else ""
                found[f"{'compute' if kind == PTX else 'sm'}_{capability}{suffix}"] = one.image is not None
    return found


def scan(root: Path, sm: list[str]) -> tuple[set[tuple[str, str]], list[str]]:
    """What the coverage check says of the tree: findings, and SASS of its only program."""
    found = coverage.scan(root, ["opt/ml"], CodeBaseline(sorted(instruction_sets.KNOWN_X86), sm))
    return {(finding.symbol, finding.extension) for finding in found.findings}, found.files[0].sass


@pytest.mark.parametrize(("declared", "kept"), [
    (["75", "86", "89"], "sm_70 sm_75 sm_80 sm_86"),
    (["90"], "sm_90 sm_90a"),
    (["103"], "sm_100 sm_100f"),
    (["100", "120"], "sm_100 sm_100a sm_100f sm_120"),
    (["53"], "sm_50"),
])
def test_only_what_no_declared_gpu_runs_becomes_zeros(
    tmp_path: Path, program: Path, declared: list[str], kept: str,
) -> None:
    """The rule of the coverage check, and what that says of the declared GPUs is the same before and after."""
    images = [(SASS, 50, 0), (SASS, 70, 0), (SASS, 75, 0), (SASS, 80, 0), (SASS, 86, 0), (SASS, 90, 0),
              (SASS, 90, EXACT), (SASS, 100, 0), (SASS, 100, EXACT), (SASS, 100, FAMILY), (SASS, 120, 0)]
    portable = [(PTX, 50, 0), (PTX, 90, EXACT), (PTX, 120, 0)]
    root = tmp_path / "root"
    path = library(root / SITE / NCCL, fat_binary(*images, *portable, payload=CODE), fat_binary((SASS, 86, 0)))
    path.chmod(0o644)
    before, size, (findings, _) = payloads(path), path.stat().st_size, scan(root, declared)
    assert all(before.values())
    (line,) = trim(program, root, trim_architectures=declared)
    assert line.startswith(f"trimmed {NCCL}: ")
    after = payloads(path)
    assert {name for name, whole in after.items() if whole and name.startswith("sm_")} - {"sm_86"} \
        == set(kept.split()) - {"sm_86"}
    assert all(after[f"compute_{name}"] for name in ("50", "90a", "120"))
    assert (path.stat().st_size, path.stat().st_mode & 0o777, after.keys()) == (size, 0o644, before.keys())
    assert scan(root, declared)[0] == findings
    (program_row,) = report(root).gpu_code
    assert {f"sm_{name}" for name in program_row.architectures} == {name for name, whole in after.items() if not whole}
    assert program_row.bytes == len(CODE) * len(program_row.architectures) + (16 if "sm_86" not in kept else 0)


def test_everything_else_of_a_library_stays(tmp_path: Path, program: Path) -> None:
    root = tmp_path / "root"
    binary = fat_binary((SASS, 50, 0), (SASS, 86, 0), (SASS, 90, 0), payload=CODE)
    path = library(root / SITE / NCCL, binary)
    whole = path.read_bytes()
    trim(program, root)
    at, end = whole.index(binary), 64 + len(CODE)
    wanted = bytearray(whole)
    for number in (0, 2):
        start = at + 16 + number * end + 64
        wanted[start:start + len(CODE)] = bytes(len(CODE))
    assert path.read_bytes() == bytes(wanted)


def test_a_cubin_that_is_not_compressed(tmp_path: Path, program: Path) -> None:
    root, cubin = tmp_path / "root", b"\x7fELF" + b".text.kernel\0" + CODE + bytes(3)
    path = library(root / SITE / NCCL, fat_binary_of([entry(SASS, 60, 0x11, cubin), entry(SASS, 86, 0x11, cubin)]))
    assert payloads(path) == {"sm_60": True, "sm_86": True}
    trim(program, root)
    assert payloads(path) == {"sm_60": False, "sm_86": True}
    assert scan(root, ["60", "86"]) == ({("file", "sm_60")}, ["86"])


def lying(place: int, form: str, value: int) -> bytes:
    """A fat binary of two entries for a GPU that nobody declares, with one number of it replaced."""
    data = bytearray(fat_binary((SASS, 50, 0), (SASS, 90, 0), payload=CODE))
    struct.pack_into(form, data, place, value)
    return bytes(data)


FIRST, SECOND = 16, 16 + 64 + len(CODE)


@pytest.mark.parametrize("binary", [
    lying(8, "<Q", 1 << 40), lying(8, "<Q", 2 * (64 + len(CODE)) - 8), lying(8, "<Q", 100),
    lying(FIRST + 4, "<I", 0), lying(FIRST + 4, "<I", 1 << 31), lying(FIRST + 8, "<Q", 1 << 62),
    lying(SECOND + 8, "<Q", len(CODE) + 8), lying(SECOND + 8, "<Q", len(CODE) - 8), lying(SECOND + 4, "<I", 72),
    lying(SECOND + 4, "<I", 56), lying(6, "<H", 0), lying(6, "<H", 24),
    fat_binary((SASS, 50, 0), (SASS, 90, 0), payload=CODE)[:-5000],
], ids=[
    "longer than the section", "ends within an entry", "ends within the first entry", "header of no length",
    "header of 2 GiB", "payload of 2^62 bytes", "last payload too long", "last payload too short",
    "last header too long", "header shorter than the fields", "no header", "header too long", "cut off",
])
def test_a_fat_binary_whose_sizes_lie_is_left_alone(tmp_path: Path, program: Path, binary: bytes) -> None:
    """Nor does it spoil what follows: another fat binary of the same library."""
    root = tmp_path / "root"
    path = library(root / SITE / NCCL, binary)
    whole = path.read_bytes()
    assert trim(program, root) == []
    assert path.read_bytes() == whole
    assert not (root / "opt/ml/TRIMMED.json").exists()


def test_what_is_no_program_is_left_alone(tmp_path: Path, program: Path) -> None:
    root = tmp_path / "root"
    path = library(root / SITE / NCCL, fat_binary((SASS, 50, 0), payload=CODE))
    half = path.read_bytes()[:3000]
    path.write_bytes(half)
    write(root, TORCH, "no program")
    (root / SITE / "torch/lib/libtorch_cuda_link.so").symlink_to("/nowhere")
    assert trim(program, root) == []
    assert path.read_bytes() == half


def test_other_code_than_sass_is_left_alone(tmp_path: Path, program: Path) -> None:
    """Kinds that the coverage check does not know, such as LTO's: 8, 16, 64."""
    root = tmp_path / "root"
    path = library(root / SITE / NCCL, fat_binary(*((kind, 50, 0) for kind in (0, 4, 8, 16, 64)), payload=CODE))
    whole = path.read_bytes()
    assert trim(program, root) == []
    assert path.read_bytes() == whole


@pytest.mark.parametrize(("settings", "trimmed"), [
    ({"trim_gpu_code": "none"}, set()),
    ({"trim_gpu_code": "free"}, {NCCL, TORCH}),
    ({"trim_gpu_code": "all"}, {NCCL, TORCH, "nvidia/cublas/lib/libcublas.so.12", "torch/lib/libtorch_nvshmem.so"}),
])
def test_licences_decide_which_programs_are_trimmed(
    tmp_path: Path, program: Path, settings: dict[str, Any], trimmed: set[str],
) -> None:
    root = tmp_path / "root"
    for name in (NCCL, TORCH, "nvidia/cublas/lib/libcublas.so.12", "torch/lib/libtorch_nvshmem.so"):
        library(root / SITE / name, fat_binary((SASS, 50, 0), payload=CODE))
    trim(program, root, trim_duplicates_enabled=False, **settings)
    found = report(root).gpu_code if (root / "opt/ml/TRIMMED.json").exists() else []
    assert {row.path for row in found} == {f"{SITE.removeprefix('opt/ml/')}/{name}" for name in trimmed}


def environment(root: Path) -> Path:
    """NCCL, a package with tests, leftovers and twins; the RECORD of the package."""
    library(root / SITE / NCCL, fat_binary((SASS, 50, 0), (SASS, 86, 0), payload=CODE))
    record(root, "nvidia_nccl_cu12-2.27.5", NCCL)
    big = b"library" * 20_000
    names: dict[str, str | bytes] = {
        "numpy/core.py": "x = 1", "numpy/tests/test_core.py": "", "numpy/tests/__pycache__/test_core.pyc": "",
        "numpy/lib/tests/data/x.csv": "1", "numpy/testing/__init__.py": "", "cuda/bindings/driver.cpp": "code",
        "cuda/bindings/driver.pxd": "", "triton/backends/nvidia/lib/cupti/libcupti.so": big,
        "triton/backends/nvidia/lib/cupti/libcupti_static.a": "archive", "nvidia/cupti/lib/libcupti.so.12": big,
        "nvidia/cupti/lib/same_size.so": b"another" * 20_000, "nvidia/cupti/small.h": "h", "triton/small.h": "h",
        "nvidia/cupti/private.so": big,
    }
    for name, content in names.items():
        write(root, name, content)
    (root / SITE / "nvidia/cupti/private.so").chmod(0o600)
    return record(root, "numpy-2.4.6", *names)


def test_files_go_and_records_say_so(tmp_path: Path, program: Path) -> None:
    root = tmp_path / "root"
    rows = rows_of(listed := environment(root))
    was = rows_of(nccl := root / SITE / "nvidia_nccl_cu12-2.27.5.dist-info/RECORD")
    trim(program, root)
    gone = {name for name in rows if not (root / SITE / name).exists()}
    assert gone == {"numpy/tests/test_core.py", "numpy/tests/__pycache__/test_core.pyc", "numpy/lib/tests/data/x.csv",
                    "cuda/bindings/driver.cpp", "triton/backends/nvidia/lib/cupti/libcupti_static.a"}
    assert not (root / SITE / "numpy/tests").exists() and not (root / SITE / "numpy/lib").exists()
    assert rows_of(listed) == {name: digest for name, digest in rows.items() if name not in gone}
    found = report(root)
    assert {(row.wheel, row.reason, row.files) for row in found.removed} == {
        ("numpy-2.4.6", "test_suites", 3), ("numpy-2.4.6", "build_leftovers", 2)}
    (program_row,) = found.gpu_code
    assert rows_of(nccl)[NCCL] == program_row.now == noted((root / SITE / NCCL).read_bytes()) != was[NCCL]
    assert (program_row.wheel, program_row.was) == ("nvidia_nccl_cu12-2.27.5", was[NCCL])
    assert found.of_wheel("nvidia-nccl-cu12", "2.27.5") == [
        f"{program_row.path}: without machine code of sm_50; {was[NCCL]} is {program_row.now}"]
    assert found.of_wheel("nvidia-nccl-cu12", "2.27.6") == []


def test_equal_files_become_one(tmp_path: Path, program: Path) -> None:
    """Of the same mode and owner, and large enough; both names stay."""
    root = tmp_path / "root"
    environment(root)
    trim(program, root)
    site = root / SITE
    first, twin = site / "nvidia/cupti/lib/libcupti.so.12", site / "triton/backends/nvidia/lib/cupti/libcupti.so"
    assert first.samefile(twin) and first.stat().st_nlink == 2
    assert [(row.path, row.to) for row in report(root).linked] == [
        (str(twin.relative_to(root / "opt/ml")), str(first.relative_to(root / "opt/ml")))]
    assert not (site / "nvidia/cupti/small.h").samefile(site / "triton/small.h")


def test_equal_trees_become_equal_ones_and_a_second_run_finds_nothing(tmp_path: Path, program: Path) -> None:
    trees = list[dict[str, bytes]]()
    for name in ("one", "two"):
        environment(root := tmp_path / name)
        assert trim(program, root)
        trees.append({str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()})
        assert trim(program, root) == []
    assert trees[0] == trees[1]
    assert trees[0]["opt/ml/TRIMMED.json"] == (tmp_path / "two/opt/ml/TRIMMED.json").read_bytes()


def test_each_switch_is_for_its_part_alone(tmp_path: Path, program: Path) -> None:
    off = {"trim_gpu_code": "none", **dict.fromkeys((name for name in ALL_ON if name.endswith("_enabled")), False)}
    for number, name in enumerate(off):
        environment(root := tmp_path / str(number))
        assert trim(program, root, **off) == []
        trim(program, root, **{**off, name: ALL_ON[name]})
        found = report(root)
        assert {"trim_gpu_code": bool(found.gpu_code), "trim_duplicates_enabled": bool(found.linked),
                **{f"trim_{row.reason}_enabled": True for row in found.removed}} == {
            "trim_gpu_code": name == "trim_gpu_code", "trim_duplicates_enabled": name == "trim_duplicates_enabled",
            **({name: True} if name not in ("trim_gpu_code", "trim_duplicates_enabled") else {})}


NVCC = Path(__file__).parent / "nvcc"


def test_what_nvcc_wrote(tmp_path: Path, program: Path) -> None:
    """sm_80 and sm_90a of nvcc 13.0 (see test_coverage.py), compressed or not as it chose."""
    root = tmp_path / "root"
    path = library(root / SITE / NCCL, (NVCC / "sm_80-sm_90a.fatbin").read_bytes())
    assert payloads(path) == {"sm_80": True, "sm_90a": True}
    trim(program, root)
    assert payloads(path) == {"sm_80": True, "sm_90a": False}
    assert scan(root, ["86", "90"]) == ({("file", "sm_90")}, ["80"])


def test_a_sentence_for_people(tmp_path: Path, program: Path) -> None:
    environment(root := tmp_path / "root")
    trim(program, root)
    found = report(root)
    assert found.sentence == "machine code for sm_50 in 1 programs; 5 files that nothing uses; 1 copies of files"
    assert found.bytes == len(CODE) + sum(row.bytes for row in found.removed) + 140_000
