"""What `packer build` is told of an image: a bake by Packer alone, without `golden bake`."""

from __future__ import annotations

from pathlib import Path

from goldenami.core import records
from goldenami.image.bake import bake_inputs
from goldenami.image.bake.bake_inputs import BakeInputs
from goldenami.image.lock.compilation import wheel_builds
from goldenami.model.locked import lockfile

VARIABLES, ROLES = "packer.pkrvars.json", "packer.roles.json"
"""Files of build/IMAGE: for Packer, and for the roles, which that names."""


def write(inputs: BakeInputs, account: dict[str, str]) -> Path | None:
    """Write them for a lock whose files are in the store; `account` are further variables.

    None where modules or wheels are still to be compiled: the instance installs them as packages.
    """
    root, lock = inputs.root, inputs.lock
    if inputs.lacking_modules() or wheel_builds.lacking(lock, inputs.store):
        return None
    folder = inputs.build.image.path
    variables, roles = folder / VARIABLES, folder / ROLES
    records.write_text(
        roles, records.canonical(bake_inputs.role_variables(root, lock, inputs.lock_sha256))
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
