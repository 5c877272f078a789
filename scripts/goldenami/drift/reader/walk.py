"""Every path of a file system, in the manifest's order: by bytes, a folder before what is in it."""

from __future__ import annotations

import bisect
import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from goldenami.drift.reader import limits
from goldenami.drift.reader.attributes import attributes
from goldenami.drift.reader.block_source import Extent
from goldenami.drift.reader.directory import entries
from goldenami.drift.reader.ext4 import BLOCK, KINDS, LAYOUT_FLAGS, ROOT_INODE, Ext4, Inode, Run, device
from goldenami.drift.reader.limits import Unreadable

Row = dict[str, Any]
"""One path as the manifest has it, with `attributes` and `flags` where there are any."""
Layouts = Mapping[str, Sequence[Run]]
"""Where the content of each file is, by path."""


@dataclass(frozen=True)
class Wanted:
    """What is asked of a disk's files.

    `sizes` are those of the manifest by path: only a file of the same size is hashed, since any other differs anyway.
    `kept` says of which files the content is wanted. Where `layouts` are those of the disk that was baked and `changed`
    is what was written since (bytes of the file system), a file of the same blocks needs no reading: its row says
    `"sha256": "as baked"`.
    """

    sizes: Mapping[str, int]
    kept: Callable[[str], bool]
    layouts: Layouts = field(default_factory=dict)
    changed: Sequence[Extent] | None = None

    def is_as_baked(self, path: str, runs: Sequence[Run]) -> bool:
        """Whether the content is where it was baked, and nothing was written there."""
        if self.changed is None or self.layouts.get(path) != runs:
            return False
        for _, first, count in runs:
            index = bisect.bisect_right(self.changed, first * BLOCK, key=lambda extent: extent[1])
            if first and index < len(self.changed) and self.changed[index][0] < (first + count) * BLOCK:
                return False
        return True


AS_BAKED = "as baked"


class Walk:
    """One reading of a file system."""

    def __init__(self, system: Ext4, wanted: Wanted) -> None:
        self._system, self._wanted = system, wanted
        self._folders: set[int] = set()
        self._first: dict[int, str] = {}
        self._count = 0

    def rows(self) -> Iterator[Row]:
        """Every path; Unreadable at the first thing that does not fit, whatever was said before it."""
        root = self._system.inode(ROOT_INODE, "/")
        if not stat.S_ISDIR(root.mode):
            raise Unreadable("the root is no folder")
        yield self._row("/", root)
        yield from self._below("", root, 0)

    def _below(self, folder: str, inode: Inode, depth: int) -> Iterator[Row]:
        shown = folder or "/"
        if inode.number in self._folders or depth > limits.DEPTH:
            raise Unreadable(f"{shown} stands in two places, or too deep")
        self._folders.add(inode.number)
        for name, number in sorted(entries(self._system, inode, shown).items()):
            path = f"{folder}/{os.fsdecode(name)}"
            self._count += 1
            if self._count > limits.ENTRIES or len(os.fsencode(path)) > limits.PATH_BYTES:
                raise Unreadable(f"{shown}: too many paths, or too long ones")
            child = self._system.inode(number, path)
            yield self._row(path, child)
            if stat.S_ISDIR(child.mode):
                yield from self._below(path, child, depth + 1)

    def _row(self, path: str, inode: Inode) -> Row:
        kind = KINDS.get(stat.S_IFMT(inode.mode))
        if kind is None or inode.links == 0:
            raise Unreadable(f"{path}: inode {inode.number} is not in use")
        row: Row = {"path": path, "type": kind, "mode": f"{stat.S_IMODE(inode.mode):04o}", "uid": inode.uid,
                    "gid": inode.gid}
        if flags := inode.flags & ~LAYOUT_FLAGS:
            row["flags"] = flags
        if found := attributes(self._system, inode, path):
            row["attributes"] = found
        first = path if kind == "directory" else self._first.setdefault(inode.number, path)
        if first != path:
            return row | {"type": "hardlink", "target": first}
        if kind == "symlink":
            row["target"] = os.fsdecode(self._system.link(inode, path))
        if kind in ("character", "block"):
            row["device"] = list(device(inode))
        return row | self._content(path, inode) if kind == "file" else row

    def _content(self, path: str, inode: Inode) -> Row:
        row: Row = {"size": inode.size}
        hashed, kept = self._wanted.sizes.get(path) == inode.size, self._wanted.kept(path)
        if not hashed and not kept:
            return row
        runs = self._system.runs(inode, path)
        if kept and inode.size <= limits.KEPT_BYTES:
            text = b"".join(self._system.content(inode, runs))
            return row | {"text": text.decode("utf-8", "backslashreplace"), "sha256": hashlib.sha256(text).hexdigest()}
        if hashed and self._wanted.is_as_baked(path, runs):
            return row | {"sha256": AS_BAKED}
        if hashed:
            digest = hashlib.sha256()
            for piece in self._system.content(inode, runs):
                digest.update(piece)
            row["sha256"] = digest.hexdigest()
        return row


class _Layouts(Walk):
    """A reading that notes where content is instead of reading it."""

    def __init__(self, system: Ext4) -> None:
        super().__init__(system, Wanted(sizes={}, kept=lambda _: False))
        self.found: dict[str, list[Run]] = {}

    def _content(self, path: str, inode: Inode) -> Row:
        self.found[path] = self._system.runs(inode, path)
        return {}


def layouts(system: Ext4) -> dict[str, list[Run]]:
    """Where the content of each file is, of the disk that was baked."""
    walk = _Layouts(system)
    for _ in walk.rows():
        pass
    return walk.found
