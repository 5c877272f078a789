"""The `container` stage: an image for container engines, from the same lock as the disk.

It has what runs on any kernel: the frameworks' environments, CUDA and the tools. Its layers are
made in the way the disk's are, and shared with them.
"""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goldenami.core import clock, records
from goldenami.core.errors import NoFit
from goldenami.image.bake import bake, bake_plan
from goldenami.image.bake.bake_inputs import BakeInputs
from goldenami.image.provenance import dsse, provenance
from goldenami.image.sbom import components, sbom
from goldenami.local.host import workspace
from goldenami.local.machine import container
from goldenami.local.sandbox import how_far, program
from goldenami.local.tree.oci_layout import WORK, OciLayout
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.container_records import DRIVER_LABEL, LOCK_LABEL, ContainerRecord
from goldenami.model.builds.plans import ContainerPlan, ContainerResult
from goldenami.model.locked import lockfile
from goldenami.model.locked.lockfile import Lock, Step
from goldenami.model.supported import compatibility
from goldenami.packages.registries import LEAST_DRIVER_LABEL

if TYPE_CHECKING:  # it imports boto3
    from securesystemslib.signer import Signer

GROUPS = {
    "os_updates": "base",
    "cuda": "cuda",
    "frameworks": "frameworks",
    "trim": "frameworks",
    "tools": "rest",
    "customize": "rest",
}
"""The roles of a container, and for each the layer of the container image that its files go into,
from what changes least often to what changes most. Roles that need a machine are not among them."""
REST = "rest"
"""The topmost layer. It also has the changes by which a machine's parts were removed."""
KEPT = (
    "apt",
    "ca-certificates",
    "curl",
    "less",
    "openssh-client",
    "procps",
    "python3",
    "python3-venv",
)
"""Packages of the base that stay, with their dependencies. No role of a container asks for them."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_THREADS = "/opt/ml/bin/ml-threads"
_START = f"""\
[ -x {_THREADS} ] || {{ echo "golden: a mount hides /opt/ml: mount folders below it" >&2; exit 1; }}
[ -w "${{HOME:-}}" ] || export HOME={WORK} # of a user without an account it is /
export USER="${{USER:-$(id -un 2>/dev/null)}}" OMP_NUM_THREADS="${{OMP_NUM_THREADS:-$({_THREADS})}}"
exec "$@"
"""
"""The entrypoint, in sh. It leaves PATH alone, which an image made from this one may have set."""


def part(lock: Lock) -> Lock:
    """The part of a lock that shapes a container: without kernel modules, driver and services."""
    kept_roles = {*GROUPS}
    if not lock.variables.get("tools_container_enabled", True):
        kept_roles -= {"tools"}
    # Steps keep their numbers, which name their packages in the repository.
    steps = [_step(step, kept_roles) for step in lock.steps]
    names = {*lock.base_packages}.union(*(step.packages for step in steps))
    packages = {name: package for name, package in lock.packages.items() if name in names}
    return lock.model_copy(
        update={
            "driver": None,
            "kernel_modules": {},
            "steps": steps,
            "roles": list(chain.from_iterable(step.roles for step in steps)),
            "packages": packages,
        }
    )


def _step(step: Step, kept_roles: Collection[str]) -> Step:
    roles = [role for role in step.roles if role in kept_roles]
    if not roles:
        return Step(roles=[], packages=[], stand_ins={})
    return step.model_copy(update={"roles": roles})


def least_driver(root: Path, lock: Lock) -> str:
    """The oldest driver that runs the lock's CUDA, or "" without CUDA."""
    if not lock.cuda:
        return ""
    return compatibility.load(root).least_driver(lock.cuda.version)


def check(root: Path, lock: Lock) -> None:
    """Raise NoFit if the container needs a newer driver than the AMI of the lock has."""
    least = least_driver(root, lock)
    if lock.driver and not compatibility.runs_on(least, lock.driver.version):
        raise NoFit(
            f"the container of {lock.image} asks for driver {least}, and its "
            f"AMI has {lock.driver.version}",
            hint="lock a newer driver, or an older CUDA",
        )


def run(inputs: BakeInputs, build: BuildFolder, key: Signer | None) -> ContainerRecord:
    """Make the container image of the lock, unless `build` has it. `key` signs its provenance,
    unless it is None."""
    check(inputs.root, inputs.lock)
    if build.container.exists() and build.layout.exists():
        inputs.progress.say(f"nothing to do: {build.layout} holds this image")
        return records.read(build.container, ContainerRecord)
    container.check_host()
    build.log("container").parent.mkdir(parents=True, exist_ok=True)
    build.log("container").write_text("", encoding="utf-8")
    with workspace.scratch_in(build.image.path, "container") as work:
        record = _make(inputs, build, work)
        with inputs.progress.step("attach"):
            for path, kind in _attached(inputs.root, record, work, key):
                OciLayout(work / "image", build.build_id).attach(path, kind, _created(inputs.lock))
        build.path.mkdir(exist_ok=True)
        # A layout without a record is of a run that was killed.
        if build.layout.exists():
            shutil.rmtree(build.layout)
        (work / "image").rename(build.layout)
        records.write(build.container, record)
    inputs.progress.remember()
    return record


def _make(inputs: BakeInputs, build: BuildFolder, work: Path) -> ContainerRecord:
    started, began, part_inputs = clock.stamp(), time.monotonic(), inputs.of_part(part(inputs.lock))
    bake.check_space(build.image.path, part_inputs.lock)
    part_inputs.fetch()
    part_inputs.compile_again(build.log("container"))
    with inputs.progress.step("repository"):
        configuration = _configuration(inputs)
        plan = _plan(part_inputs, build, work, configuration)
    result = program.call(
        "goldenami.local.programs.make_container",
        plan,
        ContainerResult,
        inputs.progress,
        look=partial(how_far.of_bake, plan, how_far.expected(part_inputs.lock)),
    )
    materials = components.of_container(
        part_inputs.lock, inputs.lock_sha256, inputs.store, result.parts
    )
    records.write_text(work / sbom.SBOM_FILE, sbom.text(materials))
    return ContainerRecord(
        image=inputs.lock.image,
        build_id=build.build_id,
        lock_sha256=inputs.lock_sha256,
        digest=result.digest,
        bytes=sum(layer.bytes for layer in result.layers),
        layers=result.layers,
        least_driver=least_driver(inputs.root, inputs.lock),
        started_at=started,
        seconds=round(time.monotonic() - began, 2),
    )


def _plan(
    inputs: BakeInputs, build: BuildFolder, work: Path, configuration: dict[str, Any]
) -> ContainerPlan:
    lock = inputs.lock
    whole_plan = inputs.plan(work, build.log("container"), inputs.repository())
    step_numbers = [number for number, step in enumerate(lock.steps) if step.roles]
    groups = [GROUPS[lock.steps[number].roles[0]] for number in step_numbers]
    # Of the base only KEPT and what the definition adds stays; packages of later steps all stay.
    later = chain.from_iterable(step.packages for step in lock.steps[1:])
    extra_packages = lock.variables.get("os_updates_extra_packages", [])
    return ContainerPlan(
        **whole_plan.model_dump()
        | {
            "build_id": build.build_id,
            "steps": [whole_plan.steps[number] for number in step_numbers],
            "layout": work / "image",
            "groups": ["base", *groups, REST],
            "keeps": sorted({*KEPT, *later, *extra_packages}),
            "created": _created(lock),
            **configuration,
        }
    )


def _configuration(inputs: BakeInputs) -> dict[str, Any]:
    lock = inputs.lock
    environments = sorted(lock.environments())
    # With several environments the user says which one is meant (docs/containers.md).
    home = f"/opt/ml/{environments[0]}" if len(environments) == 1 else ""
    folders = [_PATH]
    if lock.cuda:
        folders.insert(0, "/usr/local/cuda/bin")
    if environments:
        folders.insert(0, "/opt/ml/bin")
    if home:
        folders.insert(0, f"{home}/bin")
    environment = {"PATH": ":".join(folders), "LANG": "C.UTF-8"}
    if home:
        environment["VIRTUAL_ENV"] = home
    # Engines without CDI go by these variables.
    if lock.cuda:
        environment |= {
            "NVIDIA_VISIBLE_DEVICES": "all",
            "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
        }
    labels = {
        "org.opencontainers.image.title": lock.image,
        "org.opencontainers.image.description": lock.description,
        "org.opencontainers.image.version": inputs.lock_sha256[: lockfile.ID_LENGTH],
        "org.opencontainers.image.created": _created(lock),
        LOCK_LABEL: inputs.lock_sha256,
    }
    for framework in lock.frameworks:
        labels[f"goldenami.framework.{framework.name}"] = framework.version
    if lock.cuda:
        labels |= {
            "goldenami.cuda": lock.cuda.version,
            LEAST_DRIVER_LABEL: least_driver(inputs.root, lock),
        }
    if lock.driver:
        labels[DRIVER_LABEL] = lock.driver.version
    entrypoint = ["/bin/sh", "-ec", _START, "sh"] if environments else []
    return {"environment": environment, "labels": labels, "entrypoint": entrypoint}


def _created(lock: Lock) -> str:
    return clock.stamp(datetime.fromtimestamp(lock.source_date_epoch, UTC))


def _attached(
    root: Path,
    record: ContainerRecord,
    work: Path,
    key: Signer | None,
) -> Iterator[tuple[Path, str]]:
    """Write the documents that are attached to the image. Yields the path and media type of
    each."""
    bill, origin = work / sbom.SBOM_FILE, work / "provenance.json"
    yield bill, "application/vnd.cyclonedx+json"
    commit = bake_plan.git_commit(root, lockfile.path_of(root, record.image), record.lock_sha256)
    statement = provenance.of_container(
        record, commit, platform.python_version(), records.sha256_file(bill)
    )
    text, media_type = records.canonical(statement), dsse.PAYLOAD_TYPE
    if key:
        text, media_type = dsse.sealed(statement, key), "application/vnd.dsse.envelope.v1+json"
    records.write_text(origin, text)
    yield origin, media_type
