"""Put large files straight into the disk image, each in slots of its own (see `large_files`), and
small ones by mke2fs.

Where a large file is zeros it has a hole, whatever the host's file system says, so that equal trees
give equal disks. What changes most comes last, so that a driver release moves no file of the layers
before it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from pathlib import Path

from goldenami.core import shell
from goldenami.core.errors import StageFailed
from goldenami.local.disk import large_files
from goldenami.local.disk.large_files import BLOCK, SLOT_BYTES, Extent, Run
from goldenami.local.tree.tree import CHUNK_BYTES, Entry, FilesOnDisk

HOLE = 4
"""Least blocks of a hole: 16 KiB. A shorter one gains less than reading a file in more pieces
costs."""
_ZEROS = bytes(BLOCK)


@dataclasses.dataclass(frozen=True)
class FileSystem:
    """The place of an ext4 file system: `size` bytes from `offset` on of the image `disk`."""

    disk: Path
    offset: int
    size: int
    name: str = "root"

    @property
    def blocks(self) -> int:
        return self.size // BLOCK


def is_large(entry: Entry) -> bool:
    """Return whether the file gets slots of its own."""
    return entry.kind == "file" and entry.size >= SLOT_BYTES


def order(entries: Sequence[Entry], ranks: Mapping[str, int]) -> list[Entry]:
    """Return the folders, then everything else by rank and path, then the hard links, whose targets
    precede them."""

    def key(entry: Entry) -> tuple[int, int]:
        if entry.kind == "directory":
            return 0, 0
        if entry.kind == "hardlink":
            return 2, 0
        return 1, ranks.get(entry.path, 0)

    return sorted(entries, key=key)  # stable: equal ranks stay in the order of their paths


def without_content(entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries with large files empty: their names, owners and modes, for mke2fs."""
    emptied = list(entries)
    for index, entry in enumerate(entries):
        if is_large(entry):
            emptied[index] = dataclasses.replace(entry, size=0, apart=True)
    return emptied


def fill(
    tree: Path,
    entries: Sequence[Entry],
    system: FileSystem,
    *,
    env: Mapping[str, str],
    final: Callable[[int], None],
) -> FilesOnDisk:
    """Write the large files of `entries` into slots of `system`. `final` is called with the byte up
    to which the disk will not change any more."""
    large = [entry for entry in entries if is_large(entry)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        runs = list(pool.map(lambda entry: data_runs(tree / entry.path), large))
    placed, offset = _place(large, runs, system, env), system.offset
    first, *unwritten = [
        offset + block * BLOCK for block in _first_unwritten(placed, system.blocks)
    ]
    final(first)
    sums: dict[str, str] = {}
    descriptor = os.open(system.disk, os.O_WRONLY)
    try:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            digests = pool.map(
                lambda entry, extents: _copy(tree, entry, extents, descriptor, offset),
                large,
                placed,
            )
            for entry, digest, until in zip(large, digests, unwritten, strict=True):
                sums[entry.path] = digest
                final(until)
    finally:
        os.close(descriptor)
    stored = {
        entry.path: sum(extent[2] for extent in extents) * BLOCK
        for entry, extents in zip(large, placed, strict=True)
    }
    return FilesOnDisk(sums, stored)


def data_runs(path: Path) -> list[Run]:
    """Return the blocks of the file `path` that are no holes."""
    runs, at = list[Run](), 0
    zeros, blocks = _zeros(path)
    holes = [(first, count) for first, count in zeros if count >= HOLE]
    for first, count in [*holes, (blocks, 0)]:
        if first > at:
            runs.append((at, first - at))
        at = first + count
    return runs


def _zeros(path: Path) -> tuple[list[Run], int]:
    """Return the runs of the file's blocks that are zeros, and the number of all its blocks."""
    runs, at = list[Run](), 0
    with path.open("rb") as source:
        while chunk := source.read(CHUNK_BYTES):
            for block in _zero_blocks(chunk):
                first, count = runs[-1] if runs else (-1, 0)
                if first + count == at + block:
                    runs[-1] = (first, count + 1)
                else:
                    runs.append((at + block, 1))
            at += -(-len(chunk) // BLOCK)
    return runs, at


def _zero_blocks(chunk: bytes) -> Iterator[int]:
    """Yield those of the chunk's blocks that are zeros; what the last one lacks counts as zeros."""
    whole = chunk if len(chunk) % BLOCK == 0 else chunk + bytes(-len(chunk) % BLOCK)
    at = whole.find(_ZEROS)  # nearly every chunk has none, which this tells at several GB/s
    for block in range(at // BLOCK, len(whole) // BLOCK) if at >= 0 else ():
        if whole.startswith(_ZEROS, block * BLOCK):
            yield block


def _first_unwritten(placed: Sequence[Sequence[Extent]], blocks: int) -> list[int]:
    """Return the lowest block still to be written when none, one, two ... of the files are
    written."""
    firsts = [blocks]
    for extents in reversed(placed):
        firsts.append(min([firsts[-1], *(physical for _, physical, _ in extents)]))
    return firsts[::-1]


def _place(
    large: Sequence[Entry],
    runs: Sequence[Sequence[Run]],
    system: FileSystem,
    env: Mapping[str, str],
) -> list[list[Extent]]:
    """Return the extents that `large_files` gives each of the files."""
    files = [[entry.path[1:], entry.size, data] for entry, data in zip(large, runs, strict=True)]
    image = f"{system.disk}?offset={system.offset}"
    argv = shell.python_argv(large_files.__name__, image, str(system.blocks))
    try:
        command = shell.Command(argv, env={**env, **shell.python_env()})
        text = command.output(stdin=json.dumps(files))
    except shell.CommandFailed as error:
        raise StageFailed(
            f"the large files could not be placed: {error.output.strip()}",
            hint="raise disk_size_gib if it says so, else report the version of e2fsprogs",
        ) from None
    extents: list[list[Extent]] = json.loads(text)
    return extents


def _copy(tree: Path, entry: Entry, extents: Sequence[Extent], disk: int, offset: int) -> str:
    """Write one file into its extents, with zeros between them, and return its SHA-256."""
    digest = hashlib.sha256()
    with (tree / entry.path).open("rb", buffering=0) as source:
        for logical, physical, length in extents:
            for zeros in _hole(source, entry, logical * BLOCK):
                digest.update(zeros)
            at, left = offset + physical * BLOCK, length * BLOCK
            while left and (chunk := source.read(min(left, CHUNK_BYTES))):
                digest.update(chunk)
                _write(disk, chunk, at)
                at, left = at + len(chunk), left - len(chunk)
        for zeros in _hole(source, entry, entry.size):
            digest.update(zeros)
        size = source.tell()
        if size != entry.size or source.read(1):
            raise StageFailed(
                f"{entry.path[1:]} changed its size from {entry.size} bytes while it was read",
                hint="stop the container before its tree becomes a disk",
            )
    return digest.hexdigest()


def _hole(source: FileIO, entry: Entry, until: int) -> Iterator[bytes]:
    """Yield the zeros up to the byte `until`. Raises StageFailed if something else was written
    there meanwhile."""
    while (left := until - source.tell()) > 0 and (chunk := source.read(min(left, CHUNK_BYTES))):
        if chunk.strip(b"\0"):
            raise StageFailed(
                f"{entry.path[1:]} changed while it was read",
                hint="stop the container before its tree becomes a disk",
            )
        yield chunk


def _write(disk: int, chunk: bytes, at: int) -> None:
    left = memoryview(chunk)
    while left:  # pwrite may take less; a full disk is an error only when asked for the rest
        written = os.pwrite(disk, left, at)
        left, at = left[written:], at + written
