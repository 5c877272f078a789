"""What `packer build` is told of an image: a bake by Packer alone, without `golden bake`."""

from __future__ import annotations

from pathlib import Path

from goldenami.core import records
from goldenami.image.bake import bake_inputs
from goldenami.image.lock.compilation import wheel_builds
from goldenami.model.builds import lockfile
from goldenami.model.builds.build_folder import ImageFolder
from goldenami.model.builds.lockfile import Lock
from goldenami.packages.store import Store

VARIABLES, ROLES = "packer.pkrvars.json", "packer.roles.json"
"""Files of build/IMAGE: for Packer, and for the roles, which that names."""


def write(
    root: Path, lock: Lock, lock_sha256: str, store: Store, account: dict[str, str]
) -> Path | None:
    """Write them for `lock`, whose files are in the store; `account` are further variables.

    None where modules or wheels are still to be compiled: the instance installs them as packages.
    """
    if bake_inputs.lacking_modules(lock, store) or wheel_builds.lacking(lock, store):
        return None
    folder = ImageFolder.of(root, lock.image).path
    variables, roles = folder / VARIABLES, folder / ROLES
    records.write_text(
        roles, records.canonical(bake_inputs.role_variables(root, lock, lock_sha256))
    )
    records.write_text(
        variables,
        records.canonical(
            {
                "lock": str(lockfile.path_of(root, lock.image)),
                "vars": str(roles),
                "repo": str(bake_inputs.repository(lock, store)),
                **account,
            }
        ),
    )
    return variables
