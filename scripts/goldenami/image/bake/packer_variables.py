"""The variables of `packer build` for an image: a bake by Packer alone, without `golden bake`."""

from __future__ import annotations

from pathlib import Path

from goldenami.core import records
from goldenami.image.bake import bake_plan
from goldenami.image.bake.bake_inputs import BakeInputs
from goldenami.image.lock.compilation import wheel_builds
from goldenami.model.locked import lockfile

VARIABLES, ROLES = "packer.pkrvars.json", "packer.roles.json"
"""Files of build/IMAGE: Packer's variables, which name the file of the roles' variables."""


def write(inputs: BakeInputs, account: dict[str, str]) -> Path | None:
    """Write both files for a lock whose files are in the store; `account` are further variables.
    Returns Packer's file.

    Returns None if modules or wheels are still to be compiled: the instance installs them as
    packages.
    """
    root, lock = inputs.root, inputs.lock
    if inputs.lacking_modules() or wheel_builds.lacking(lock, inputs.store):
        return None
    folder = inputs.build.image.path
    variables, roles = folder / VARIABLES, folder / ROLES
    records.write_text(
        roles, records.canonical(bake_plan.role_variables(root, lock, inputs.lock_sha256))
    )
    records.write_text(
        variables,
        records.canonical(
            {
                "lock": str(lockfile.path_of(root, lock.image)),
                "vars": str(roles),
                "repo": str(inputs.repository()),
                **account,
            }
        ),
    )
    return variables
