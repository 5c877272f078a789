"""Where builds are: their folders, the lock on an image, scratch folders, and the rename by which a build appears."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from goldenami.errors import Busy
from goldenami.local import sandbox
from goldenami.store import Store


def build_folder(root: Path, image: str, build_id: str) -> Path:
    """Where the records and the disk of one build are."""
    return root / "build" / image / build_id


@contextmanager
def image_lock(root: Path, image: str, *, wait: bool = False) -> Iterator[None]:
    """Hold `image` for this process; Busy names the holder (or, with `wait`, the caller queues)."""
    folder = root / "build" / image
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            handle.seek(0)
            raise Busy(f"{image} is being built by process {handle.read().strip() or '?'}",
                       hint="wait for it, or run again with WAIT=1") from None
        handle.seek(0)
        handle.truncate()
        handle.write(str(os.getpid()))
        handle.flush()
        yield


@contextmanager
def scratch(root: Path, image: str, purpose: str) -> Iterator[Path]:
    """An empty work folder beside the builds of `image` that is gone afterwards, as `scratch_in` says."""
    with scratch_in(root / "build" / image, purpose) as work:
        yield work


@contextmanager
def scratch_in(folder: Path, purpose: str) -> Iterator[Path]:
    """An empty work folder in `folder` that is gone afterwards; a killed one's is swept by the next run, by its
    process id, whatever its purpose was."""
    sweep(folder)
    work = folder / f".work-{purpose}-{os.getpid()}"
    work.mkdir(parents=True)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def in_cache(store: Store) -> Path:
    """Where compilations have their work folders: beside the store."""
    return store.root.parent / "work"


def sweep(folder: Path) -> None:
    """Remove what a killed bake left: its cgroups and its work folders (named by process id)."""
    sandbox.reap()
    for left in folder.glob(".work-*"):
        pid = left.name.rpartition("-")[2]
        if not Path(f"/proc/{pid}").exists() or pid == str(os.getpid()):
            shutil.rmtree(left, ignore_errors=True)


def keep(out: Path, folder: Path) -> None:
    """Put the finished build in its place; an older build of the same id gives way only now."""
    old = folder.with_name(f".work-old-{os.getpid()}")
    latest = folder.parent / "latest"
    if folder.exists():
        if latest.is_symlink() and latest.readlink() == Path(folder.name):
            latest.unlink()  # it names verified builds only, and the new one is not verified yet
        folder.rename(old)
    out.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
