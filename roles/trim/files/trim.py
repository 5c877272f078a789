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
"""64 KiB, in bytes: smaller copies are many and gain little."""

# Only scripts that make numerical tables (scipy/special/_precompute) import one of these.
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
# Cython's output, beside the modules that were compiled from it; .pxd and .pyx stay, as others
# import them. Triton's profiler loads CUPTI's shared libraries, not the static ones.
LEFTOVERS = ("cuda/bindings/*.cpp", "triton/backends/nvidia/lib/cupti/*_static.a")


def files(folder: Path) -> Iterator[Path]:
    """Yield every file below a folder, including links, in the order of their paths."""
    for parent, folder_names, file_names in os.walk(folder):
        # os.walk descends in the order of this list.
        folder_names.sort()
        yield from (Path(parent, name) for name in sorted(file_names))


def remove(site: Path, patterns: Sequence[str]) -> dict[Path, int]:
    """Remove the files that match the patterns, and folders that are then empty. Return the removed
    files with their sizes in bytes."""
    removed = dict[Path, int]()
    for path in files(site):
        name = path.relative_to(site).as_posix()
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            removed[path] = path.lstat().st_size
            path.unlink()
    folders = set[Path]()
    for path in removed:
        folders.update(parent for parent in path.parents if site in parent.parents)
    for folder in sorted(folders, reverse=True):  # the deepest first
        if not any(folder.iterdir()):
            folder.rmdir()
    return removed


def correct_records(site: Path, removed: dict[Path, int]) -> None:
    """Correct each wheel's RECORD: it names only the files that remain."""
    for record in sorted(site.glob("*.dist-info/RECORD")):
        lines = record.read_text(encoding="utf-8").splitlines()
        rows = [row for row in csv.reader(lines) if row]
        paths = [Path(os.path.normpath(site / row[0])) for row in rows]
        sizes = [removed[path] for path in paths if path in removed]
        if not sizes:
            continue
        remaining = [row for row, path in zip(rows, paths, strict=True) if path not in removed]
        with record.open("w", encoding="utf-8", newline="") as sink:
            csv.writer(sink, lineterminator="\r\n").writerows(remaining)  # pip writes RECORD so
        wheel = record.parent.name.removesuffix(".dist-info")
        print(f"removed {len(sizes)} files of {wheel}: {sum(sizes) / 1e6:.1f} MB")


def link_copies(home: Path) -> None:
    """Make one file of those with equal content, mode and owner: each copy becomes a hard link to
    the first."""

    def key(path: Path) -> tuple[int, ...]:
        status = path.lstat()
        return status.st_size, status.st_mode, status.st_uid, status.st_gid

    large_files = [
        path
        for path in files(home)
        if not path.is_symlink() and path.lstat().st_size >= SMALLEST_COPY
    ]
    # Only files whose size, mode and owner another file has, too, are read.
    counts = Counter(map(key, large_files))
    candidates = sorted(path for path in large_files if counts[key(path)] > 1)
    candidates.sort(key=key)
    for _, group in groupby(candidates, key):
        firsts = dict[str, Path]()
        for path in group:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            first = firsts.setdefault(digest, path)
            if not first.samefile(path):
                _link(home, path, first)


def _link(home: Path, path: Path, first: Path) -> None:
    # Linked beside and renamed: the path exists at every moment.
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
