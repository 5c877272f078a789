"""Split the files of a root tree into the layers of a container image: each file once, in the layer
whose roles wrote it last.

Nothing in the bytes depends on when or where a layer was baked, nor on the lock's date.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from goldenami.local.tree import layers, owners
from goldenami.local.tree.rootfs import BASE_EPOCH
from goldenami.local.tree.tree import Entry

_WRITTEN = ("/etc/", "/var/")
"""Folders in which the roles may write a package's file anew."""


def split(
    entries: Sequence[Entry],
    trees: Sequence[Path],
    groups: Sequence[str],
) -> dict[str, list[Entry]]:
    """Return the entries of each layer of the image, with the folders above them, in the order of a
    tar.

    `trees` are the layers of the bake, the lowest first; `groups` has the name of the image's layer
    for each of them.
    """
    order = list(dict.fromkeys(groups))
    ranks = {path: order.index(groups[rank]) for path, rank in layers.ranks(trees).items()}
    top, linked = len(order) - 1, dict[str, int]()
    for entry in entries:  # all names of a file go into one layer
        name = _first_name(entry)
        linked[name] = max(linked.get(name, 0), ranks.get(entry.path, top))
    contents = [dict[str, Entry]() for _ in order]
    folders = {entry.path: entry for entry in entries if entry.kind == "directory"}
    for entry in entries:
        if entry.kind == "directory":
            continue
        layer = contents[linked[_first_name(entry)]]
        layer.update((path, folders[path]) for path in _above(entry.path))
        layer[entry.path] = entry
    seen = set[str]().union(*contents)
    for path in folders:
        if path not in seen:  # it holds nothing, or only folders
            contents[top].update((folder, folders[folder]) for folder in [*_above(path), path])
    in_order = dict[str, list[Entry]]()
    for name, layer in zip(order, contents, strict=True):
        in_order[name] = [entry for entry in entries if entry.path in layer]
    return in_order


def _first_name(entry: Entry) -> str:
    """Return the first path of an entry's file."""
    return entry.target if entry.kind == "hardlink" else entry.path


def _above(path: str) -> list[str]:
    """Return the folders above `path`, the highest first, with `.` as the root."""
    names = path.split("/")
    return ["/".join(names[:count]) for count in range(1, len(names))]


def dated(entries: Sequence[Entry], tree: Path, latest: int) -> list[Entry]:
    """Return the entries with dates that come from packages alone: `latest` is the newest
    package's."""
    owner_of = owners.packages(tree)
    return [replace(entry, mtime=_date(entry, owner_of, latest)) for entry in entries]


def _date(entry: Entry, owner_of: Mapping[str, str], latest: int) -> int:
    """Return the entry's date if it is a package's file as the package has it, else BASE_EPOCH."""
    path = entry.path[1:]
    by_package = not owner_of.get(path, owners.WHEEL).startswith(owners.WHEEL)
    untouched = entry.kind != "directory" and not path.startswith(_WRITTEN)
    if by_package and untouched and entry.mtime <= latest:
        return entry.mtime
    return BASE_EPOCH
