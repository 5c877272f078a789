"""What `packer build` needs for an image: a bake by Packer alone, without `golden bake`."""

from __future__ import annotations

import shutil
from pathlib import Path

from goldenami.core import records
from goldenami.image.bake import bake_plan
from goldenami.image.bake.bake_inputs import BakeInputs
from goldenami.image.lock.compilation import wheel_builds
from goldenami.local.machine import packer
from goldenami.model import program_files
from goldenami.model.locked import lockfile

VARIABLES, ROLES, PROJECT = "packer.pkrvars.json", "packer.roles.json", "packer"
"""Files of build/IMAGE: Packer's variables, which name the file of the roles' variables, and the
folder in which Packer runs."""


def write(inputs: BakeInputs, account: dict[str, str]) -> Path | None:
    """Write both files for a lock whose files are in the store; `account` are further variables.
    Returns the folder in which Packer runs.

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
    return _project(root, folder / PROJECT)


def _project(root: Path, folder: Path) -> Path:
    """Make a folder with all that the templates name, of whichever repository and package."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    program_home, roles = program_files.home(root), program_files.roles_path(root, folder)
    settings = (program_home / "ansible.cfg").read_text(encoding="utf-8")
    paths = f"roles_path = {roles}\ncollections_path = {root / program_files.COLLECTIONS}\n"
    records.write_text(folder / "ansible.cfg", settings.replace("roles_path = roles\n", paths))
    (folder / "ansible").symlink_to(program_home / "ansible")
    (folder / "packer").symlink_to(packer.templates(root, folder))
    return folder
