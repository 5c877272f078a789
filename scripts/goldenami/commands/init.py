"""Commands that write what a repository of images begins with."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from goldenami.commands.checkout import Checkout
from goldenami.image.scaffold import templates


def cmd_init(
    _: Checkout,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="it is not there, or empty")],
) -> int:
    """Write a repository of your own images: a definition that bakes, Makefile, CI."""
    templates.write_repository(folder)
    print(f"next: cd {shlex.quote(str(folder))} && make bake", file=sys.stderr, flush=True)
    return 0


def cmd_new_role(
    checkout: Checkout,
    name: Annotated[str, typer.Argument(metavar="NAME", help="as its variables begin")],
) -> int:
    """Write a role of your own to start from, with its check and Molecule scenario."""
    for folder in templates.write_role(checkout.root, name):
        print(f"{folder}/")
    print(f"next: write `{name}:` below `roles:` of a definition in packer/images/",
          file=sys.stderr, flush=True)
    return 0
