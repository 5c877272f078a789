"""The program of role `trim` over made-up environments, run as the role runs it."""

from __future__ import annotations

import csv
import subprocess
from pathlib import Path

from support.builds.tools import ROOT

PROGRAM = ROOT / "roles/trim/files/trim.py"
SITE = "opt/ml/ml/lib/python3.13/site-packages"
CUPTI, COPY = "nvidia/cupti/lib/libcupti.so.12", "triton/backends/nvidia/lib/cupti/libcupti.so"
BIG = b"library" * 20_000
STAYS: dict[str, bytes] = {
    "numpy/core.py": b"x = 1",
    "numpy/testing/__init__.py": b"",
    "cuda/bindings/driver.pxd": b"",
    CUPTI: BIG,
    COPY: BIG,
    "nvidia/cupti/lib/same_size.so": b"another" * 20_000,
    "nvidia/cupti/private.so": BIG,
    "nvidia/cupti/small.h": b"h",
    "triton/small.h": b"h",
}
LEFTOVERS = {
    "cuda/bindings/driver.cpp": b"code",
    "triton/backends/nvidia/lib/cupti/libcupti_static.a": b"archive",
}
SUITES = {
    "numpy/tests/test_core.py": b"",
    "numpy/tests/__pycache__/test_core.pyc": b"",
    "numpy/lib/tests/data/x,y.csv": b"1",
}


def trim(root: Path, *options: str) -> list[str]:
    """What it printed."""
    argv = ["python3", "-I", "-B", "-", str(root), *options]
    done = subprocess.run(
        argv, input=PROGRAM.read_text(encoding="utf-8"), text=True, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def environment(root: Path) -> Path:
    """A site-packages with a wheel of all these files; its RECORD as pip writes it."""
    site = root / SITE
    found = STAYS | LEFTOVERS | SUITES
    for name, content in found.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_bytes(content)
    (site / "nvidia/cupti/private.so").chmod(0o600)
    (site / "numpy/tests/link.py").symlink_to("/nowhere")
    rows = [f'"{name}",sha256=x,1\r\n' for name in found]
    record = site / "numpy-2.4.6.dist-info/RECORD"
    record.parent.mkdir()
    record.write_text("".join([*rows, "../../../bin/f2py,,\r\n"]), encoding="utf-8", newline="")
    return site


def recorded(site: Path) -> set[str]:
    with (site / "numpy-2.4.6.dist-info/RECORD").open(encoding="utf-8", newline="") as file:
        return {row[0] for row in csv.reader(file)}


def there(site: Path) -> set[str]:
    return {path.relative_to(site).as_posix() for path in site.rglob("*") if not path.is_dir()}


def test_files_go_and_the_record_names_those_left(tmp_path: Path) -> None:
    site = environment(tmp_path)
    assert "removed 5 files of numpy-2.4.6: 0.0 MB" in trim(tmp_path)
    assert there(site) == {*STAYS, "numpy-2.4.6.dist-info/RECORD"}
    assert recorded(site) == {*STAYS, "../../../bin/f2py"}
    assert not (site / "numpy/tests").exists() and not (site / "numpy/lib").exists()


def test_test_suites_may_stay(tmp_path: Path) -> None:
    site = environment(tmp_path)
    trim(tmp_path, "--keep-test-suites")
    assert recorded(site) == {*STAYS, *SUITES, "../../../bin/f2py"}
    assert there(site) >= SUITES.keys()


def test_equal_files_become_one(tmp_path: Path) -> None:
    """Of the same mode and owner, and large enough; both names stay."""
    site = environment(tmp_path)
    below = SITE.removeprefix("opt/ml/")
    assert f"linked {below}/{COPY} to {below}/{CUPTI}: 0.1 MB" in trim(tmp_path)
    assert (site / CUPTI).samefile(site / COPY) and (site / CUPTI).stat().st_nlink == 2
    assert not (site / "nvidia/cupti/small.h").samefile(site / "triton/small.h")
    for name, content in STAYS.items():
        assert (site / name).read_bytes() == content


def test_equal_trees_become_equal_ones_and_a_second_run_finds_nothing(tmp_path: Path) -> None:
    trees = list[dict[str, bytes]]()
    for name in ("one", "two"):
        site = environment(root := tmp_path / name)
        assert trim(root)
        trees.append({path: (site / path).read_bytes() for path in sorted(there(site))})
        assert trim(root) == []
    assert trees[0] == trees[1]
