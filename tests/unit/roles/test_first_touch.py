"""Reading ahead: which parts of files a list has, and what the program that reads them does on real
files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.programs import load

FILES = Path(__file__).resolve().parents[3] / "roles/first_touch/files"
BLOCK = 512 << 10
record = load(FILES / "record.py", "first_touch_record")
reader = load(FILES / "golden-first-touch", "golden_first_touch")


SOURCE = """
__attribute__((section(".nv_fatbin"))) const char gpu[4 << 20] = {1};
const char text[1 << 20] = {1};
char data[4 << 20] = {1};
const char *table[1 << 18] = {[1 << 17] = text};
"""


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A real library: 4 MiB of what CUDA calls code of GPUs, constants, data, and a table with one
    address in it."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    (tmp_path / "x.c").write_text(SOURCE, encoding="utf-8")
    target = tmp_path / "libx.so"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-o", str(target), str(tmp_path / "x.c")], check=True
    )
    return target


def test_of_a_library_is_read_what_loading_it_reads(library: Path) -> None:
    """Constants, and the page with the address; neither GPU code nor data that nothing is written
    to."""
    found, size = record.parts(str(library)), library.stat().st_size
    assert all(begin % BLOCK == 0 and (end % BLOCK == 0 or end == size) for begin, end in found)
    wanted = {block for begin, end in found for block in range(begin // BLOCK, -(-end // BLOCK))}
    source = os.open(library, os.O_RDONLY)
    by_name = {section.name: section for section in record.sections(source)}
    os.close(source)
    assert set(by_name[b".rodata"].blocks(0, 1 << 20)) <= wanted
    assert len(wanted & set(by_name[b".nv_fatbin"].blocks(0, 4 << 20))) <= 2, (
        "the blocks that others begin or end in"
    )
    data = by_name[b".data"]
    assert len(wanted & set(data.blocks(0, data.size))) <= 4, "of 6 MiB"
    symbols = subprocess.run(
        ["nm", str(library)], text=True, capture_output=True, check=True
    ).stdout
    table = next(
        int(line.split()[0], 16) for line in symbols.splitlines() if line.endswith(" table")
    )
    assert set(data.blocks(table - data.address + (1 << 20), 8)) <= wanted


def test_other_files_are_whole(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(3 * BLOCK + 1))
    assert record.parts(str(tmp_path / "x")) == [(0, 3 * BLOCK + 1)]


def traced(*modules: str, without: str = "[]") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "-B", "-c", record.TRACE, without, *modules],
        text=True,
        capture_output=True,
        check=False,
    )


def test_an_import_is_seen_twice_alike_with_modules_data_and_libraries() -> None:
    first, second = (traced("sqlite3", "zoneinfo") for _ in range(2))
    assert first.returncode == 0 and first.stdout == second.stdout
    assert "libsqlite3.so" in first.stdout and "dbapi2" in first.stdout


def run(listed: Path, *options: str) -> str:
    return subprocess.run(
        [sys.executable, "-I", "-B", str(FILES / "golden-first-touch"), str(listed), *options],
        text=True,
        capture_output=True,
        check=True,
    ).stdout


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A list of two files and of one that an instance has removed."""
    (tmp_path / "large").write_bytes(bytes(3 * BLOCK + 7))
    (tmp_path / "small").write_bytes(b"x" * 100)
    target = tmp_path / "list.tsv"
    target.write_text(
        f"{tmp_path}/gone\t0+100\n{tmp_path}/large\t0+{BLOCK} "
        f"{2 * BLOCK}+{BLOCK + 7}\n"
        f"{tmp_path}/small\t0+100\n",
        encoding="utf-8",
    )
    return target


def test_parts_are_read_in_chunks_short_ranges_first_and_what_is_gone_is_passed_over(
    listed: Path,
) -> None:
    assert [(offset, length) for _, offset, length in reader.listed(listed)] == [
        (0, 100),
        (0, 100),
        (0, BLOCK),
        (2 * BLOCK, BLOCK),
        (3 * BLOCK, 7),
    ]
    assert run(listed, "--slow-ms", "0.0000001").startswith("read 1 MB of 3 files in ")


def test_a_volume_that_answers_at_once_is_left_alone(listed: Path) -> None:
    assert run(listed, "--slow-ms", "60000") == "nothing to read: the volume is loaded\n"


def test_a_volume_that_is_not_read_in_time_is_no_failure(listed: Path) -> None:
    """The program ends by itself: systemd would fail the unit."""
    said = run(listed, "--slow-ms", "0.0000001", "--limit-s", "0")
    assert said.startswith("read 0 MB of 3 files in ")
