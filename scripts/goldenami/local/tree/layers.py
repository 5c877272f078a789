"""Root trees kept under a key of all their inputs, so that equal work is done once.

A layer is what one step of a bake changed: an overlay's upper folder. The base tree is the first. A
layer appears under its key by a rename, with a digest of its content, so a damaged one is found and
made anew. The next process removes what a killed one left.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TextIO

from goldenami.core import locks, records
from goldenami.core.errors import BadInput, StageFailed
from goldenami.core.locks import AT_ONCE, EXCLUSIVE, SHARED
from goldenami.core.records import Record
from goldenami.core.wait import wait_until

RECORD = "layer.json"
POLL_S = 0.2


class LayerRecord(Record):
    """A layer's record: the step's name, the digest of its tree, and the bytes that it occupies."""

    name: str
    digest: str
    bytes: int


class DamagedLayer(StageFailed):
    """A layer's content had changed; the layer was removed."""


class Stack:
    """The layers of one bake, the base tree first; while it is open nobody evicts them.

    `say` is called if this bake has to wait for a layer that another bake makes.
    """

    def __init__(self, folder: Path, say: Callable[[str], None] = lambda _: None) -> None:
        self._say = say
        self.folder, self.trees, self.reused = folder, list[Path](), list[str]()
        self._held: dict[str, TextIO] = {}
        self._checks: dict[Path, Future[bool]] = {}
        self._pool = ThreadPoolExecutor(1)

    def __enter__(self) -> Stack:
        self.folder.mkdir(parents=True, exist_ok=True)
        _sweep(self.folder)
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        for handle in self._held.values():
            handle.close()

    @property
    def lowers(self) -> list[Path]:
        """The trees in the order of overlayfs, top first."""
        return self.trees[::-1]

    def take(self, key: str) -> bool:
        """Put the layer `key` on top and return whether it is there; wait for one that another bake
        is making. Its content is checked in the background (`check_whole`)."""
        if not self._hold(key, SHARED | AT_ONCE):
            self._say("waits for a layer that another bake makes")
            self._hold(key, SHARED)
        layer = self.folder / key
        record = records.read_if_whole(layer / RECORD, LayerRecord)
        if record is None:
            self._release(key)
            return False
        os.utime(layer)  # its time of last use, for `evict`
        self._checks[layer] = self._pool.submit(_is_whole, layer)
        self.trees.append(layer / "root")
        self.reused.append(record.name)
        return True

    @contextlib.contextmanager
    def make(self, key: str, name: str) -> Iterator[Path | None]:
        """Yield a folder in which to make `root`, the tree of the layer `key`; then keep it and put
        it on top. Yield None if another bake, for which this one waited, has made it: then that one
        is taken."""

        def taken() -> bool | None:
            if self._hold(key, EXCLUSIVE | AT_ONCE):
                return False
            # None: its maker failed, or somebody still uses one that was removed as damaged.
            return self.take(key) or None

        if wait_until(taken, math.inf, POLL_S):
            yield None
            return
        aside = self.folder / f"{key}.part"
        layer = self.folder / key
        # It is there if a maker was killed while this one waited.
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        try:
            yield aside
            self.check_whole()  # keep nothing that was made on a damaged layer
            digest, size = _digest(aside / "root")
            records.write(aside / RECORD, LayerRecord(name=name, digest=digest, bytes=size))
            shutil.rmtree(layer, ignore_errors=True)
            aside.rename(layer)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        self.trees.append(layer / "root")
        self._hold(key, SHARED)

    def _hold(self, key: str, mode: int) -> bool:
        """Hold the layer's lock in this mode and no other. With AT_ONCE return False if another
        process is in the way."""
        self._release(key)  # two handles of one process would wait for each other
        try:
            self._held[key] = locks.hold(self.folder / f"{key}.lock", mode)
        except BlockingIOError:
            return False
        return True

    def _release(self, key: str) -> None:
        if handle := self._held.pop(key, None):
            handle.close()

    def check_whole(self) -> None:
        """Remove the layers whose content has changed. Raises DamagedLayer with their names."""
        damaged = [layer for layer, check in self._checks.items() if not check.result()]
        names = [records.read(layer / RECORD, LayerRecord).name for layer in damaged]
        for layer in damaged:
            shutil.rmtree(layer)
        if names:
            raise DamagedLayer(
                f"damaged layer removed ({', '.join(names)})", hint="run again: it is made anew"
            )


def ranks(trees: Sequence[Path]) -> dict[str, int]:
    """Return for each file (`./usr/bin/x`) the number of the highest of `trees` that holds it."""
    rank_of: dict[str, int] = {}
    for rank, tree in enumerate(trees):
        for folder, _, names in os.walk(tree):
            relative = os.path.relpath(folder, tree)
            prefix = "./" if relative == "." else f"./{relative}/"
            rank_of.update((prefix + name, rank) for name in names)
    return rank_of


def evict(folder: Path, limit_bytes: int) -> list[str]:
    """Remove the layers that were used longest ago until the rest fits, and return their names. A
    layer in use stays."""
    layers: list[tuple[float, Path, LayerRecord]] = []
    for path in folder.glob(f"*/{RECORD}"):
        # Another process may remove a layer meanwhile.
        with contextlib.suppress(FileNotFoundError, BadInput):
            layers.append(
                (path.parent.stat().st_mtime, path.parent, records.read(path, LayerRecord))
            )
    occupied, names = 0, []
    for _, layer, record in sorted(layers, key=lambda row: row[:2], reverse=True):
        occupied += record.bytes
        if occupied > limit_bytes and _remove(layer):
            occupied -= record.bytes
            names.append(record.name)
    return names


def _remove(layer: Path) -> bool:
    """Remove a layer and return True, or False if it is in use or gone."""
    try:
        with locks.hold(layer.with_name(f"{layer.name}.lock"), EXCLUSIVE | AT_ONCE):
            shutil.rmtree(layer)
            return True
    except (BlockingIOError, FileNotFoundError):
        return False


def _sweep(folder: Path) -> None:
    """Remove half-made layers of killed processes. A layer in progress is safe: its maker holds the
    lock."""
    for part in folder.glob("*.part"):
        key = part.name.partition(".")[0]
        with (
            contextlib.suppress(BlockingIOError),
            locks.hold(folder / f"{key}.lock", EXCLUSIVE | AT_ONCE),
        ):
            shutil.rmtree(part, ignore_errors=True)


def _is_whole(layer: Path) -> bool:
    return _digest(layer / "root")[0] == records.read(layer / RECORD, LayerRecord).digest


def _digest(tree: Path) -> tuple[str, int]:
    """Return the SHA-256 over all paths below `tree` with kind, mode, owner, attributes and
    content, and the bytes occupied."""
    digest, size = hashlib.sha256(), 0
    for folder, folders, names in os.walk(tree):
        folders.sort()
        for path in [Path(folder), *(Path(folder) / name for name in sorted(names))]:
            status = path.lstat()
            size += status.st_blocks * 512
            facts = [
                str(path.relative_to(tree)),
                status.st_mode,
                status.st_uid,
                status.st_gid,
                status.st_rdev,
            ]
            if stat.S_ISREG(status.st_mode):
                facts += [status.st_size, int(status.st_mtime), records.sha256_file(path)]
            elif stat.S_ISLNK(status.st_mode):
                facts.append(str(path.readlink()))
            attributes = {
                name: os.getxattr(path, name, follow_symlinks=False).hex()
                for name in sorted(os.listxattr(path, follow_symlinks=False))
            }
            digest.update(f"{facts} {attributes}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest(), size
