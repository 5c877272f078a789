"""The plan of a bake: its steps with their keys, and the variables of the roles."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from goldenami.core import records, shell
from goldenami.core.errors import BadInput, HostNotReady
from goldenami.image.bake import toolchain_digest
from goldenami.model.builds.build_records import ROLES_JOINED_BY
from goldenami.model.builds.plans import BakeStep, CoverageRequest
from goldenami.model.locked import lockfile
from goldenami.model.locked.lockfile import Lock, Step
from goldenami.model.program_files import CUSTOMIZE
from goldenami.model.roles import listening
from goldenami.model.roles.recipes import Allowance
from goldenami.model.supported import base_images
from goldenami.model.supported.platforms import PLATFORMS

FORMAT = 1
"""Raise this when the code of a bake changes what a layer holds for the same inputs."""

UNCOMMITTED, LOCK_ON_TOP = "uncommitted", "+lock-"
_MADE_BY_WATCH = (":(exclude)packer/images", ":(exclude)packer/locks")
"""Git's pathspecs for everything but definitions and locks, which are all that a new lock
changes."""

CODE_FOLDERS = ("opt/ml",)
"""Folders whose code no distribution compiled for every x86-64: the coverage check reads them."""


def views(lock: Lock) -> dict[str, set[str]]:
    """For each step the SHA-256 of all that apt sees in it: its packages, those of earlier steps,
    and dummy packages."""
    by_step = dict[str, set[str]]()
    visible = {lock.packages[name].sha256 for name in lock.base_packages}
    for number, step in enumerate(lock.steps):
        visible.update(lock.packages[name].sha256 for name in step.packages)
        dummies = {package.sha256 for package in step.stand_ins.values()}
        by_step[f"step-{number}"] = visible | dummies
    return by_step


def coverage(lock: Lock, known: Path | None = None) -> CoverageRequest:
    """The folders that the coverage check (local/code_coverage) reads, the limits that it applies,
    and `known`, its cache."""
    allowed = dict[tuple[str, ...], Allowance]()
    for allowance in lock.allowances():
        key = (allowance.files, allowance.symbols, *allowance.extensions)
        files = f"opt/ml/*/lib/python3*/site-packages/{allowance.files}"
        allowed[key] = allowance.model_copy(update={"files": files})
    return CoverageRequest(
        folders=list(CODE_FOLDERS),
        features=lock.hardware.features,
        sm=lock.hardware.sm,
        allow=list(allowed.values()),
        known=known,
    )


def layers_limit_bytes() -> int:
    """Most bytes that all layers may occupy: GOLDEN_LAYERS_GB, or 24 GB (those of `debian-13-ml`
    are 9 GB)."""
    text = os.environ.get("GOLDEN_LAYERS_GB", "24")
    if not text.isdecimal():
        raise BadInput(f"GOLDEN_LAYERS_GB is `{text}`", hint="give whole gigabytes, such as 24")
    return int(text) * 10**9


def base_key(lock: Lock) -> str:
    """SHA-256 over the base tree's files: a new driver or framework does not change it."""
    files = {name: lock.packages[name].sha256 for name in lock.base_packages}
    return records.sha256_text(
        records.canonical({"files": files, "suite": lock.base.release, "format": FORMAT})
    )


def steps(root: Path, lock: Lock, work: Path) -> list[BakeStep]:
    """The steps of a bake in `work`, with the file of each one's variables there."""
    all_variables = json.loads((work / "out/vars.json").read_text(encoding="utf-8"))
    parent, dummies, bake_steps = base_key(lock), set[str](), list[BakeStep]()
    toolchain = toolchain_digest.digest(root)
    for number, step in enumerate(lock.steps):
        step_variables = _variables_of(step, all_variables, "golden_")
        path = work / f"step-{number}.json"
        records.write_text(path, records.canonical({**step_variables, "golden_steps": step.roles}))
        parent = step_key(lock, step, parent, toolchain)
        bake_steps.append(
            BakeStep(
                name=ROLES_JOINED_BY.join(step.roles),
                key=parent,
                view=f"step-{number}",
                variables=path,
                installs=bool(step.packages),
                # Dummies of the step before that this one does not use give way to the real
                # packages.
                replaces=sorted(dummies - step.stand_ins.keys()),
            )
        )
        dummies = set(step.stand_ins)
    return bake_steps


def step_key(lock: Lock, step: Step, parent: str, toolchain: str) -> str:
    """SHA-256 over all that shapes a step's layer."""
    # Variables named golden_ are left out: only `provenance` reads their values. Other roles only
    # ask whether there is a seal, which every image has.
    roles = {role: lock.inputs.get(f"roles/{role}") for role in step.roles}
    if CUSTOMIZE in step.roles:
        files = f"roles/{CUSTOMIZE}/"
        roles |= {name: sha for name, sha in lock.inputs.items() if name.startswith(files)}
    packages = {name: lock.packages[name].sha256 for name in step.packages}
    stand_ins = {name: package.sha256 for name, package in step.stand_ins.items()}
    return records.sha256_text(
        records.canonical(
            {
                "parent": parent,
                "format": FORMAT,
                "toolchain": toolchain,
                "playbook": lock.inputs.get("ansible"),
                "roles": roles,
                "variables": _variables_of(step, lock.variables),
                "packages": packages,
                "stand_ins": stand_ins,
            }
        )
    )


def _variables_of(step: Step, variables: dict[str, Any], *more: str) -> dict[str, Any]:
    """The variables of a step's roles, and those that begin with `more`."""
    prefixes = (*(f"{role}_" for role in step.roles), *more)
    return {name: value for name, value in variables.items() if name.startswith(prefixes)}


def role_variables(root: Path, lock: Lock, lock_sha256: str) -> dict[str, Any]:
    """All variables of Ansible, which the image's tests read too: the roles', and the facts of the
    build."""
    build_id = lock_sha256[: lockfile.ID_LENGTH]
    driver = lock.driver.version if lock.driver else None
    cuda = lock.cuda.version if lock.cuda else None
    frameworks = {framework.wheel.project: framework.version for framework in lock.frameworks}
    return {
        **lock.variables,
        "golden_image": lock.image,
        "golden_build_id": build_id,
        "golden_base_image": base_images.of_release(root, lock.base.release).model_dump(),
        "golden_lock_sha256": lock_sha256,
        "golden_roles": lock.roles,
        "golden_listen": listening.of_image(
            root, PLATFORMS[lock.base.release], lock.roles, lock.variables, lock.listen
        ),
        "golden_steps": lock.roles,
        "golden_git_commit": git_commit(root, lockfile.path_of(root, lock.image), lock_sha256),
        "provenance_record": {
            "image": lock.image,
            "build_id": build_id,
            "lock_sha256": lock_sha256,
            "source_date_epoch": lock.source_date_epoch,
            "kernel": lock.kernel.release,
            "driver": driver,
            "cuda": cuda,
            "frameworks": frameworks,
        },
    }


def git_commit(root: Path, path: Path, sha256: str) -> str:
    """The commit that brought the lock, for records and tags. It is never in an image.

    `<commit>+lock-<build id>` for a lock that is not committed, such as one that `watch` made a
    moment ago; the commit is the one that it was made on. `uncommitted` if the lock at `path` is
    another one, or anything but definitions and locks differs.
    """
    # Git lets root read a clone of the user who called sudo. Root runs the program of the clone
    # anyway, so its owner is trusted without sudo, too. Nothing of root's is left in the clone.
    owner = {"SUDO_UID": str(root.stat().st_uid or os.environ.get("SUDO_UID", "0"))}

    def git(*argv: str) -> str:
        # `git status` would write the index anew, which would then belong to root.
        return shell.output(["git", "--no-optional-locks", *argv], cwd=root, env=owner).strip()

    try:
        if not path.is_file() or records.sha256_file(path) != sha256:
            return UNCOMMITTED
        if not git("status", "--porcelain", "--", str(path)):
            return git("log", "-1", "--format=%H", "--", str(path)) or UNCOMMITTED
        if git("status", "--porcelain", "--", ".", *_MADE_BY_WATCH):
            return UNCOMMITTED
        return f"{git('rev-parse', 'HEAD')}{LOCK_ON_TOP}{sha256[: lockfile.ID_LENGTH]}"
    except (shell.CommandFailed, HostNotReady, OSError) as error:
        if isinstance(error, shell.CommandFailed) and "safe.directory" in error.output:
            print(
                f"golden: warning: git does not read {root}, which another user owns: the "
                "record names no commit",
                file=sys.stderr,
            )
        return UNCOMMITTED
