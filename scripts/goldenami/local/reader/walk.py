"""Every path of a file system, in the manifest's order: by bytes, a folder before what is in it.

What people and services keep is data: it is counted, so that memory does not grow with it.
"""

from __future__ import annotations

import hashlib
import itertools
import operator
import os
import re
import stat
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from goldenami.local.reader import limits
from goldenami.local.reader.attributes import attributes
from goldenami.local.reader.directory import Entry, entries, listed
from goldenami.local.reader.ext4 import (
    FLAG_EXTENTS,
    KINDS,
    LAYOUT_FLAGS,
    ROOT_INODE,
    Ext4,
    Run,
    device,
)
from goldenami.local.reader.inode import Inode
from goldenami.local.reader.limits import Unreadable
from goldenami.local.reader.path_state import CAPABILITY

Row = dict[str, Any]
"""One path as the manifest has it, with `attributes` and `flags` where there are any."""
Said = Row | str
"""A row, or of a path that is as baked nothing but the path."""
_COMPARED = 256
"""Blocks that are compared at once: 1 MiB."""
_TYPES = {kind: number for number, kind in enumerate(KINDS, 1)}
AS_BAKED = "as baked"
"""The SHA-256 of content that was not read: it is where it was baked, and nothing was written there
since."""
_AT_ONCE = 1 << 16
"""Names that are put in the order of their inodes, which lie together on the disk."""


class Area(NamedTuple):
    """Paths of an area of data, and bytes of its files; of a file with several names once."""

    paths: int = 0
    bytes: int = 0


class _Data:
    """The areas of data on a file system. A path is in the first one whose regular expression
    matches it, with all that is below."""

    def __init__(self, system: Ext4, asked: dict[str, Any]) -> None:
        self._system, self._sizes, self._kept = system, asked["sizes"], re.compile(asked["kept"])
        self._areas = [(name, re.compile(pattern)) for name, pattern in asked["data"]]
        self._seen = bytearray(system.inodes + 1)
        self.counted = {name: Area() for name, _ in self._areas}

    def area(self, path: str) -> str | None:
        """The name of the area that a path is in."""
        return next((name for name, pattern in self._areas if pattern.fullmatch(path)), None)

    def is_new(self, number: int) -> bool:
        """Whether an inode is asked for the first time."""
        was, self._seen[number] = self._seen[number], 1
        return not was

    def look(self, path: str, number: int, area: str) -> Iterator[tuple[str, Inode]]:
        """Count a path and all below. Of these, folders that were baked, set-id files,
        capabilities, devices and what is handed over are listed, with their inodes."""
        places: Iterable[tuple[str, int]] = [(path, number)]
        folders = list[tuple[str, int]]()
        while True:
            paths, size = self.counted[area]
            for each, child in places:
                inode = self._system.inode(child, each, checked=False)
                kind = KINDS.get(stat.S_IFMT(inode.mode))
                if kind is None or inode.links == 0:
                    raise Unreadable(f"{each}: inode {child} is not in use")
                if kind == "directory":
                    folders.append((each, child))
                if kind == "file" and (inode.links == 1 or self.is_new(child)):
                    size += inode.size
                if self._is_listed(each, kind, inode):
                    yield each, self._system.inode(child, each)
                paths += 1
            self.counted[area] = Area(paths, size)
            if paths > limits.COUNTED:
                raise Unreadable(f"{path}: too many paths")
            if not folders:
                return
            places = self._below(*folders.pop())

    def _below(self, folder: str, number: int) -> Iterator[tuple[str, int]]:
        if not self.is_new(number):
            raise Unreadable(f"{folder} stands in two places")
        names = listed(self._system, self._system.inode(number, folder), folder)
        while rows := sorted(itertools.islice(names, _AT_ONCE), key=operator.itemgetter(1)):
            for name, child, _, _ in rows:
                # Folders may lie deeper than a path can be long.
                yield f"{folder}/{os.fsdecode(name)}"[: limits.PATH_BYTES], child

    def _is_listed(self, path: str, kind: str, inode: Inode) -> bool:
        if self._kept.fullmatch(path):
            return True
        match kind:
            case "directory":
                return path in self._sizes
            case "file":
                return bool(inode.mode & (stat.S_ISUID | stat.S_ISGID)) or (
                    CAPABILITY in attributes(self._system, inode, path)
                )
            case "character" | "block":
                return any(inode.blocks[:8])  # of an overlay, 0:0 stands for what was removed
        return False


class Walk:
    """One reading of a file system; beside that of `baked`, the same one when it was baked, where
    that is known.

    Of what is `asked`, `sizes` has every path of the manifest, with its bytes, or -1 where it is no
    file. Only a file of the same size is hashed, since any other differs anyway. The content of
    files that `kept` matches is handed over. What is in an area of `data` is counted.
    """

    def __init__(self, system: Ext4, asked: dict[str, Any], baked: Ext4 | None = None) -> None:
        self._system, self._sizes, self._baked = system, asked["sizes"], baked
        self._kept = re.compile(asked["kept"])
        self._data = _Data(system, asked)
        self.counted = self._data.counted
        self._first: dict[int, str] = {}

    def rows(self) -> Iterator[Said]:
        """Every path; Unreadable at the first thing that does not fit, whatever came before it."""
        root = self._system.inode(ROOT_INODE, "/")
        if not stat.S_ISDIR(root.mode):
            raise Unreadable("the root is no folder")
        before = self._baked.inode(ROOT_INODE, "/") if self._baked else None
        yield self._row("/", root)
        for count, row in enumerate(self._below("", root, before, 0)):
            if count >= limits.ENTRIES:
                raise Unreadable("there are too many paths")
            yield row

    def _below(self, folder: str, inode: Inode, before: Inode | None, depth: int) -> Iterator[Said]:
        shown = folder or "/"
        if not self._data.is_new(inode.number) or depth > limits.DEPTH:
            raise Unreadable(f"{shown} stands in two places, or too deep")
        names = entries(self._system, inode, shown)
        baked = (
            names
            if inode is before and not self._is_written(inode, shown)
            else (
                entries(self._baked, before, shown)
                if self._baked and before and stat.S_ISDIR(before.mode)
                else {}
            )
        )
        for name, entry in sorted(names.items()):
            path = f"{folder}/{os.fsdecode(name)}"
            if area := self._data.area(path):
                yield from (
                    self._row(each, inode, is_data=True)
                    for each, inode in self._data.look(path, entry.inode, area)
                )
                continue
            if _is_too_long(path):
                raise Unreadable(f"{shown}: too long paths")
            child = self._system.inode(entry.inode, path)
            was = self._was(child, baked.get(name), path)
            is_folder, odd = stat.S_ISDIR(child.mode), _oddity(entry, child)
            if odd:
                row = self._row(path, child, was)
                yield row | {"attributes": row.get("attributes", {}) | odd}
            elif was is not child or path not in self._sizes or self._is_written(child, path):
                yield self._row(path, child, was)
            else:
                if not is_folder:
                    self._first.setdefault(child.number, path)
                yield path
            if is_folder:
                yield from self._below(path, child, was, depth + 1)

    def _was(self, child: Inode, entry: Entry | None, path: str) -> Inode | None:
        """The inode that the path had when it was baked: `child` itself where it is the same."""
        if self._baked is None or entry is None:
            return None
        number = entry.inode
        # Inodes can be read from elsewhere: a block that nobody wrote may hold others.
        if (
            number == child.number
            and not child.changed
            and self._system.place_of(number) == self._baked.place_of(number)
        ):
            return child
        before = self._baked.inode(number, path)
        return child if number == child.number and before.raw == child.raw else before

    def _is_written(self, inode: Inode, path: str) -> bool:
        """Whether anything that an inode as baked leads to was written since."""
        if inode.attribute_block and self._system.is_changed(inode.attribute_block):
            return True
        layout = self._system.layout(inode, path) if inode.flags & FLAG_EXTENTS else []
        return self._holds_new(layout) or any(
            self._system.is_changed(first) for _, first, count in layout if not count
        )

    def _holds_new(self, runs: list[Run]) -> bool:
        """Whether a content is other than what was baked in its place; what was written there may
        be the same."""
        return any(
            self._differs(start, length)
            for _, first, count in runs
            if first
            for start, length in self._system.changed_within(first, count)
        )

    def _differs(self, first: int, count: int) -> bool:
        baked = self._baked
        return (
            baked is None
            or first + count > baked.block_count
            or any(
                self._system.blocks_at(first + begin, take) != baked.blocks_at(first + begin, take)
                for begin in range(0, count, _COMPARED)
                for take in [min(_COMPARED, count - begin)]
            )
        )

    def _row(
        self, path: str, inode: Inode, was: Inode | None = None, *, is_data: bool = False
    ) -> Row:
        """One path. A name in data is no file's first: that in the system stays as baked."""
        kind = KINDS.get(stat.S_IFMT(inode.mode))
        if kind is None or inode.links == 0:
            raise Unreadable(f"{path}: inode {inode.number} is not in use")
        row: Row = {
            "path": path,
            "type": kind,
            "mode": f"{stat.S_IMODE(inode.mode):04o}",
            "uid": inode.uid,
            "gid": inode.gid,
        }
        if flags := inode.flags & ~LAYOUT_FLAGS:
            row["flags"] = flags
        if found := attributes(self._system, inode, path):
            row["attributes"] = found
        first = (
            path if kind == "directory" or is_data else self._first.setdefault(inode.number, path)
        )
        if first != path:
            return row | {"type": "hardlink", "target": first}
        if kind == "symlink":
            row["target"] = os.fsdecode(self._system.link(inode, path))
        if kind in ("character", "block"):
            row["device"] = list(device(inode))
        return row | self._content(path, inode, was) if kind == "file" else row

    def _content(self, path: str, inode: Inode, was: Inode | None) -> Row:
        row: Row = {"size": inode.size}
        hashed, kept = self._sizes.get(path) == inode.size, self._kept.fullmatch(path)
        if not hashed and not kept:
            return row
        runs = self._system.runs(inode, path)
        if kept and inode.size <= limits.KEPT_BYTES:
            text = b"".join(self._system.content(inode, runs))
            return row | {
                "text": text.decode("utf-8", "surrogateescape"),
                "sha256": hashlib.sha256(text).hexdigest(),
            }
        if (
            hashed
            and self._baked
            and was
            and stat.S_ISREG(was.mode)
            and not self._holds_new(runs)
            and runs == self._baked.runs(was, path)
        ):
            return row | {"sha256": AS_BAKED}
        if hashed:
            digest = hashlib.sha256()
            for piece in self._system.content(inode, runs):
                digest.update(piece)
            row["sha256"] = digest.hexdigest()
        return row


def _oddity(entry: Entry, inode: Inode) -> dict[str, str]:
    """What a name is for Linux beside its inode, as an attribute: it may not lead there, or a
    folder's listing may call it something else."""
    if not entry.is_found:
        return {"name": "not found through the index of its folder"}
    if entry.kind != _TYPES.get(stat.S_IFMT(inode.mode)):
        return {"name": f"of type {entry.kind} in its folder"}
    return {}


def _is_too_long(path: str) -> bool:
    """A character has four bytes at most."""
    return 4 * len(path) > limits.PATH_BYTES and len(os.fsencode(path)) > limits.PATH_BYTES
