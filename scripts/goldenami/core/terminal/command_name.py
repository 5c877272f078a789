"""How a person types this program: messages name a command by `golden NAME`."""

from __future__ import annotations

import itertools
import re
import shlex
import shutil
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[4]
"""What this module is in; of an installation no checkout."""
WORDS = "goldenami.words"
"""The key of the command line in Typer's context, for a command that names itself."""


def program() -> str:
    """`golden` where that is installed; else the checkout's own, from wherever it was called."""
    started, shim, short = Path(sys.argv[0]), CHECKOUT / "scripts/golden", Path("scripts/golden")
    name = "golden"
    if started.name == name and shutil.which(name) != str(started):
        name = shlex.quote(str(started))
    elif started.name != name and shim.exists():
        is_here = short.exists() and short.samefile(shim)  # as `make` has it
        name = str(short) if is_here else shlex.quote(str(shim))
    # The last one counts: a checkout's own program has one before all that a person gives.
    given = [value for word, value in itertools.pairwise(sys.argv[1:]) if word == "--root"]
    if given and Path(given[-1]).resolve() != CHECKOUT:
        name += f" --root {shlex.quote(given[-1])}"
    return name


def as_typed(text: str) -> str:
    """Each command between backticks as a person types it here."""
    return re.sub(r"`golden (?=[a-z-])", lambda _: f"`{program()} ", text)
