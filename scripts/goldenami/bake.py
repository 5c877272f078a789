"""The `bake` stage: a lock becomes a sealed root tree and a bootable disk, without the network."""

from __future__ import annotations

import datetime
import fcntl
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from goldenami import inside, lockfile, mirror, modules, records, repo, shell
from goldenami.build_records import LOCK_FILE, BakeRecord, Component, Disk, Host, Timing
from goldenami.errors import Busy, HostNotReady, StageFailed
from goldenami.local import container, sandbox
from goldenami.lockfile import Lock
from goldenami.modules import Recipe
from goldenami.progress import Progress
from goldenami.store import Store, Wanted

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
    sweep(folder.parent)
    if (folder / "bake.json").exists() and (folder / "disk.raw").exists() and not force:
        progress.say(f"nothing to do: {folder} holds this build")
        return folder
    log = folder.parent / "logs" / f"bake-{build_id}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("", encoding="utf-8")
    started = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    check_space(folder.parent, lock)
    work = folder.parent / f".work-{build_id}-{os.getpid()}"
    work.mkdir(parents=True)
    try:
        compile_if_missing(lock, store, progress, log)
        with progress.step("repository"):
            packages = repository(lock, store)
        plan(root, lock, lock_sha256, packages, work, log, store)
        result = inside.run("goldenami.local.bake_inside", work, log, progress)
        record = _record(lock, lock_sha256, started, result, progress, folder)
        records.write(work / "out/bake.json", record)
        _publish(work / "out", folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    progress.remember()
    return folder


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


def fetch(lock: Lock, store: Store, progress: Progress) -> None:
    """Have every file that the lock names in the store (what was compiled may be compiled again instead)."""
    debs = [deb for deb in lock.debs() if deb.archive != "built"]
    if needs_compile(lock, store):
        recipe = Recipe.of(lock)
        debs += [recipe.source, *recipe.build]
    missing = store.missing(Wanted(deb.sha256, deb.size, "", deb.name) for deb in debs)
    if not missing:
        return
    todo = {item.sha256 for item in missing}
    with progress.step("fetch", f"{sum(item.size for item in missing) / 1e6:.0f} MB in {len(todo)} packages"):
        uris = mirror.locate(sorted({deb.archive for deb in debs if deb.sha256 in todo}))
        store.fetch(Wanted(deb.sha256, deb.size, f"{uris[deb.archive]}/{deb.path}", f"{deb.name} {deb.version}")
                    for deb in debs if deb.sha256 in todo)


def needs_compile(lock: Lock, store: Store) -> bool:
    """Whether the lock's kernel modules are not in the store and have to be compiled again."""
    if lock.driver is None or lock.driver.modules is None:
        return False
    made = lock.packages.get(lock.driver.modules.package)
    return made is not None and not store.has(made.sha256, made.size)


def compile_if_missing(lock: Lock, store: Store, progress: Progress, log: Path) -> None:
    """Fetch what the lock names and compile its modules again where this machine has not got them."""
    fetch(lock, store, progress)
    if needs_compile(lock, store):
        _recompile(lock, store, progress, log)


def repository(lock: Lock, store: Store) -> Path:
    """The lock's files as one local apt repository, shared by all bakes of the same files."""
    name = records.sha256_text("\n".join(sorted(deb.sha256 for deb in lock.debs())))[:16]
    return repo.write(store, lock.debs(), store.root.parent / "repos" / name, suite=lock.base.release,
                      epoch=lock.source_date_epoch)


def _recompile(lock: Lock, store: Store, progress: Progress, log: Path) -> None:
    recipe = Recipe.of(lock)
    with progress.step("modules", f"driver {recipe.driver_version} on kernel {recipe.kernel_release}"):
        outcome = modules.compile_modules(recipe, store, log=log)
    wanted = lock.packages[recipe.package]
    if outcome.deb_sha256 is None:
        raise StageFailed(f"the driver does not compile here: {outcome.first_error}", log=log,
                          hint="it did when the lock was made: run `make lock` and compare")
    if outcome.deb_sha256 != wanted.sha256:
        raise StageFailed(
            f"{recipe.package} compiled to {outcome.deb_sha256[:12]}, the lock names {wanted.sha256[:12]}", log=log,
            hint="the build is not reproducible on this machine: run `make lock`",
        )


def plan(
    root: Path, lock: Lock, lock_sha256: str, packages: Path, work: Path, log: Path, store: Store,
) -> dict[str, Any]:
    """Write plan.json and the role variables into `work`: all that the process in the namespaces gets."""
    build_id = lock_sha256[:lockfile.ID_LENGTH]
    path = lockfile.path_of(root, lock.image)
    (work / "out").mkdir(exist_ok=True)
    shutil.copyfile(path, work / "out" / LOCK_FILE)
    records.write_text(work / "out/vars.json", records.canonical(role_variables(root, lock, lock_sha256)))
    found = {
        "image": lock.image, "build_id": build_id, "suite": lock.base.release, "epoch": lock.source_date_epoch,
        "architecture": lock.base.architecture, "include": lock.base_packages, "repo": str(packages),
        "cache": str(store.root.parent), "work": str(work), "log": str(log), "root": str(root), "lock": str(path),
        "base_key": base_key(lock), "disk_size_gib": lock.disk_size_gib,
        "packages": {name: package.version for name, package in lock.packages.items()},
    }
    records.write_text(work / "plan.json", records.canonical(found))
    return found


def base_key(lock: Lock) -> str:
    """SHA-256 over the base tree's files: it does not change when a driver or a framework does."""
    files = {name: lock.packages[name].sha256 for name in lock.base_packages}
    return records.sha256_text(records.canonical({"files": files, "suite": lock.base.release}))


def role_variables(root: Path, lock: Lock, lock_sha256: str) -> dict[str, Any]:
    """What reaches Ansible (and the image's tests): every role variable, and the facts of the build."""
    build_id = lock_sha256[:lockfile.ID_LENGTH]
    return {
        **lock.variables, "golden_image": lock.image, "golden_build_id": build_id, "golden_lock_sha256": lock_sha256,
        "golden_roles": lock.roles,
        "provenance_record": {
            "image": lock.image, "build_id": build_id, "lock_sha256": lock_sha256,
            "git_commit": git_commit(root, lockfile.path_of(root, lock.image)),
            "source_date_epoch": lock.source_date_epoch, "kernel": lock.kernel.release,
            "driver": lock.driver.version if lock.driver else None, "cuda": lock.cuda.version if lock.cuda else None,
            "frameworks": {},
        },
    }


def git_commit(root: Path, path: Path) -> str:
    """The commit that the lock came with, so that equal locks give equal images; else `uncommitted`."""
    try:
        clean = not shell.output(["git", "status", "--porcelain", "--", str(path)], cwd=root).strip()
        found = shell.output(["git", "log", "-1", "--format=%H", "--", str(path)], cwd=root).strip()
    except (shell.CommandFailed, OSError):
        return "uncommitted"
    return found if clean and found else "uncommitted"


def _record(
    lock: Lock, lock_sha256: str, started: str, result: dict[str, Any], progress: Progress, folder: Path,
) -> BakeRecord:
    roles = result["roles"]
    disk = result["disk"]
    return BakeRecord(
        schema_version=1, image=lock.image, build_id=lock_sha256[:lockfile.ID_LENGTH], lock_sha256=lock_sha256,
        git_commit=result["git_commit"], started_at=started,
        host=Host(cpus=os.cpu_count() or 1, accel=None, python=platform.python_version(), packer=result["packer"]),
        phases=[Timing(name=name, seconds=seconds) for name, seconds in progress.timings.items()],
        roles=[Timing(name=name, seconds=roles[name]) for name in lock.roles if name in roles],
        components=components(lock),
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


def components(lock: Lock) -> list[Component]:
    """Installed bytes by component, from the packages' own Installed-Size."""
    sizes: dict[str, int] = {}
    for package in lock.packages.values():
        name = next((name for name, prefixes in _COMPONENTS if package.source.startswith(prefixes)), "base system")
        sizes[name] = sizes.get(name, 0) + package.installed_size
    return [Component(name=name, bytes=size) for name, size in sorted(sizes.items(), key=lambda item: -item[1])]


def _publish(out: Path, folder: Path) -> None:
    """Put the finished build in its place; an older build of the same id gives way only now."""
    old = folder.with_name(f".old-{folder.name}-{os.getpid()}")
    if folder.exists():
        folder.rename(old)
    out.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


