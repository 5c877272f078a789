"""`golden-keep run`: a program that is told of the machine's end by SIGTERM."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from golden_idle import jobs

NOT_FOUND = 127
"""The exit status of a shell for a command that it does not find."""


def run(root: Path, command: list[str]) -> int:
    """Become the command, so that its number and its exit status stay. Return only if it cannot be
    started."""
    try:
        jobs.register(root)
    except OSError as error:
        print(
            f"golden-keep: the command is not told of an end: {error}: "
            "`systemctl status golden-idle`",
            file=sys.stderr,
        )
    try:
        os.execvp(command[0], command)  # noqa: S606 - what the user asks for
    except OSError as error:
        print(f"golden-keep: error: {command[0]}: {error.strerror}", file=sys.stderr)
    return NOT_FOUND
