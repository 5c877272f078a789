"""`python -m goldenami.image.scaffold.molecule_project`: makes a folder of links from which
Molecule runs the scenarios of a repository that is no clone, and prints its path."""

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
"""The program that creates and ends containers, at its path in a clone."""


def make(root: Path) -> Path:
    """Make the folder anew. It has the files of a clone, with the roles, checks and scenarios of
    the repository `root`."""
    folder, program_home = root / FOLDER, program_files.home(root)
    shutil.rmtree(folder, ignore_errors=True)
    names = role_order.known(root)
    checks = program_files.checks(root, names, folder)
    links = {name: program_home / name for name in _SHARED}
    links |= {f"{program_files.ROLES}/{name}": program_files.role(root, name) for name in names}
    links |= {str(path.relative_to(root)): path for path in (root / "molecule").glob("*")}
    links[program_files.CHECKS] = checks
    for name, target in links.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(target)
    program = folder / _GOLDEN
    program.parent.mkdir()
    argv = [sys.executable, "-m", "goldenami.cli", "--root", str(root)]
    program.write_text(f'#!/bin/sh\nexec {shlex.join(argv)} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return folder


if __name__ == "__main__":
    print(make(Path.cwd()))
