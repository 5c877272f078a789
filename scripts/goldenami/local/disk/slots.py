"""Large files put straight into the disk image, each in slots of its own (see `ext4`), small ones by mke2fs.

What changes most comes last: `order` sorts by the layer that a file came with, so that a driver release moves no file
of the layers before it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from goldenami.core import shell
from goldenami.core.errors import StageFailed
from goldenami.local.disk import ext4
from goldenami.local.disk.ext4 import BLOCK, SLOT_BYTES, Extent
from goldenami.local.tree.tree import CHUNK_BYTES, Entry


def is_large(entry: Entry) -> bool:
    """Whether the file gets slots of its own."""
    return entry.kind == "file" and entry.size >= SLOT_BYTES


def order(entries: Sequence[Entry], ranks: Mapping[str, int]) -> list[Entry]:
    """Folders, then everything else by rank and path, then hard links, whose targets precede them."""
    def key(entry: Entry) -> tuple[int, int]:
        if entry.kind == "directory":
            return 0, 0
        return (2, 0) if entry.kind == "hardlink" else (1, ranks.get(entry.path, 0))

    return sorted(entries, key=key)  # stable: equal ranks stay in the order of their paths


def without_content(entries: Sequence[Entry]) -> list[Entry]:
    """The entries with large files empty: their names, owners and modes, for mke2fs."""
    return [dataclasses.replace(entry, size=0, apart=True) if is_large(entry) else entry for entry in entries]


def fill(
    tree: Path, entries: Sequence[Entry], disk: Path, *, offset: int, blocks: int, env: Mapping[str, str],
    final: Callable[[int], None],
) -> dict[str, str]:
    """Give the large files of `entries` slots in the file system at `offset` bytes of `disk` and write them there.

    Returns their SHA-256 by path. `final` is told up to which byte the disk will not change any more.
    """
    large = [entry for entry in entries if is_large(entry)]
    placed = _place(large, f"{disk}?offset={offset}", blocks, env)
    first, *unwritten = [offset + block * BLOCK for block in _first_unwritten(placed, blocks)]
    final(first)
    by_path: dict[str, str] = {}
    descriptor = os.open(disk, os.O_WRONLY)
    try:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            digests = pool.map(lambda entry, extents: _copy(tree, entry, extents, descriptor, offset), large, placed)
            for entry, digest, until in zip(large, digests, unwritten, strict=True):
                by_path[entry.path] = digest
                final(until)
    finally:
        os.close(descriptor)
    return by_path


def _first_unwritten(placed: Sequence[Sequence[Extent]], blocks: int) -> list[int]:
    """The lowest block still to be written when none, one, two ... of the files are; `blocks` after the last."""
    firsts = [blocks]
    for extents in reversed(placed):
        firsts.append(min([firsts[-1], *(physical for _, physical, _ in extents)]))
    return firsts[::-1]


def _place(large: Sequence[Entry], image: str, blocks: int, env: Mapping[str, str]) -> list[list[Extent]]:
    files = [[entry.path[1:], entry.size] for entry in large]
    argv = shell.python_argv(ext4.__name__, image, str(blocks))
    try:
        text = shell.output(argv, stdin=json.dumps(files), env={**env, **shell.python_env()})
    except shell.CommandFailed as error:
        raise StageFailed(f"the large files could not be placed: {error.output.strip()}",
                          hint="raise disk_size_gib if it says so, else report the version of e2fsprogs") from None
    extents: list[list[Extent]] = json.loads(text)
    return extents


def _copy(tree: Path, entry: Entry, extents: Sequence[Extent], disk: int, offset: int) -> str:
    """Write one file into its extents; zeros are not written, so that the image stays sparse."""
    digest, zeros = hashlib.sha256(), bytes(CHUNK_BYTES)
    with (tree / entry.path).open("rb", buffering=0) as source:
        for _, physical, length in extents:
            at, left = offset + physical * BLOCK, length * BLOCK
            while left and (chunk := source.read(min(left, CHUNK_BYTES))):
                digest.update(chunk)
                if chunk != zeros[:len(chunk)]:
                    _write(disk, chunk, at)
                at, left = at + len(chunk), left - len(chunk)
        size = source.tell()
        if size != entry.size or source.read(1):
            raise StageFailed(f"{entry.path[1:]} changed its size from {entry.size} bytes while it was read",
                              hint="stop the container before its tree becomes a disk")
    return digest.hexdigest()


def _write(disk: int, chunk: bytes, at: int) -> None:
    """Write all of `chunk`: pwrite may take less, and a full file system is an error only when asked for the rest."""
    left = memoryview(chunk)
    while left:
        done = os.pwrite(disk, left, at)
        left, at = left[done:], at + done
