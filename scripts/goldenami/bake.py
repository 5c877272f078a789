"""The `bake` stage: a lock becomes a sealed root tree and a bootable disk, without the network."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from goldenami import clock, inside, lockfile, materials, records
from goldenami.build_records import BAKE_FILE, BakeRecord, Component, Disk, Host, Timing
from goldenami.errors import Busy, HostNotReady
from goldenami.local import container, sandbox
from goldenami.lockfile import Lock
from goldenami.progress import Progress
from goldenami.store import Store

SPACE_FACTOR = 3
"""Free space needed, in units of the packages' installed size: the tree, the disk, and the tools' scratch."""


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


def run(root: Path, lock: Lock, lock_sha256: str, store: Store, progress: Progress, *, force: bool) -> Path:
    """Bake `lock`; returns the build's folder. A build that exists already is returned as it is."""
    container.check_host()
    build_id = lock_sha256[:lockfile.ID_LENGTH]
    folder = build_folder(root, lock.image, build_id)
    if (folder / "bake.json").exists() and (folder / "disk.raw").exists() and not force:
        progress.say(f"nothing to do: {folder} holds this build")
        return folder
    with scratch(root, lock.image, build_id) as work:
        build(root, lock, lock_sha256, store, progress, work=work, layers=store.root.parent / "layers")
        _publish(work / "out", folder)
    progress.remember()
    return folder


@contextmanager
def scratch(root: Path, image: str, purpose: str) -> Iterator[Path]:
    """An empty work folder that is gone afterwards; a killed one's is swept by the next run, by its process id."""
    folder = root / "build" / image
    sweep(folder)
    work = folder / f".work-{purpose}-{os.getpid()}"
    work.mkdir(parents=True)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def build(
    root: Path, lock: Lock, lock_sha256: str, store: Store, progress: Progress, *, work: Path, layers: Path,
) -> BakeRecord:
    """Bake `lock` in the empty folder `work`, keeping base trees in `layers`; what comes out is in work/out."""
    build_id = lock_sha256[:lockfile.ID_LENGTH]
    folder = build_folder(root, lock.image, build_id)
    log = folder.parent / "logs" / f"bake-{build_id}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("", encoding="utf-8")
    started = clock.stamp()
    check_space(folder.parent, lock)
    materials.compile_if_missing(root, lock, store, progress, log)
    with progress.step("repository"):
        packages = materials.repository(lock, store)
    materials.plan(root, lock, lock_sha256, packages, work, log, layers)
    result = inside.run("goldenami.local.bake_inside", work, log, progress)
    record = _record(lock, lock_sha256, started, result, progress)
    records.write(work / "out" / BAKE_FILE, record)
    return record


def sweep(folder: Path) -> None:
    """Remove what a killed bake left: its cgroups and its work folders (named by process id)."""
    sandbox.reap()
    for left in folder.glob(".work-*"):
        pid = left.name.rpartition("-")[2]
        if not Path(f"/proc/{pid}").exists() or pid == str(os.getpid()):
            shutil.rmtree(left, ignore_errors=True)


def check_space(folder: Path, lock: Lock) -> None:
    """HostNotReady where the disk cannot hold the tree, the image and their scratch."""
    needed = SPACE_FACTOR * sum(package.installed_size for package in lock.packages.values())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise HostNotReady(f"no space: the bake needs {needed / 1e9:.1f} GB below {folder}, {free / 1e9:.1f} are free",
                           hint="free space (`make clean` removes old builds), or move the checkout to a larger disk")


def _record(
    lock: Lock, lock_sha256: str, started: str, result: dict[str, Any], progress: Progress,
) -> BakeRecord:
    roles = result["roles"]
    disk = result["disk"]
    return BakeRecord(
        schema_version=1, image=lock.image, build_id=lock_sha256[:lockfile.ID_LENGTH], lock_sha256=lock_sha256,
        git_commit=result["git_commit"], started_at=started,
        host=Host(cpus=os.cpu_count() or 1, accel=None, python=platform.python_version(), packer=result["packer"]),
        phases=[Timing(name=name, seconds=seconds) for name, seconds in progress.timings.items()],
        roles=[Timing(name=name, seconds=roles[name]) for name in lock.roles if name in roles],
        components=components(lock, result["sizes"]),
        disk=Disk(path="disk.raw", bytes_apparent=disk["apparent"], bytes_allocated=disk["allocated"],
                  sha256=disk["sha256"]),
        packages_count=len(lock.packages), upgradable=result["upgradable"], layers=result["layers"],
        manifest_sha256=result["manifest_sha256"],
    )


_COMPONENTS = (
    ("driver", ("nvidia-graphics-drivers", "golden-nvidia-modules", "nvidia-open-gpu", "nvidia-persistenced",
                "nvidia-modprobe", "nvidia-support", "firmware-nvidia")),
    ("cuda", ("nvidia-cuda", "cuda-", "libcu")), ("kernel", ("linux", "linux-signed-amd64")),
    ("compiler", ("gcc", "binutils", "llvm")), ("python", ("python",)),
)
"""Components of the size chart, by prefixes of source package names; the rest is the base system."""


def components(lock: Lock, sizes: dict[str, int]) -> list[Component]:
    """Bytes by component, of what is really in the tree (`sizes`: bytes by package, "" for what none owns)."""
    found: dict[str, int] = {}
    for package, size in sizes.items():
        source = lock.packages[package].source if package in lock.packages else package
        name = next((name for name, prefixes in _COMPONENTS if source.startswith(prefixes)), "base system")
        name = name if package else "in no package"
        found[name] = found.get(name, 0) + size
    return [Component(name=name, bytes=size) for name, size in sorted(found.items(), key=lambda item: -item[1])]


def _publish(out: Path, folder: Path) -> None:
    """Put the finished build in its place; an older build of the same id gives way only now."""
    old = folder.with_name(f".work-old-{os.getpid()}")
    latest = folder.parent / "latest"
    if folder.exists():
        if latest.is_symlink() and latest.readlink() == Path(folder.name):
            latest.unlink()  # it names verified builds only, and the new one is not verified yet
        folder.rename(old)
    out.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


