"""Walk through every path of a file system in the manifest's order: by bytes, a folder before what
is in it.

What people and services keep is data: it is only counted, so that memory does not grow with it.
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
"""A row, or only the path of one that is as baked."""
_COMPARED = 256
"""Blocks that are compared at once: 1 MiB."""
_TYPES = {kind: number for number, kind in enumerate(KINDS, 1)}
AS_BAKED = "as baked"
"""The SHA-256 of content that was not read, because it is where it was baked and nothing was
written there since."""
_AT_ONCE = 1 << 16
"""Names that are sorted by their inodes at once, since inodes lie together on the disk."""


class Area(NamedTuple):
    """Paths of an area of data, and the bytes of its files; a file with several names counts
    once."""

    paths: int = 0
    bytes: int = 0


class _Data:
    """The areas of data on a file system. A path is in the first one whose regular expression
    matches it, with all that is below."""

    def __init__(self, system: Ext4, request: dict[str, Any]) -> None:
        self._system, self._sizes = system, request["sizes"]
        self._kept = re.compile(request["kept"])
        self._areas = [(name, re.compile(pattern)) for name, pattern in request["data"]]
        self._seen = bytearray(system.inodes + 1)
        self.counted = {name: Area() for name, _ in self._areas}

    def area(self, path: str) -> str | None:
        """Return the name of the area that a path is in, or None."""
        return next((name for name, pattern in self._areas if pattern.fullmatch(path)), None)

    def is_new(self, number: int) -> bool:
        """Return whether an inode is asked for the first time."""
        was_seen, self._seen[number] = self._seen[number], 1
        return not was_seen

    def look(self, path: str, number: int, area: str) -> Iterator[tuple[str, Inode]]:
        """Count a path and all below. Yield those that are listed, with their inodes: folders that
        were baked, set-id files, capabilities, devices and what is handed over."""
        places: Iterable[tuple[str, int]] = [(path, number)]
        folders = list[tuple[str, int]]()
        while True:
            paths, size = self.counted[area]
            for place, child in places:
                inode = self._system.inode(child, place, checked=False)
                kind = KINDS.get(stat.S_IFMT(inode.mode))
                if kind is None or inode.links == 0:
                    raise Unreadable(f"{place}: inode {child} is not in use")
                if kind == "directory":
                    folders.append((place, child))
                if kind == "file" and (inode.links == 1 or self.is_new(child)):
                    size += inode.size
                if self._is_listed(place, kind, inode):
                    yield place, self._system.inode(child, place)
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
                # Folders may lie deeper than the longest path.
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
                return any(inode.blocks[:8])  # in an overlay, 0:0 stands for a removal
        return False


class Walk:
    """One reading of a file system, beside that of `baked`, the same one when it was baked, if that
    is known.

    In the request, `sizes` has every path of the manifest with its bytes, or -1 if it is no file.
    Only a file of the same size is hashed, because any other differs anyway. The content of files
    that `kept` matches is handed over. Data in an area of `data` is counted.
    """

    def __init__(self, system: Ext4, request: dict[str, Any], baked: Ext4 | None = None) -> None:
        self._system, self._sizes, self._baked = system, request["sizes"], baked
        self._kept = re.compile(request["kept"])
        self._data = _Data(system, request)
        self.counted = self._data.counted
        self._first: dict[int, str] = {}

    def rows(self) -> Iterator[Said]:
        """Yield every path. Raises Unreadable at the first thing that does not fit, whatever came
        before it."""
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
        """Yield the paths below a folder; `before` is its inode when it was baked."""
        shown = folder or "/"
        if not self._data.is_new(inode.number) or depth > limits.DEPTH:
            raise Unreadable(f"{shown} stands in two places, or too deep")
        names = entries(self._system, inode, shown)
        baked = self._baked_names(inode, before, names, shown)
        for name, entry in sorted(names.items()):
            path = f"{folder}/{os.fsdecode(name)}"
            if area := self._data.area(path):
                for listed_path, listed_inode in self._data.look(path, entry.inode, area):
                    yield self._row(listed_path, listed_inode, is_data=True)
                continue
            if _is_too_long(path):
                raise Unreadable(f"{shown}: too long paths")
            child = self._system.inode(entry.inode, path)
            baked_inode = self._baked_inode(child, baked.get(name), path)
            is_folder, odd = stat.S_ISDIR(child.mode), _oddity(entry, child)
            if odd:
                row = self._row(path, child, baked_inode)
                yield row | {"attributes": row.get("attributes", {}) | odd}
            elif (
                baked_inode is not child or path not in self._sizes or self._is_written(child, path)
            ):
                yield self._row(path, child, baked_inode)
            else:
                if not is_folder:
                    self._first.setdefault(child.number, path)
                yield path
            if is_folder:
                yield from self._below(path, child, baked_inode, depth + 1)

    def _baked_names(
        self, inode: Inode, before: Inode | None, names: dict[bytes, Entry], folder: str
    ) -> dict[bytes, Entry]:
        """Return the entries of a folder when it was baked, or {} if none was baked there. They are
        `names`, the current ones, if nothing was written."""
        if inode is before and not self._is_written(inode, folder):
            return names
        if self._baked and before and stat.S_ISDIR(before.mode):
            return entries(self._baked, before, folder)
        return {}

    def _baked_inode(self, child: Inode, entry: Entry | None, path: str) -> Inode | None:
        """Return the inode that the path had when it was baked, or `child` itself if it is the
        same."""
        if self._baked is None or entry is None:
            return None
        number = entry.inode
        # Changed metadata may place inodes elsewhere, in blocks that nobody wrote.
        if (
            number == child.number
            and not child.changed
            and self._system.place_of(number) == self._baked.place_of(number)
        ):
            return child
        before = self._baked.inode(number, path)
        if number == child.number and before.raw == child.raw:
            return child
        return before

    def _is_written(self, inode: Inode, path: str) -> bool:
        """Return whether anything was written since that an inode as baked leads to."""
        if inode.attribute_block and self._system.is_changed(inode.attribute_block):
            return True
        if not inode.flags & FLAG_EXTENTS:
            return False
        layout = self._system.layout(inode, path)
        return self._holds_new(layout) or any(
            self._system.is_changed(first) for _, first, count in layout if not count
        )

    def _holds_new(self, runs: list[Run]) -> bool:
        """Return whether a content differs from what was baked in its place."""
        for _, first, count in runs:
            changed = self._system.changed_within(first, count)
            if first and any(self._differs(*part) for part in changed):
                return True
        return False

    def _differs(self, first: int, count: int) -> bool:
        """Return whether blocks that were written differ from the bake: the same may have been
        written again."""
        baked, end = self._baked, first + count
        if baked is None or end > baked.block_count:
            return True
        for begin in range(first, end, _COMPARED):
            take = min(_COMPARED, end - begin)
            if self._system.blocks_at(begin, take) != baked.blocks_at(begin, take):
                return True
        return False

    def _row(
        self, path: str, inode: Inode, baked_inode: Inode | None = None, *, is_data: bool = False
    ) -> Row:
        """Return the row of one path."""
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
        if found_attributes := attributes(self._system, inode, path):
            row["attributes"] = found_attributes
        # A name in data is no file's first: that in the system stays as baked.
        if kind != "directory" and not is_data:
            first = self._first.setdefault(inode.number, path)
            if first != path:
                return row | {"type": "hardlink", "target": first}
        if kind == "symlink":
            row["target"] = os.fsdecode(self._system.link(inode, path))
        if kind in ("character", "block"):
            row["device"] = list(device(inode))
        if kind == "file":
            row |= self._content(path, inode, baked_inode)
        return row

    def _content(self, path: str, inode: Inode, baked_inode: Inode | None) -> Row:
        """Return the part of a file's row that is about its content."""
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
            and baked_inode
            and stat.S_ISREG(baked_inode.mode)
            and not self._holds_new(runs)
            and runs == self._baked.runs(baked_inode, path)
        ):
            return row | {"sha256": AS_BAKED}
        if hashed:
            digest = hashlib.sha256()
            for piece in self._system.content(inode, runs):
                digest.update(piece)
            row["sha256"] = digest.hexdigest()
        return row


def _oddity(entry: Entry, inode: Inode) -> dict[str, str]:
    """Return how Linux sees a name otherwise than its inode, as an attribute: it may not lead
    there, or a folder's listing may call it something else. {} if it does not."""
    if not entry.is_found:
        return {"name": "not found through the index of its folder"}
    if entry.kind != _TYPES.get(stat.S_IFMT(inode.mode)):
        return {"name": f"of type {entry.kind} in its folder"}
    return {}


def _is_too_long(path: str) -> bool:
    """Return whether a path is longer than Linux allows."""
    # A character has four bytes at most: most paths need not be encoded.
    return 4 * len(path) > limits.PATH_BYTES and len(os.fsencode(path)) > limits.PATH_BYTES
