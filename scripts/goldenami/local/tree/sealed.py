"""Check that a root tree at rest is sealed, before a disk is made of it.

The list is roles/seal's own, run in its checking mode; tests/image/seal has a list that was written
independently of it. A list names what somebody thought of, so three rules look for the rest
(`residue.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path

from goldenami.core import records, shell
from goldenami.core.errors import StageFailed
from goldenami.local.tree import residue
from goldenami.model import program_files
from goldenami.model.roles import role_files

SHOWN = 6
"""Findings that the message names; the lines below it have all of them."""
HINT = (
    "let the role that leaves a file behind remove it; one that belongs into the image is "
    "written by `copy` or "
    "`template` of a role, or stands in `__<role>_files` in roles/<role>/vars/main.yml "
    "(roles/README.md)"
)


def check_image(tree: Path, root: Path, variables: Path) -> None:
    """Raise StageFailed with what the seal of an image missed in `tree`. `root` is the checkout,
    `variables` the build's vars.json."""
    check(tree, *_of_image(root, variables))


def findings_of_image(tree: Path, root: Path, variables: Path) -> list[str]:
    """Return what the seal of an image missed in `tree`, a line each."""
    return findings(tree, *_of_image(root, variables))


def _of_image(root: Path, variables: Path) -> tuple[Path, list[str]]:
    """Return the seal's program, and the patterns of the files that the image's roles bring."""
    program = program_files.role(root, "seal") / "files/seal.py"
    return program, role_files.of_image(root, records.read_object(variables))


def check(tree: Path, program: Path, brought: Collection[str] = ()) -> None:
    """Raise StageFailed with what the seal missed in `tree`. `program` is roles/seal/files/seal.py,
    `brought` are shell patterns of the files that the image's roles bring."""
    if lines := findings(tree, program, brought):
        more = f" (and {len(lines) - SHOWN} more)" if len(lines) > SHOWN else ""
        raise StageFailed(
            f"the tree is not sealed: {'; '.join(lines[:SHOWN])}{more}",
            tail="\n".join(lines),
            hint=HINT,
        )


def findings(tree: Path, program: Path, brought: Collection[str] = ()) -> list[str]:
    """Return what the seal missed in `tree`, a line each."""
    return [*_listed(tree, program), *residue.find(tree, brought)]


def _listed(tree: Path, program: Path) -> list[str]:
    """Return what the seal's own list finds, a line each."""
    try:
        # -I and -B: nothing of this environment is imported, and no byte code is written beside the
        # role.
        shell.output([sys.executable, "-I", "-B", str(program), "--root", str(tree), "--check"])
    except shell.CommandFailed as error:
        return error.output.splitlines() or [error.message]
    return []
