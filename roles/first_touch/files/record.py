"""Write which files, and which parts of them, the first imports of an image's frameworks read.

    record.py LIST

Frameworks are those of /opt/ml/FRAMEWORKS.json. Each environment's modules are imported in a Python
of it, without rights, under an audit hook. Listed is what Python opened or the process had mapped.
Of a library counts what loading it reads (`read_by_loader`); any other file is whole. Compiled
modules count as not installed, and what needs them is left out: code for other CPUs than this one's
would end in SIGILL on some machines, and not on others. LIST has a line for each file, by path: the
path, and as offset+length in bytes its parts. It prints `changed` where its bytes are new.

Runs on the image's python3 (3.10 or newer) from standard input, with the standard library alone.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

BLOCK = 512 << 10
"""Bytes that EBS loads at once: the block size of snapshots (EBS direct APIs)."""
FRAMEWORKS = Path("/opt/ml/FRAMEWORKS.json")
"""What role frameworks installed: module, environment and origin of each."""
SKIPPED = (
    "/proc/",
    "/sys/",
    "/dev/",
    "/run/",
    "/tmp/",  # noqa: S108 - none is written
    "/var/tmp/",  # noqa: S108 - none is written
    "/root/",
    "/home/",
    "/var/cache/",
)
"""Not on the disk, or of one machine."""
GPU_CODE = frozenset({b".nv_fatbin", b"__nv_relfatbin"})
"""Sections with code of GPUs; CUDA reads a kernel's when it is first used (CUDA_MODULE_LOADING,
lazy since 11.7)."""
WRITE, ALLOCATED, LARGE = 1, 2, 1 << 28
"""SHF_WRITE; SHF_ALLOC: the loader maps the section (elf(5)); SHF_X86_64_LARGE: tables that lie
apart, being large."""
NO_BITS, RELOCATIONS = 8, 4
"""SHT_NOBITS: a section without bytes in the file. SHT_RELA: words of 8 bytes, of each three the
first an address."""
PAGE_BITS = 12
TRACE = """
import importlib, json, sys
without, modules = json.loads(sys.argv[1]), sys.argv[2:]
sys.modules.update(dict.fromkeys(without))
seen = set()
def hook(event, args):
    if event == "open" and isinstance(args[0], str):
        seen.add(args[0])
sys.addaudithook(hook)
failed = []
for name in modules:
    try:
        importlib.import_module(name)
    except ImportError as error:
        if not without:
            raise
        failed.append(f"{name}: {error}")
with open("/proc/self/maps", encoding="utf-8") as maps:
    rows = [line.split(None, 5) for line in maps]
mapped = {row[5].rstrip("\\n") for row in rows if len(row) == 6}
known = {
    getattr(module, name, None)
    for module in list(sys.modules.values())
    for name in ("__cached__", "__file__")
}
seen |= mapped | {path for path in known if isinstance(path, str) and not path.endswith(".py")}
print(json.dumps([sorted(seen), failed]))
"""


def imported(environment: str, modules: Sequence[str], without: Sequence[str]) -> set[str]:
    """Paths that importing `modules` reads; SystemExit with Python's own words where that fails."""
    argv = [
        "runuser",
        "-u",
        "nobody",
        "--",
        "/opt/ml/bin/ml-run",
        environment,
        "python",
        "-I",
        "-B",
        "-c",
        TRACE,
        json.dumps(without),
        *modules,
    ]
    done = subprocess.run(argv, text=True, capture_output=True, check=False, cwd="/")
    if done.returncode:
        raise SystemExit(
            f"importing {', '.join(modules)} in {environment} failed: {done.stderr.strip()[-2000:]}"
        )
    paths, failed = json.loads(done.stdout.splitlines()[-1])
    for line in failed:
        print(f"not recorded: {line}")
    return {str(Path(path).resolve()) for path in paths if path.startswith("/")}


def on_disk(path: str) -> bool:
    """Whether the file is the image's."""
    return not path.startswith(SKIPPED) and Path(path).is_file() and not Path(path).is_symlink()


class Section(NamedTuple):
    """One section of a library: where it is in memory and in the file, in bytes."""

    name: bytes
    kind: int
    flags: int
    address: int
    offset: int
    size: int

    def blocks(self, begin: int, length: int) -> range:
        """The file's blocks that hold so many of its bytes from its byte `begin` on."""
        return range(
            (self.offset + begin) // BLOCK, (self.offset + begin + length - 1) // BLOCK + 1
        )


def sections(source: int) -> list[Section]:
    """Those of a 64-bit little-endian library that have bytes in the file and are mapped."""
    head = os.pread(source, 64, 0)
    (start,) = struct.unpack_from("<Q", head, 0x28)
    width, count, names = struct.unpack_from("<HHH", head, 0x3A)
    table = os.pread(source, width * count, start)
    rows = [
        Section(b"", *struct.unpack_from("<4xIQQQQ", table, width * number))
        for number in range(count)
    ]
    text = os.pread(source, rows[names].size, rows[names].offset) if rows else b""
    starts = [struct.unpack_from("<I", table, width * number)[0] for number in range(count)]
    return [
        row._replace(name=text[at : text.index(b"\0", at)])
        for row, at in zip(rows, starts, strict=True)
        if row.size and row.kind != NO_BITS and row.flags & ALLOCATED
    ]


def relocated(source: int, found: Sequence[Section]) -> list[int]:
    """Pages of memory in which the loader writes addresses."""
    pages: set[int] = set()
    for section in found:
        if section.kind == RELOCATIONS:
            words = array("Q", os.pread(source, section.size, section.offset))
            pages.update({address >> PAGE_BITS for address in words[::3]})
    return sorted(pages)


def read_by_loader(source: int) -> set[int]:
    """Blocks of a library's file that loading it reads: code and constants whole, of what can be
    written and of large tables the pages with addresses.
    """
    found = sections(source)
    pages, wanted = relocated(source, found), {0}
    for section in found:
        if section.flags & (WRITE | LARGE):
            low = bisect_left(pages, section.address >> PAGE_BITS)
            high = bisect_right(pages, (section.address + section.size - 1) >> PAGE_BITS)
            wanted.update(section.blocks(0, 1))
            for page in pages[low:high]:
                wanted.update(section.blocks(max(0, (page << PAGE_BITS) - section.address), 1))
        elif section.name not in GPU_CODE:
            wanted.update(section.blocks(0, section.size))
    return wanted


def parts(path: str) -> list[tuple[int, int]]:
    """Offset and end of what is read of the file, in whole blocks but for its end."""
    size = Path(path).stat().st_size
    source = os.open(path, os.O_RDONLY)
    try:
        if size <= BLOCK or os.pread(source, 6, 0) != b"\x7fELF\x02\x01":
            return [(0, size)]
        wanted = read_by_loader(source)
    finally:
        os.close(source)
    found: list[tuple[int, int]] = []
    for block in sorted(wanted):
        begin, end = block * BLOCK, min(size, (block + 1) * BLOCK)
        if found and found[-1][1] == begin:
            found[-1] = (found[-1][0], end)
        else:
            found.append((begin, end))
    return found


def main() -> None:
    """Import, and write the list."""
    target, modules, compiled = sys.argv[1], dict[str, list[str]](), list[str]()
    for one in json.loads(FRAMEWORKS.read_text(encoding="utf-8")) if FRAMEWORKS.exists() else []:
        if one["origin"] == "source":
            compiled.append(one["module"])
        else:
            modules.setdefault(one["environment"], []).append(one["module"])
    paths = {
        path
        for environment, names in modules.items()
        for path in imported(environment, names, compiled)
    }
    lines = [
        f"{path}\t{' '.join(f'{begin}+{end - begin}' for begin, end in parts(path))}\n"
        for path in sorted(filter(on_disk, paths))
        if Path(path).stat().st_size
    ]
    text, place = "".join(lines), Path(target)
    if not place.exists() or place.read_text(encoding="utf-8") != text:
        place.write_text(text, encoding="utf-8")
        place.chmod(0o644)
        print("changed")


if __name__ == "__main__":
    main()
