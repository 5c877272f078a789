"""Remove from the environments below /opt/ml what nothing uses; print each change.

    trim.py ROOT [--keep-test-suites]

The RECORD of a wheel names the files that are left. Equal trees become equal ones, and a second run
finds nothing to do.

Runs on the image's own python3 (3.11 or newer), with nothing beside it.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import groupby
from pathlib import Path

HOME = "opt/ml"
SITES = "*/lib/python3*/site-packages"
SMALLEST_COPY = 1 << 16
"""Bytes, 64 KiB: smaller copies are many and gain little."""

# Only makers of numerical tables (scipy/special/_precompute) import a test of theirs.
TEST_SUITES = (
    "numpy/tests/*",
    "numpy/*/tests/*",
    "scipy/*/tests/*",
    "pandas/tests/*",
    "sklearn/tests/*",
    "sklearn/*/tests/*",
    "sympy/*/tests/*",
    "networkx/tests/*",
    "networkx/*/tests/*",
)
"""Patterns of paths below site-packages; `*` crosses folders."""
# Cython's output beside the modules that were compiled from it; .pxd and .pyx, which others import,
# stay. Of CUPTI's libraries Triton's profiler loads the shared ones.
LEFTOVERS = ("cuda/bindings/*.cpp", "triton/backends/nvidia/lib/cupti/*_static.a")


def files(folder: Path) -> Iterator[Path]:
    """Every file below a folder, links among them, in the order of their paths."""
    for place, names, found in os.walk(folder):
        names.sort()
        yield from (Path(place, name) for name in sorted(found))


def remove(site: Path, patterns: Sequence[str]) -> dict[Path, int]:
    """Remove what the patterns name, and folders that are empty then; the bytes of each file."""
    gone = dict[Path, int]()
    for path in files(site):
        name = path.relative_to(site).as_posix()
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            gone[path] = path.lstat().st_size
            path.unlink()
    folders = {parent for path in gone for parent in path.parents if site in parent.parents}
    for folder in sorted(folders, reverse=True):  # the deepest first
        if not any(folder.iterdir()):
            folder.rmdir()
    return gone


def correct_records(site: Path, gone: dict[Path, int]) -> None:
    """Have the RECORD of each wheel name the files that are left."""
    for record in sorted(site.glob("*.dist-info/RECORD")):
        lines = record.read_text(encoding="utf-8").splitlines()
        rows = [row for row in csv.reader(lines) if row]
        paths = [Path(os.path.normpath(site / row[0])) for row in rows]
        sizes = [gone[path] for path in paths if path in gone]
        if not sizes:
            continue
        left = [row for row, path in zip(rows, paths, strict=True) if path not in gone]
        with record.open("w", encoding="utf-8", newline="") as sink:
            csv.writer(sink, lineterminator="\r\n").writerows(left)  # as pip writes it
        wheel = record.parent.name.removesuffix(".dist-info")
        print(f"removed {len(sizes)} files of {wheel}: {sum(sizes) / 1e6:.1f} MB")


def link_copies(home: Path) -> None:
    """Make one of files with equal content, mode and owner: a copy becomes a link to the first."""

    def key(path: Path) -> tuple[int, ...]:
        status = path.lstat()
        return status.st_size, status.st_mode, status.st_uid, status.st_gid

    large = [
        path
        for path in files(home)
        if not path.is_symlink() and path.lstat().st_size >= SMALLEST_COPY
    ]
    counts = Counter(map(key, large))
    alike = sorted(path for path in large if counts[key(path)] > 1)
    alike.sort(key=key)
    for _, group in groupby(alike, key):
        firsts = dict[str, Path]()
        for path in group:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            first = firsts.setdefault(digest, path)
            if not first.samefile(path):
                _link(home, path, first)


def _link(home: Path, path: Path, first: Path) -> None:
    aside = path.with_name(f".{path.name}.trim")
    os.link(first, aside)
    aside.replace(path)
    size = path.stat().st_size / 1e6
    print(f"linked {path.relative_to(home)} to {first.relative_to(home)}: {size:.1f} MB")


def main() -> int:
    """Read the command line, and trim."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path, help="the image's root")
    parser.add_argument("--keep-test-suites", action="store_true")
    arguments = parser.parse_args()
    home = arguments.root / HOME
    patterns = LEFTOVERS if arguments.keep_test_suites else (*TEST_SUITES, *LEFTOVERS)
    for site in sorted(home.glob(SITES)):
        correct_records(site, remove(site, patterns))
    link_copies(home)
    return 0


if __name__ == "__main__":
    sys.exit(main())
