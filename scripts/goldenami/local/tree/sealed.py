"""Whether a root tree at rest is sealed: asked before a disk is made of it.

The list is roles/seal's own, run in its checking mode on the files; tests/image/seal looks at the booted image with
a list that was written apart from it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from goldenami.core import shell
from goldenami.core.errors import StageFailed

SHOWN = 6
"""Findings in the message; all of them are in the lines below it."""


def check(root: Path, program: Path) -> None:
    """StageFailed naming what the seal missed in the tree `root`; `program` is roles/seal/files/seal.py."""
    try:
        shell.output([sys.executable, "-I", "-B", str(program), "--root", str(root), "--check"])
    except shell.CommandFailed as error:
        lines = error.output.splitlines()
        more = f" (and {len(lines) - SHOWN} more)" if len(lines) > SHOWN else ""
        raise StageFailed(f"the tree is not sealed: {'; '.join(lines[:SHOWN])}{more}", tail=error.output,
                          hint="roles/seal must remove it") from None
