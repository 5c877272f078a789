"""What a bake starts from: the lock's files in the store, as one repository, and a plan of plain data.

Used by every stage that runs the lock's packages: `bake`, and `scenario` for Molecule's containers.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from goldenami import lockfile, mirror, modules, records, repo, shell
from goldenami.apt import Deb
from goldenami.build_records import LOCK_FILE
from goldenami.errors import HostNotReady, StageFailed
from goldenami.lockfile import Lock
from goldenami.modules import Recipe
from goldenami.progress import Progress
from goldenami.store import Store, Wanted


def fetch(lock: Lock, store: Store, progress: Progress, *, tools: bool = False) -> None:
    """Have every file that the lock names in the store (what was compiled may be compiled again instead)."""
    debs = [deb for deb in lock.debs() if deb.archive != "built"]
    if needs_compile(lock, store) or (tools and lock.driver is not None):
        recipe = Recipe.of(lock)
        debs += [recipe.source, *recipe.build]
    missing = store.missing((Wanted(deb.sha256, deb.size, "", deb.name) for deb in debs), thorough=True)
    if not missing:
        return
    todo = {item.sha256 for item in missing}
    with progress.step("fetch", f"{sum(item.size for item in missing) / 1e6:.0f} MB in {len(todo)} packages"):
        uris = mirror.locate(sorted({deb.archive for deb in debs if deb.sha256 in todo}))
        store.fetch(wanted([deb for deb in debs if deb.sha256 in todo], uris))


def wanted(debs: list[Deb], uris: Mapping[str, str]) -> list[Wanted]:
    """Store requests for files that mirrors have (what was built here is in the store already)."""
    return [Wanted(deb.sha256, deb.size, f"{uris[deb.archive]}/{deb.path}", f"{deb.name} {deb.version}")
            for deb in debs if deb.archive != "built"]


def needs_compile(lock: Lock, store: Store) -> bool:
    """Whether the lock's kernel modules are not in the store and have to be compiled again."""
    if lock.driver is None or lock.driver.modules is None:
        return False
    made = lock.packages.get(lock.driver.modules.package)
    return made is not None and not (store.has(made.sha256, made.size) and store.check(made.sha256))


def compile_if_missing(lock: Lock, store: Store, progress: Progress, log: Path, *, tools: bool = False) -> None:
    """Fetch what the lock names and compile its modules again where this machine has not got them."""
    fetch(lock, store, progress, tools=tools)
    if needs_compile(lock, store):
        _recompile(lock, store, progress, log)


def repository(lock: Lock, store: Store, *, tools: bool = False) -> Path:
    """The lock's files as one local apt repository, shared by all bakes of the same files.

    With `tools` it also has what compiled the lock's modules, for a scenario that compiles them itself.
    """
    debs = {deb.sha256: deb for deb in lock.debs()}
    if tools and lock.driver is not None:
        recipe = Recipe.of(lock)
        debs.update((deb.sha256, deb) for deb in (recipe.source, *recipe.build))
    name = records.sha256_text("\n".join(sorted(debs)))[:16]
    return repo.write(store, list(debs.values()), store.root.parent / "repos" / name, suite=lock.base.release,
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
    root: Path, lock: Lock, lock_sha256: str, packages: Path, work: Path, log: Path, layers: Path,
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
        "layers": str(layers), "work": str(work), "log": str(log), "root": str(root),
        "lock": str(path),
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
    except (shell.CommandFailed, HostNotReady, OSError):
        return "uncommitted"
    return found if clean and found else "uncommitted"
