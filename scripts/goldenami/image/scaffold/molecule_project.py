"""`python -m goldenami.image.scaffold.molecule_project`: a folder of links from which Molecule runs
the scenarios of a repository that is no clone. Prints its path."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from goldenami.model import program_files
from goldenami.model.roles import role_order

FOLDER = "build/molecule-project"
_SHARED = ("ansible.cfg", ".config/molecule/config.yml", "molecule/shared")
_GOLDEN = "scripts/golden"
"""The program that creates and ends containers, where a clone has it."""


def make(root: Path) -> Path:
    """The folder, made anew: it has what a clone has, and the roles, checks and scenarios of the
    repository `root`."""
    folder, given = root / FOLDER, program_files.home(root)
    shutil.rmtree(folder, ignore_errors=True)
    names = role_order.known(root)
    checks = program_files.checks(root, names, folder)
    links = {name: given / name for name in _SHARED}
    links |= {f"{program_files.ROLES}/{name}": program_files.role(root, name) for name in names}
    links |= {str(path.relative_to(root)): path for path in (root / "molecule").glob("*")}
    links[program_files.CHECKS] = checks
    for name, target in links.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(target)
    program = folder / _GOLDEN
    program.parent.mkdir()
    words = [sys.executable, "-m", "goldenami.cli", "--root", str(root)]
    program.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return folder


if __name__ == "__main__":
    print(make(Path.cwd()))
