"""Every path of a file system, in the manifest's order: by bytes, a folder before what is in it."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from typing import Any

from goldenami.local.reader import limits
from goldenami.local.reader.attributes import attributes
from goldenami.local.reader.directory import entries
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

Row = dict[str, Any]
"""One path as the manifest has it, with `attributes` and `flags` where there are any."""
Said = Row | str
"""A row, or of a path that is as baked nothing but the path."""
_COMPARED = 256
"""Blocks that are compared at once: 1 MiB."""
AS_BAKED = "as baked"
"""The SHA-256 of content that was not read: it is where it was baked, and nothing was written there
since."""


class Walk:
    """One reading of a file system; beside that of `baked`, the same one when it was baked, where
    that is known.

    `sizes` has every path of the manifest, with its bytes, or -1 where it is no file. Only a file
    of the same size is hashed, since any other differs anyway. The content of files that `kept`
    matches is handed over.
    """

    def __init__(
        self, system: Ext4, sizes: Mapping[str, int], kept: str, baked: Ext4 | None = None
    ) -> None:
        self._system, self._sizes, self._baked = system, sizes, baked
        self._kept = re.compile(kept)
        self._folders: set[int] = set()
        self._first: dict[int, str] = {}
        self._same_tables: dict[int, bool] = {}
        self._count = 0

    def rows(self) -> Iterator[Said]:
        """Every path; Unreadable at the first thing that does not fit, whatever came before it."""
        root = self._system.inode(ROOT_INODE, "/")
        if not stat.S_ISDIR(root.mode):
            raise Unreadable("the root is no folder")
        before = self._baked.inode(ROOT_INODE, "/") if self._baked else None
        yield self._row("/", root)
        yield from self._below("", root, before, 0)

    def _below(
        self, folder: str, inode: Inode, before: Inode | None, depth: int
    ) -> Iterator[Said]:
        shown = folder or "/"
        if inode.number in self._folders or depth > limits.DEPTH:
            raise Unreadable(f"{shown} stands in two places, or too deep")
        self._folders.add(inode.number)
        names = entries(self._system, inode, shown)
        baked = names if inode is before and not self._is_written(inode, shown) else (
            entries(self._baked, before, shown) if self._baked and before
            and stat.S_ISDIR(before.mode) else {})
        for name, number in sorted(names.items()):
            path = f"{folder}/{os.fsdecode(name)}"
            self._count += 1
            if self._count > limits.ENTRIES or _is_too_long(path):
                raise Unreadable(f"{shown}: too many paths, or too long ones")
            child = self._system.inode(number, path)
            was = self._was(child, baked.get(name), path)
            is_folder = stat.S_ISDIR(child.mode)
            if was is not child or path not in self._sizes or self._is_written(child, path):
                yield self._row(path, child, was)
            else:
                if not is_folder:
                    self._first.setdefault(child.number, path)
                yield path
            if is_folder:
                yield from self._below(path, child, was, depth + 1)

    def _was(self, child: Inode, number: int | None, path: str) -> Inode | None:
        """The inode that the path had when it was baked: `child` itself where it is the same."""
        if self._baked is None or number is None:
            return None
        if number == child.number and not child.changed and self._is_same_table(number):
            return child
        before = self._baked.inode(number, path)
        return child if number == child.number and before.raw == child.raw else before

    def _is_same_table(self, number: int) -> bool:
        """Whether inodes of that group are where they were baked: a block that nobody wrote may
        hold others."""
        assert self._baked is not None
        group = self._system.group_of(number)
        if group not in self._same_tables:
            self._same_tables[group] = self._system.place_of(number) == self._baked.place_of(number)
        return self._same_tables[group]

    def _is_written(self, inode: Inode, path: str) -> bool:
        """Whether anything that an inode as baked leads to was written since."""
        system = self._system
        if not system.may_be_written(inode):
            return False
        if inode.attribute_block and system.is_changed(inode.attribute_block):
            return True
        return bool(inode.flags & FLAG_EXTENTS) and (
            any(map(system.is_changed, system.nodes(inode, path)))
            or self._holds_new(system.runs(inode, path)))

    def _holds_new(self, runs: list[Run]) -> bool:
        """Whether a content is other than what was baked in its place; what was written there may
        be the same."""
        return any(self._differs(start, length) for _, first, count in runs if first
                   for start, length in self._system.changed_within(first, count))

    def _differs(self, first: int, count: int) -> bool:
        baked = self._baked
        return baked is None or first + count > baked.block_count or any(
            self._system.blocks_at(first + begin, take) != baked.blocks_at(first + begin, take)
            for begin in range(0, count, _COMPARED) for take in [min(_COMPARED, count - begin)])

    def _row(self, path: str, inode: Inode, was: Inode | None = None) -> Row:
        kind = KINDS.get(stat.S_IFMT(inode.mode))
        if kind is None or inode.links == 0:
            raise Unreadable(f"{path}: inode {inode.number} is not in use")
        row: Row = {"path": path, "type": kind, "mode": f"{stat.S_IMODE(inode.mode):04o}",
                    "uid": inode.uid, "gid": inode.gid}
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
        return row | self._content(path, inode, was) if kind == "file" else row

    def _content(self, path: str, inode: Inode, was: Inode | None) -> Row:
        row: Row = {"size": inode.size}
        hashed, kept = self._sizes.get(path) == inode.size, self._kept.fullmatch(path)
        if not hashed and not kept:
            return row
        runs = self._system.runs(inode, path)
        if kept and inode.size <= limits.KEPT_BYTES:
            text = b"".join(self._system.content(inode, runs))
            return row | {"text": text.decode("utf-8", "surrogateescape"),
                          "sha256": hashlib.sha256(text).hexdigest()}
        if hashed and self._baked and was and stat.S_ISREG(was.mode) and not self._holds_new(runs) \
                and runs == self._baked.runs(was, path):
            return row | {"sha256": AS_BAKED}
        if hashed:
            digest = hashlib.sha256()
            for piece in self._system.content(inode, runs):
                digest.update(piece)
            row["sha256"] = digest.hexdigest()
        return row


def _is_too_long(path: str) -> bool:
    """A character has four bytes at most."""
    return 4 * len(path) > limits.PATH_BYTES and len(os.fsencode(path)) > limits.PATH_BYTES
