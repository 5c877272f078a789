"""The disk of an immutable image: a root that nobody writes, the hashes that it is read by, and
what instances write. A tree with the role's `LIST` becomes such a disk."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from goldenami.core.errors import StageFailed
from goldenami.local.disk import verity
from goldenami.local.tree.tree import Entry

LIST = Path("etc/default/golden-persistent")
"""The role's list, as a path in the tree: each line has a kind and a folder."""
OVERLAY, PLAIN = "overlay", "plain"
"""Kinds of folders: `overlay` keeps what is written above what was baked; `plain` begins empty,
with its baked owner and mode."""
_LINE = re.compile(rf"({OVERLAY}|{PLAIN}) (/[\w./-]+)")
_ROOT_SHARE = 3, 4
"""Share of the disk behind its boot partitions. It is fixed, so that from build to build the
partitions stay in their places, and with them the blocks that an upload does not send again."""
_MIB = 1 << 20


def sizes(room: int) -> dict[str, int]:
    """Return the bytes of the partitions that share `room`, by name, in their order."""
    root = room * _ROOT_SHARE[0] // _ROOT_SHARE[1] // _MIB * _MIB
    tree = -(-verity.tree_bytes(root) // _MIB) * _MIB
    return {"root": root, "tree": tree, "persist": room - root - tree}


def folders(tree: Path) -> list[tuple[str, str]]:
    """Return kind and path of each folder that an instance may write to. Raises StageFailed for a
    damaged list."""
    lines = [
        line
        for line in (tree / LIST).read_text(encoding="utf-8").splitlines()
        if line and line[0] != "#"
    ]
    rows = [match.groups() for line in lines if (match := _LINE.fullmatch(line))]
    if len(rows) != len(lines) or not rows:
        raise StageFailed(
            f"/{LIST} does not list folders", hint="the role `immutable` writes it: `overlay /var`"
        )
    return [(kind, path) for kind, path in rows]


def persist(tree: Path, entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries that the persistent file system begins with.

    `upper/FOLDER` takes what is written above FOLDER, `work/FOLDER` is the overlay's own,
    `plain/FOLDER` is FOLDER.
    """
    baked = {entry.path: entry for entry in entries}
    root = dataclasses.replace(baked["."], mode=0o700, uid=0, gid=0)
    entry_of = {".": root}
    for kind, path in folders(tree):
        for top in ("upper", "work") if kind == OVERLAY else ("plain",):
            for parent in _parents(f"./{top}{path}"):
                entry_of.setdefault(parent, dataclasses.replace(root, path=parent, mode=0o755))
            own = root if top == "work" else baked.get(f".{path}", root)
            entry_of[f"./{top}{path}"] = dataclasses.replace(own, path=f"./{top}{path}")
    return [entry_of[path] for path in sorted(entry_of)]


def _parents(path: str) -> Iterator[str]:
    names = path.split("/")
    yield from ("/".join(names[:count]) for count in range(2, len(names)))


def words(root_hash: str, partitions: dict[str, str]) -> str:
    """Return the kernel's words for the root; `partitions` has the UUIDs of partitions by name."""
    named = [f"golden.{name}={partitions[name]}" for name in ("root", "tree", "persist")]
    return " ".join(["root=/dev/mapper/root", f"golden.hash={root_hash}", *named])
