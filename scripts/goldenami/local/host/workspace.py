"""Work on builds: the lock on an image, scratch folders, and the rename by which a build
appears."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from goldenami.core import locks
from goldenami.core.errors import BadInput, Busy
from goldenami.core.locks import AT_ONCE, EXCLUSIVE
from goldenami.core.process import ProcessId, is_left
from goldenami.local.sandbox import namespaces
from goldenami.model.builds.build_folder import BuildFolder, ImageFolder
from goldenami.packages.store import Store

_REGIONS = "ec2-regions"
"""File in an image's folder: one EC2 region a line."""
_REPLACED = "replaced"
"""Folder in a work folder: the build that the new one replaces."""


@contextmanager
def image_lock(root: Path, image: str, *, wait: bool = False) -> Iterator[None]:
    """Hold `image` for this process. Raises Busy with the holder if another one has it; with `wait`
    the caller queues instead."""
    path = ImageFolder.of(root, image).path / ".lock"
    try:
        handle = locks.hold(path, EXCLUSIVE if wait else EXCLUSIVE | AT_ONCE)
    except BlockingIOError:
        raise Busy(
            f"{image} is being built by {_holder(path.read_text(encoding='utf-8').strip())}",
            hint="wait for it, or run again with WAIT=1",
        ) from None
    with handle:
        handle.truncate(0)
        handle.write(str(ProcessId.current()))
        handle.flush()
        yield


def _holder(text: str) -> str:
    process = ProcessId.parse(text)
    if process is None:
        return f"process {text or '?'}"
    is_here = process.machine == ProcessId.current().machine
    return f"process {process.pid}" + ("" if is_here else " of another machine or container")


@contextmanager
def scratch_in(folder: Path, purpose: str) -> Iterator[Path]:
    """Yield an empty work folder in `folder`, and remove it afterwards. The next run removes that
    of a killed one."""
    sweep(folder)
    work = folder / f".work-{purpose}-{ProcessId.current()}"
    work.mkdir(parents=True)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def in_cache(store: Store) -> Path:
    """Return the folder for the work folders of compilations: it is beside the store."""
    return store.cache.work


def sweep(folder: Path) -> None:
    """Remove what a killed bake left: its cgroups, and its work folders, which are named by
    process."""
    namespaces.reap()
    # First, because a work folder may hold a build that was being replaced.
    restore(folder)
    for left in folder.glob(".work-*"):
        if not in_use(left):
            shutil.rmtree(left, ignore_errors=True)


def restore(folder: Path) -> None:
    """Put back builds that a kill caught while they were being replaced, unless the new one is
    there."""
    for old in folder.glob(f".work-*/{_REPLACED}/*"):
        if not in_use(old.parents[1]) and not (folder / old.name).exists():
            old.rename(folder / old.name)


def note_region(root: Path, image: str, region: str) -> None:
    """Record that a run makes things in an EC2 region, before it does: a killed one leaves no other
    record."""
    path = ImageFolder.of(root, image).path / _REGIONS
    regions = path.read_text(encoding="utf-8").split() if path.exists() else []
    if region not in regions:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([*regions, region, ""]), encoding="utf-8")


def noted_regions(root: Path) -> list[str]:
    """Return every region that a run here has used, sorted by name."""
    regions = set[str]()
    for path in (root / "build").glob(f"*/{_REGIONS}"):
        regions.update(path.read_text(encoding="utf-8").split())
    return sorted(regions)


def in_use(folder: Path) -> bool:
    """Return whether it is the work folder of another live process: `golden shell` has one without
    the image's lock."""
    own = ProcessId.parse(folder.name) == ProcessId.current()
    return folder.name.startswith(".work-") and not own and not is_left(folder)


def keep(out: Path, build: BuildFolder) -> None:
    """Put the finished build in its place; only now an older build of the same id gives way.

    If its disk was the same, the files that later stages wrote about it stay. The container belongs
    to the lock and stays in any case.
    """
    folder, latest = build.path, build.image.latest_link
    if not folder.exists():
        out.rename(folder)
        return
    of_lock = [path for path in (build.container, build.layout) if path.exists()]
    is_same = _same_disk(BuildFolder(out), build)
    _copy_what_lacks(folder.iterdir() if is_same else of_lock, out)
    if not is_same and latest.is_symlink() and latest.readlink() == Path(folder.name):
        latest.unlink()  # it names verified builds only, and the new one is not verified yet
    # A kill between the two steps leaves the older build where `restore` finds it.
    old = out.parent / _REPLACED / folder.name
    old.parent.mkdir()
    try:
        folder.rename(old)
        out.rename(folder)
    finally:
        restore(folder.parent)


def _same_disk(first: BuildFolder, second: BuildFolder) -> bool:
    """Return whether both builds have the same disk; False if a record cannot be read, and for
    AMIs."""
    try:
        digests = [build.read_bake().disk_sha256 for build in (first, second)]
    except BadInput:
        return False
    return digests[0] is not None and digests[0] == digests[1]


def _copy_what_lacks(paths: Iterable[Path], target: Path) -> None:
    """Copy those of `paths` that are not in `target`; a kill in between leaves the originals
    whole."""
    for path in paths:
        if path.is_dir() and not (target / path.name).exists():
            # A link for each file: nobody writes into one that is there.
            shutil.copytree(path, target / path.name, copy_function=os.link)
        elif not (target / path.name).exists():
            shutil.copy2(path, target)
