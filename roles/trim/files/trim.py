"""Take out of the environments below /opt/ml what no machine of the image uses; print each change.

    trim.py --root ROOT < SETTINGS

SETTINGS is JSON: the role's variables by their names. What they choose among stands here, by reason.

A program keeps its size and layout: payloads of a fat binary become zeros, which the disk does not store, its headers
stay (see `fatbin`). A wheel's RECORD says what is there; ROOT/opt/ml/TRIMMED.json says what the wheel had. Equal trees
become equal ones, and a second run finds nothing to do.

Runs on the image's own python3 (3.11 or newer), with nothing beside it but the two modules that read programs.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import groupby
from pathlib import Path
from typing import Any

from goldenami.local.code_coverage import fatbin
from goldenami.local.code_coverage.elf import Elf, NotElf

HOME = "opt/ml"
REPORT = f"{HOME}/TRIMMED.json"
SITES = "*/lib/python3*/site-packages"
PIECE = 1 << 20
"""Bytes that are read at once."""
SMALLEST_TWIN = 1 << 16
"""Bytes of a file that is worth a look for equal ones: 64 KiB. Smaller ones are many and gain little."""

PROGRAMS = {
    "none": (),
    # BSD-3-Clause, by the LICENSE of both wheels: "with or without modification". libtorch_nvshmem.so is left alone: it
    # has NVSHMEM's device library in it, which is NVIDIA's.
    "free": ("torch/lib/libtorch_cuda*.so", "nvidia/nccl/lib/libnccl.so.*"),
    "all": ("*.so", "*.so.*"),
}
"""Of each value of trim_gpu_code, the programs that keep machine code of the declared GPUs alone. Patterns are of paths
below site-packages, and `*` crosses folders; so it is below."""
REMOVE = {
    # Only makers of numerical tables (scipy/special/_precompute) import a test of theirs.
    "test_suites": (
        "numpy/tests/*", "numpy/*/tests/*", "scipy/*/tests/*", "pandas/tests/*", "sklearn/tests/*",
        "sklearn/*/tests/*", "sympy/*/tests/*", "networkx/tests/*", "networkx/*/tests/*",
    ),
    # Cython's output beside the modules that were compiled from it (.pxd and .pyx, which others import, stay); static
    # libraries of CUPTI, of which Triton's profiler loads the shared ones.
    "build_leftovers": ("cuda/bindings/*.cpp", "triton/backends/nvidia/lib/cupti/*_static.a"),
}
"""Of each switch trim_*_enabled, the files that go."""

Digest = str
"""As a RECORD has it: `sha256=` and the digest in URL-safe base64 without padding (the wheel format, "RECORD")."""


@dataclass
class Report:
    """What was taken out, as TRIMMED.json has it."""

    architectures: list[str] = field(default_factory=list)
    gpu_code: list[dict[str, Any]] = field(default_factory=list)
    removed: list[dict[str, Any]] = field(default_factory=list)
    linked: list[dict[str, Any]] = field(default_factory=list)


def files(folder: Path) -> Iterator[Path]:
    """Every file below a folder, links among them, in the order of their paths."""
    for place, names, found in os.walk(folder):
        names.sort()
        yield from (Path(place, name) for name in sorted(found))


def remove(site: Path, settings: Mapping[str, Any]) -> dict[Path, tuple[str, int]]:
    """Remove the files that a switch is for, and the folders that it leaves empty; reason and bytes of each file."""
    patterns = [(reason, pattern) for reason, names in REMOVE.items() if settings[f"trim_{reason}_enabled"]
                for pattern in names]
    gone = dict[Path, tuple[str, int]]()
    for path in files(site):
        name = path.relative_to(site).as_posix()
        reason = next((reason for reason, pattern in patterns if fnmatchcase(name, pattern)), None)
        if reason:
            gone[path] = reason, path.lstat().st_size
            path.unlink()
    for folder in sorted({parent for path in gone for parent in path.parents if site in parent.parents}, reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()
    return gone


def blank(path: Path, architectures: Sequence[str]) -> tuple[dict[str, Any], Digest] | None:
    """Make zeros of the machine code that no declared GPU runs; what went, and the new digest. None: there is none."""
    try:
        with Elf(path) as elf:
            unused = fatbin.unused(elf, architectures)
    except NotElf:
        return None
    if not unused:
        return None
    aside = path.with_name(f".{path.name}.trim")
    with path.open("rb") as source, aside.open("wb") as sink:
        digest = _copy_without(source, sink, sorted((entry.offset, entry.size) for entry in unused))
    status = path.stat()
    os.chown(aside, status.st_uid, status.st_gid)
    shutil.copystat(path, aside)
    aside.replace(path)
    names = {entry.image.name for entry in unused if entry.image}
    return {"bytes": sum(entry.size for entry in unused), "architectures": sorted(names, key=_number)}, digest


def _number(architecture: str) -> tuple[int, str]:
    return int("".join(filter(str.isdigit, architecture))), architecture


def _copy_without(source: Any, sink: Any, holes: Sequence[tuple[int, int]]) -> Digest:
    """Copy a file with holes in place of these stretches (offset, bytes); the digest of the copy."""
    digest, size = hashlib.sha256(), os.fstat(source.fileno()).st_size
    sink.truncate(size)
    at = 0
    for offset, length in [*holes, (size, 0)]:
        source.seek(at)
        sink.seek(at)
        while at < offset:
            chunk = source.read(min(PIECE, offset - at))
            digest.update(chunk)
            sink.write(chunk)
            at += len(chunk)
        for left in range(length, 0, -PIECE):
            digest.update(bytes(min(left, PIECE)))
        at += length
    return "sha256=" + base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()


def trim_gpu_code(home: Path, site: Path, settings: Mapping[str, Any], report: Report) -> dict[Path, Digest]:
    """Trim the programs that are named; their new digests."""
    named = [path for path in files(site) if not path.is_symlink() and any(
        fnmatchcase(path.relative_to(site).as_posix(), pattern) for pattern in PROGRAMS[settings["trim_gpu_code"]])]
    digests = dict[Path, Digest]()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, done in zip(named, pool.map(lambda path: blank(path, settings["trim_architectures"]), named),
                              strict=True):
            if done:
                row, digests[path] = done
                report.gpu_code.append({"path": path.relative_to(home).as_posix(), "wheel": "", "was": "",
                                        "now": digests[path], **row})
                print(f"trimmed {path.relative_to(site)}: {row['bytes'] / 1e6:.1f} MB of sm_"
                      f"{', sm_'.join(row['architectures'])}")
    return digests


def link_twins(home: Path, report: Report) -> None:
    """Make one of files with the same content, mode and owner: each next one becomes a link to the first."""
    def key(path: Path) -> tuple[int, ...]:
        status = path.lstat()
        return status.st_size, status.st_mode, status.st_uid, status.st_gid

    large = [path for path in files(home) if not path.is_symlink() and path.lstat().st_size >= SMALLEST_TWIN]
    for _, group in groupby(sorted(large, key=lambda path: (key(path), path)), key):
        firsts = dict[str, Path]()
        for path in alike if len(alike := list(group)) > 1 else ():
            with path.open("rb") as file:
                first = firsts.setdefault(hashlib.file_digest(file, "sha256").hexdigest(), path)
            if first.lstat().st_ino != path.lstat().st_ino:
                aside = path.with_name(f".{path.name}.trim")
                os.link(first, aside)
                aside.replace(path)
                row = {"path": path.relative_to(home).as_posix(), "to": first.relative_to(home).as_posix(),
                       "bytes": first.stat().st_size}
                report.linked.append(row)
                print(f"linked {row['path']} to {row['to']}: {row['bytes'] / 1e6:.1f} MB")


def correct_records(
    home: Path, site: Path, gone: Mapping[Path, tuple[str, int]], digests: Mapping[Path, Digest], report: Report,
) -> None:
    """Have the wheels' RECORDs name the files that are there; note what they said of those that changed."""
    rows_of = {home / row["path"]: row for row in report.gpu_code}
    for record in sorted(site.glob("*.dist-info/RECORD")):
        wheel, left_out = record.parent.name.removesuffix(".dist-info"), dict[str, list[int]]()
        rows, changed = list[list[str]](), False
        for row in csv.reader(record.read_text(encoding="utf-8").splitlines()):
            path = Path(os.path.normpath(site / row[0])) if row else site
            if path in gone:
                reason, size = gone[path]
                left_out.setdefault(reason, []).append(size)
                continue
            if path in digests:
                rows_of[path].update(wheel=wheel, was=row[1])
                row[1], changed = digests[path], True
            rows.append(row)
        for reason, sizes in sorted(left_out.items()):
            report.removed.append({"wheel": wheel, "reason": reason, "files": len(sizes), "bytes": sum(sizes)})
            print(f"removed {len(sizes)} files of {wheel} ({reason}): {sum(sizes) / 1e6:.1f} MB")
        if changed or left_out:
            with record.open("w", encoding="utf-8", newline="") as sink:
                csv.writer(sink, lineterminator="\r\n").writerows(rows)  # as pip writes it


def trim(root: Path, settings: Mapping[str, Any]) -> None:
    """Take out what the settings name, and write down what it was."""
    home, path = root / HOME, root / REPORT
    report = Report(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else Report()
    before = sum(map(len, (report.gpu_code, report.removed, report.linked)))
    for site in sorted(home.glob(SITES)):
        gone = remove(site, settings)
        digests = trim_gpu_code(home, site, settings, report)
        correct_records(home, site, gone, digests, report)
    if settings["trim_duplicates_enabled"]:
        link_twins(home, report)
    if sum(map(len, (report.gpu_code, report.removed, report.linked))) > before:
        report.architectures = sorted(settings["trim_architectures"], key=_number)
        path.write_text(json.dumps(vars(report), indent=1, sort_keys=True) + "\n", encoding="utf-8")
        path.chmod(0o644)


def main() -> int:
    """Read the command line and the settings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="the image's root")
    trim(parser.parse_args().root, json.load(sys.stdin))
    return 0


if __name__ == "__main__":
    sys.exit(main())
