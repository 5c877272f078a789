"""The program's name as a person types it. Messages in the code say `golden NAME`."""

from __future__ import annotations

import itertools
import re
import shlex
import shutil
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[4]
"""The checkout that this module is in. In an installed package the folder is no checkout."""
WORDS = "goldenami.words"
"""Key of the command line's words in Typer's context, for a command that names itself."""


def program() -> str:
    """Return `golden` if that is installed, else the path of the checkout's program from the
    working directory. A `--root` of the person's is kept."""
    called_as, checkout_program, relative = (
        Path(sys.argv[0]),
        CHECKOUT / "scripts/golden",
        Path("scripts/golden"),
    )
    name = "golden"
    if called_as.name == name and shutil.which(name) != str(called_as):
        name = shlex.quote(str(called_as))
    elif called_as.name != name and checkout_program.exists():
        name = shlex.quote(str(checkout_program))
        if relative.exists() and relative.samefile(checkout_program):  # as for `make`
            name = str(relative)
    # The last `--root` counts: scripts/golden puts one in front of the person's words.
    roots = [value for word, value in itertools.pairwise(sys.argv[1:]) if word == "--root"]
    if roots and Path(roots[-1]).resolve() != CHECKOUT:
        name += f" --root {shlex.quote(roots[-1])}"
    return name


def as_typed(text: str) -> str:
    """Replace `golden` in each command between backticks by what a person types here."""
    return re.sub(r"`golden (?=[a-z-])", lambda _: f"`{program()} ", text)
