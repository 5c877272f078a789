"""The `bake` stage: a lock becomes a sealed root tree and a bootable disk, without the network."""

from __future__ import annotations

import json
import os
import platform
import shutil
from pathlib import Path

from goldenami.bake import bake_inputs
from goldenami.builders import ec2_builder
from goldenami.builders.ec2_builder import Place
from goldenami.core import clock, records
from goldenami.core.errors import BadInput, HostNotReady
from goldenami.core.progress import Progress
from goldenami.local import container, host_tools, packer, workspace
from goldenami.local.sandbox import program
from goldenami.model import lockfile
from goldenami.model.build_records import BAKE_FILE, BakeRecord, Builder, Component, Host, Timing
from goldenami.model.lockfile import Lock
from goldenami.model.plans import BakeResult
from goldenami.packages.store import Store

SPACE_FACTOR = 3
"""Free space needed, in units of the packages' installed size: the tree, the disk, and the tools' scratch."""


def run(
    root: Path, lock: Lock, lock_sha256: str, store: Store, progress: Progress, *, force: bool,
    place: Place | None = None,
) -> Path:
    """Bake `lock` here, or at `place` in EC2; returns the build's folder. A build that exists already is kept."""
    if place is None:
        container.check_host()
    build_id = lock_sha256[:lockfile.ID_LENGTH]
    folder = workspace.build_folder(root, lock.image, build_id)
    if not force and _stands(folder, place):
        progress.say(f"nothing to do: {folder} holds this build")
        return folder
    with workspace.scratch(root, lock.image, build_id) as work:
        build(root, lock, lock_sha256, store, progress, work=work, layers=store.cache.layers, place=place,
              force=force)
        workspace.keep(work / "out", folder)
    progress.remember()
    return folder


def _stands(folder: Path, place: Place | None) -> bool:
    """Whether the build is there; BadInput where it is there by another builder, or in another region."""
    if not (folder / BAKE_FILE).exists():
        return False
    record = records.read(folder / BAKE_FILE, BakeRecord)
    if record.ami is None and place is None:
        return (folder / "disk.raw").exists()
    if record.ami and place and record.ami.region == place.region:
        return True
    how = f"in EC2 as {record.ami.id} in {record.ami.region}" if record.ami else "here, as a disk"
    raise BadInput(f"build {record.build_id} of {record.image} was baked {how}",
                   hint="`golden publish` takes it to every region; FORCE=1 bakes it again and forgets this one")


def build(
    root: Path, lock: Lock, lock_sha256: str, store: Store, progress: Progress, *, work: Path, layers: Path,
    place: Place | None = None, force: bool = False,
) -> BakeRecord:
    """Bake `lock` in the empty folder `work`, keeping base trees in `layers`; what comes out is in work/out.

    With `force` an AMI of this build that stands in EC2 is made anew.
    """
    build_id = lock_sha256[:lockfile.ID_LENGTH]
    folder = workspace.build_folder(root, lock.image, build_id)
    log = folder.parent / "logs" / f"bake-{build_id}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("", encoding="utf-8")
    started = clock.stamp()
    check_space(folder.parent, lock)
    bake_inputs.compile_if_missing(root, lock, store, progress, log)
    with progress.step("repository"):
        packages = bake_inputs.repository(lock, store)
    plan = bake_inputs.plan(root, lock, lock_sha256, packages, work, log, layers)
    if place is None:
        result = program.call("goldenami.local.programs.bake", plan, BakeResult, progress)
    else:
        result = BakeResult(ami=ec2_builder.bake(root, lock, plan, lock_sha256, place, progress, force))
    record = _record(lock, lock_sha256, started, work, result, progress)
    records.write(work / "out" / BAKE_FILE, record)
    if record.disk and record.disk.note:
        progress.say(f"not reproducible: {record.disk.note}")
    return record


def check_space(folder: Path, lock: Lock) -> None:
    """HostNotReady where the disk cannot hold the tree, the image and their scratch."""
    needed = SPACE_FACTOR * sum(package.installed_size for package in lock.packages.values())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise HostNotReady(f"no space: the bake needs {needed / 1e9:.1f} GB below {folder}, {free / 1e9:.1f} are free",
                           hint="free space (`make clean` removes old builds), or move the checkout to a larger disk")


def _record(
    lock: Lock, lock_sha256: str, started: str, work: Path, result: BakeResult, progress: Progress,
) -> BakeRecord:
    roles = packer.role_seconds(work)
    variables = json.loads((work / "out/vars.json").read_text(encoding="utf-8"))
    return BakeRecord(
        schema_version=1, image=lock.image, build_id=lock_sha256[:lockfile.ID_LENGTH], lock_sha256=lock_sha256,
        git_commit=variables["golden_git_commit"], started_at=started,
        host=Host(cpus=os.cpu_count() or 1, accel=None, python=platform.python_version(), packer=packer.version(),
                  tools=host_tools.versions() if result.disk else {}),
        phases=[Timing(name=name, seconds=seconds) for name, seconds in progress.timings.items()],
        roles=[Timing(name=name, seconds=roles[name]) for name in lock.roles if name in roles],
        packages_count=len(lock.packages), builder=Builder.LOCAL if result.disk else Builder.EC2, disk=result.disk,
        ami=result.ami, components=components(lock, result.sizes), layers=result.layers,
        manifest_sha256=result.manifest_sha256)


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
