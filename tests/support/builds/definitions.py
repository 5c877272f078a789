"""Definitions of a checkout that a test edits, and what is said of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from goldenami.core.errors import BadInput, ExitCode
from goldenami.model.definitions import definition_file
from goldenami.model.definitions.definition import Definition

IMAGE = "debian-13-ml-cpu"
PINNED = "gpu-550"
"""An image that `write_pinned` writes: it pins the driver's branch and says nothing of `watch`."""
_PINNED = f"""image: {PINNED}
description: An image with a driver of a branch, and Debian's CUDA
base:
  distribution: debian
  release: trixie
kernel: cloud
disk_size_gib: 10
hardware: [g4dn, g5, g6, g6e]
roles:
  os_updates:
  cuda:
  kernel:
  limits:
  nvidia_driver:
    nvidia_driver_source: debian
    nvidia_driver_branch: "550"
    nvidia_driver_flavour: proprietary
  provenance:
  seal:
"""


def write_pinned(root: Path) -> Path:
    """The definition of PINNED in a checkout."""
    path = root / f"packer/images/{PINNED}.yml"
    path.write_text(_PINNED, encoding="utf-8")
    return path


def edit(root: Path, old: str, new: str, image: str = IMAGE) -> None:
    """Replace the first `old` in the file of `image`; it has to be there."""
    path = definition_file.path_of(root, image)
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


@contextmanager
def edited(root: Path, old: str, new: str, image: str = IMAGE) -> Iterator[None]:
    """As `edit`, until the end of the block: many cases share one checkout."""
    path = definition_file.path_of(root, image)
    before = path.read_text(encoding="utf-8")
    edit(root, old, new, image)
    try:
        yield
    finally:
        path.write_text(before, encoding="utf-8")


def with_variable(role: str, variable: str, text: str) -> tuple[str, str]:
    """What `edit` has to replace in `text` to give `role` a variable; a missing role is added."""
    given = f"  {role}:\n    {variable}\n"
    if f"  {role}:\n" in text:
        return f"  {role}:\n", given
    return "  limits:\n", f"{given}  limits:\n"


def load(root: Path, image: str = IMAGE) -> Definition:
    return definition_file.load(root, definition_file.path_of(root, image))


def refused(root: Path, image: str = IMAGE) -> str:
    """The one-line complaint about a definition, or the first, without the folder of the file."""
    with pytest.raises(BadInput) as caught:
        load(root, image)
    assert caught.value.exit_code is ExitCode.BAD_INPUT
    assert "\n" not in caught.value.message
    first = (caught.value.tail or caught.value.message).splitlines()[0]
    return first.replace(f"{root}/packer/images/", "")
