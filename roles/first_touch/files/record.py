"""Write which files, and which parts of them, the first imports of an image's frameworks read.

    record.py LIST

The frameworks are those of /opt/ml/FRAMEWORKS.json. Each environment's modules are imported by its
own Python, without rights, under an audit hook. The list has the files that Python opened or the
process had mapped: of a library the parts that loading it reads (`read_by_loader`), any other file
as a whole. Compiled modules count as not installed, and modules that need them are left out: code
for other CPUs than this one's would end in SIGILL on some machines, and not on others. LIST has a
line for each file, sorted by path: the path and its parts, as offset+length in bytes. The program
prints `changed` if the list is new.

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
"""List of what the role frameworks installed: each module with its environment and origin."""
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
"""Beginnings of paths that are not on the disk, or that belong to one machine."""
GPU_CODE = frozenset({b".nv_fatbin", b"__nv_relfatbin"})
"""Sections with code for GPUs. CUDA reads a kernel when it is first used (CUDA_MODULE_LOADING, lazy
since 11.7)."""
WRITE, ALLOCATED, LARGE = 1, 2, 1 << 28
"""SHF_WRITE; SHF_ALLOC: the loader maps the section (elf(5)); SHF_X86_64_LARGE: large tables, which
lie apart."""
NO_BITS, RELOCATIONS = 8, 4
"""SHT_NOBITS: a section without bytes in the file. SHT_RELA: entries of three words of 8 bytes, the
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
    """Return the paths that importing `modules` reads. Raises SystemExit with Python's own message
    if it fails."""
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
    process = subprocess.run(argv, text=True, capture_output=True, check=False, cwd="/")
    if process.returncode:
        raise SystemExit(
            f"importing {', '.join(modules)} in {environment} failed: "
            f"{process.stderr.strip()[-2000:]}"
        )
    paths, failed = json.loads(process.stdout.splitlines()[-1])
    for line in failed:
        print(f"not recorded: {line}")
    return {str(Path(path).resolve()) for path in paths if path.startswith("/")}


def on_disk(path: str) -> bool:
    """Return whether the path is a file of the image."""
    return not path.startswith(SKIPPED) and Path(path).is_file() and not Path(path).is_symlink()


class Section(NamedTuple):
    """A section of a library: where it is in memory and in the file, in bytes."""

    name: bytes
    kind: int
    flags: int
    address: int
    offset: int
    size: int

    def blocks(self, begin: int, length: int) -> range:
        """Return the file's blocks that hold the section's `length` bytes from `begin` on."""
        return range(
            (self.offset + begin) // BLOCK, (self.offset + begin + length - 1) // BLOCK + 1
        )


def sections(source: int) -> list[Section]:
    """Return the sections of a 64-bit little-endian library that have bytes in the file and are
    mapped."""
    head = os.pread(source, 64, 0)
    # elf(5): e_shoff, then e_shentsize, e_shnum and e_shstrndx.
    (start,) = struct.unpack_from("<Q", head, 0x28)
    width, count, names = struct.unpack_from("<HHH", head, 0x3A)
    table = os.pread(source, width * count, start)
    # After sh_name: sh_type, sh_flags, sh_addr, sh_offset and sh_size.
    rows = [
        Section(b"", *struct.unpack_from("<4xIQQQQ", table, width * number))
        for number in range(count)
    ]
    text = os.pread(source, rows[names].size, rows[names].offset) if rows else b""
    name_starts = [struct.unpack_from("<I", table, width * number)[0] for number in range(count)]
    return [
        row._replace(name=text[name_start : text.index(b"\0", name_start)])
        for row, name_start in zip(rows, name_starts, strict=True)
        if row.size and row.kind != NO_BITS and row.flags & ALLOCATED
    ]


def relocated(source: int, mapped: Sequence[Section]) -> list[int]:
    """Return the pages of memory in which the loader writes addresses, sorted."""
    pages: set[int] = set()
    for section in mapped:
        if section.kind == RELOCATIONS:
            words = array("Q", os.pread(source, section.size, section.offset))
            pages.update({address >> PAGE_BITS for address in words[::3]})
    return sorted(pages)


def read_by_loader(source: int) -> set[int]:
    """Return the blocks of a library's file that loading it reads: code and constants as a whole,
    of writable sections and large tables only the pages with addresses."""
    mapped = sections(source)
    # Block 0 has the file's header.
    pages, blocks = relocated(source, mapped), {0}
    for section in mapped:
        if section.flags & (WRITE | LARGE):
            low = bisect_left(pages, section.address >> PAGE_BITS)
            high = bisect_right(pages, (section.address + section.size - 1) >> PAGE_BITS)
            blocks.update(section.blocks(0, 1))
            for page in pages[low:high]:
                blocks.update(section.blocks(max(0, (page << PAGE_BITS) - section.address), 1))
        # CUDA reads the GPUs' code later, kernel by kernel.
        elif section.name not in GPU_CODE:
            blocks.update(section.blocks(0, section.size))
    return blocks


def parts(path: str) -> list[tuple[int, int]]:
    """Return the (offset, end) ranges of the file that are read: whole blocks, except at its
    end."""
    size = Path(path).stat().st_size
    source = os.open(path, os.O_RDONLY)
    try:
        # A small file is loaded as one block; only a 64-bit little-endian ELF file has parts.
        if size <= BLOCK or os.pread(source, 6, 0) != b"\x7fELF\x02\x01":
            return [(0, size)]
        blocks = read_by_loader(source)
    finally:
        os.close(source)
    ranges: list[tuple[int, int]] = []
    for block in sorted(blocks):
        begin, end = block * BLOCK, min(size, (block + 1) * BLOCK)
        if ranges and ranges[-1][1] == begin:
            ranges[-1] = (ranges[-1][0], end)
        else:
            ranges.append((begin, end))
    return ranges


def main() -> None:
    """Import the frameworks and write the list."""
    target, modules, compiled = sys.argv[1], dict[str, list[str]](), list[str]()
    frameworks = json.loads(FRAMEWORKS.read_text(encoding="utf-8")) if FRAMEWORKS.exists() else []
    for framework in frameworks:
        if framework["origin"] == "source":
            compiled.append(framework["module"])
        else:
            modules.setdefault(framework["environment"], []).append(framework["module"])
    paths = set[str]()
    for environment, names in modules.items():
        paths.update(imported(environment, names, compiled))
    lines = []
    for path in sorted(filter(on_disk, paths)):
        if Path(path).stat().st_size:
            ranges = " ".join(f"{begin}+{end - begin}" for begin, end in parts(path))
            lines.append(f"{path}\t{ranges}\n")
    text, list_file = "".join(lines), Path(target)
    if not list_file.exists() or list_file.read_text(encoding="utf-8") != text:
        list_file.write_text(text, encoding="utf-8")
        list_file.chmod(0o644)
        print("changed")


if __name__ == "__main__":
    main()
