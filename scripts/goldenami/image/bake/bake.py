"""The `bake` stage: a lock becomes a sealed root tree and a bootable disk, without the network."""

from __future__ import annotations

import os
import platform
import shutil
import time
from functools import partial
from pathlib import Path

from goldenami.core import clock, records
from goldenami.core.errors import BadInput, HostNotReady
from goldenami.image.bake.bake_inputs import BakeInputs
from goldenami.image.builders.builder import Builder
from goldenami.local.host import host_tools, workspace
from goldenami.local.machine import packer
from goldenami.local.tree.owners import UNOWNED, WHEEL
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.build_records import BakeRecord, Component, Host, Timing
from goldenami.model.builds.plans import BakeResult
from goldenami.model.locked.lockfile import Lock

SPACE_FACTOR = 3
"""Free space needed, in units of the packages' installed size: the tree, the disk, and the tools'
scratch."""
LARGEST = 12
"""Number of the largest packages that a record names."""
UNPACKED = 1.7
"""Installed size of a wheel, in units of its file: PyTorch 2.10.0 with all that it requires has 7.2
GB from 4.2."""


def run(inputs: BakeInputs, builder: Builder, *, force: bool) -> BuildFolder:
    """Bake the lock by `builder`, unless its build exists. Returns the build."""
    builder.check_host()
    build = inputs.build
    if not force and exists(build, builder):
        inputs.progress.say(f"nothing to do: {build.path} holds this build")
        return build
    with workspace.scratch_in(build.image.path, build.build_id) as work:
        bake(inputs, builder, work, force=force)
        workspace.keep(work / "out", build)
    # The seconds of this bake are the next one's estimate.
    inputs.progress.remember()
    return build


def exists(build: BuildFolder, builder: Builder) -> bool:
    """Whether `builder` made the build already. Raises BadInput if another builder did."""
    if not build.is_baked:
        return False
    record = build.read_bake()
    if builder.built(record):
        return record.disk is None or build.disk.exists()
    origin = "here, as a disk"
    if record.ami:
        origin = f"in EC2 as {record.ami.id} in {record.ami.region}"
    raise BadInput(
        f"build {record.build_id} of {record.image} was baked {origin}",
        hint=f"`golden publish {record.image}` takes it to every region; `make bake "
        f"IMAGE={record.image} "
        "FORCE=1` bakes it again and forgets this one",
    )


def bake(inputs: BakeInputs, builder: Builder, work: Path, *, force: bool = False) -> BakeRecord:
    """Bake the lock in the empty folder `work`; the result is in work/out.

    With `force` an AMI of this build that exists in EC2 is made anew.
    """
    log, progress = inputs.build.log("bake"), inputs.progress
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("", encoding="utf-8")
    # The record is dated by the wall clock; durations come from the monotonic one, which no
    # correction moves.
    started, began = clock.stamp(), time.monotonic()
    check_space(inputs.build.image.path, inputs.lock)
    inputs.fetch()
    if steps := inputs.steps_before_modules():
        made_early = _beside(inputs, builder, work, steps)
    else:
        made_early = set()
        inputs.compile_again(log)
    with progress.step("repository"):
        plan = inputs.plan(work, log, inputs.repository())
    result = builder.bake(inputs.lock, plan, progress, force=force)
    # `layers` names those that were there before this bake: not those that `_beside` just made.
    layers = [name for name in result.layers if name not in made_early]
    result = result.model_copy(update={"layers": layers})
    record = _record(inputs, builder, work, result, (started, began))
    records.write(BuildFolder(work / "out").bake, record)
    if record.disk and record.disk.note:
        progress.say(f"not reproducible: {record.disk.note}")
    return record


def _beside(inputs: BakeInputs, builder: Builder, work: Path, steps: int) -> set[str]:
    """Make the layers of the first `steps` while the modules compile. Returns the names of the
    layers that were made."""
    folder, log = work / "early", inputs.build.log("bake")
    folder.mkdir()
    plan = inputs.plan(folder, log.with_name(f"{log.stem}-layers.log"), inputs.repository())
    early = plan.model_copy(update={"steps": plan.steps[:steps]})
    # Each alone leaves one of two processors idle: the driver's checks of the kernel, and dpkg.
    with inputs.progress.joint("modules and wheels"):
        existing_layers = builder.beside(
            early, inputs.progress, partial(inputs.compile_again, log)
        ).layers
    for path in folder.glob(packer.ROLE_SECONDS):
        path.rename(work / path.name)
    return {"base", *(step.name for step in early.steps)} - set(existing_layers)


def check_space(folder: Path, lock: Lock) -> None:
    """Raise HostNotReady if the disk cannot hold the tree, the image and their scratch."""
    packed = sum(lock.container_blobs().values()) + sum(file.size for file in lock.downloads)
    for wheels in lock.environments().values():
        packed += sum(wheel.size for wheel in wheels)
    installed = sum(package.installed_size for package in lock.packages.values())
    needed = SPACE_FACTOR * (UNPACKED * packed + installed)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise HostNotReady(
            f"no space: the bake needs {needed / 1e9:.1f} GB below {folder}, "
            f"{free / 1e9:.1f} are free",
            hint="free space (`make clean` removes old builds), or move the "
            "checkout to a larger disk",
        )


def _record(
    inputs: BakeInputs, builder: Builder, work: Path, result: BakeResult, began: tuple[str, float]
) -> BakeRecord:
    """The record of a bake that began at `began`: by the wall clock, and in monotonic seconds."""
    lock, seconds = inputs.lock, packer.role_seconds(work)
    phases = [Timing(name=name, seconds=taken) for name, taken in inputs.progress.phases.items()]
    roles = [Timing(name=name, seconds=seconds[name]) for name in lock.roles if name in seconds]
    variables = records.read_object(BuildFolder(work / "out").variables)
    return BakeRecord(
        schema_version=1,
        builder=builder.kind,
        image=lock.image,
        build_id=inputs.build_id,
        lock_sha256=inputs.lock_sha256,
        git_commit=variables["golden_git_commit"],
        started_at=began[0],
        seconds=round(time.monotonic() - began[1], 2),
        host=Host(
            cpus=os.cpu_count() or 1,
            accel=None,
            python=platform.python_version(),
            packer=packer.version(),
            tools=host_tools.versions() if result.disk else {},
            distribution=host_tools.distribution(),
        ),
        phases=phases,
        roles=roles,
        packages_count=packages_count(result.sizes, lock),
        disk=result.disk,
        ami=result.ami,
        layers=result.layers,
        components=components(lock, result.sizes),
        largest=largest(result.sizes),
        manifest_sha256=result.manifest_sha256,
    )


IN_NO_PACKAGE = "in no package"
_COMPONENTS = (
    (
        "driver",
        (
            "nvidia-graphics-drivers",
            "golden-nvidia-modules",
            "nvidia-open-gpu",
            "nvidia-persistenced",
            "nvidia-modprobe",
            "nvidia-support",
            "firmware-nvidia",
        ),
    ),
    ("cuda", ("nvidia-cuda", "cuda-", "libcu")),
    ("kernel", ("linux", "golden-")),
    ("compiler", ("gcc", "binutils", "llvm")),
    ("python", ("python",)),
)
"""Components of the size chart, by prefixes of source package names. Other packages are the base
system."""


def components(lock: Lock, sizes: dict[str, int]) -> list[Component]:
    """Bytes of each component that are really in the tree, the largest first (`sizes`: see
    `local/tree/owners.py`)."""
    totals: dict[str, int] = {}
    for package, size in sizes.items():
        name = _component(lock, package)
        totals[name] = totals.get(name, 0) + size
    # No package owns a container's blobs: they count as containers, not as files without a package.
    if blobs := sum(lock.container_blobs().values()) * bool(totals):
        totals[IN_NO_PACKAGE] -= blobs
        totals["containers"] = blobs
    by_size = sorted(totals.items(), key=lambda item: -item[1])
    return [Component(name=name, bytes=size) for name, size in by_size]


def packages_count(sizes: dict[str, int], lock: Lock) -> int:
    """The number of packages in the tree: fewer than the lock's if a role purged one. The lock's
    for an AMI whose disk could not be read."""
    count = sum(name != UNOWNED and not name.startswith(WHEEL) for name in sizes)
    return count or len(lock.packages)


def largest(sizes: dict[str, int]) -> list[Component]:
    """The packages and wheels with most bytes in the tree, the largest first."""
    owned = sorted(
        ((size, name.removeprefix(WHEEL)) for name, size in sizes.items() if name != UNOWNED),
        reverse=True,
    )
    return [Component(name=name, bytes=size) for size, name in owned[:LARGEST]]


def _component(lock: Lock, package: str) -> str:
    if package == UNOWNED:
        return IN_NO_PACKAGE
    if package.startswith(WHEEL):
        project = package.removeprefix(WHEEL)
        return "cuda" if project.startswith(("nvidia-", "cuda-")) else "frameworks"
    source = lock.packages[package].source if package in lock.packages else package
    for name, prefixes in _COMPONENTS:
        if source.startswith(prefixes):
            return name
    return "base system"
