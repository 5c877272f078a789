"""The subcommands, by what they work on: each module adds its own to the command line with `register`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

ROOT = Path(__file__).resolve().parents[3]
"""The checkout that this file is part of."""


class Add(Protocol):
    """What adds the subcommand `name`; `image` is "1" where it needs an image's name, "?" where it may have one."""

    def __call__(
        self, name: str, run: Callable[[argparse.Namespace], int], image: str = "",
    ) -> argparse.ArgumentParser:
        """Returns the command's own parser, for its options."""
