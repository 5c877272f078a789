"""Packages that bring further commands for `golden`, and parts of the site."""

from __future__ import annotations

import importlib
import tomllib
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from goldenami.model import program_files

ENTRY_POINTS = "goldenami.commands"
"""Group of the entry points of such packages. Each names a package with

* a module for each command, and tables `AREAS` and `CONTINUED` as in cli.py,
* a module `site_parts`: `RECORDS` names the records that the site's bucket keeps for it, and
  `parts(folder)` returns what the site shows of them, by name."""


def _packages() -> list[ModuleType]:
    names = {point.name: point.value for point in metadata.entry_points(group=ENTRY_POINTS)}
    # pip may never have seen a clone: what it would install with it is read from the file. A copy
    # of a part of a clone, for one image, may lack it and has the commands of goldenami alone.
    project = program_files.INSTALLED / "pyproject.toml"
    if project.exists():
        table = tomllib.loads(project.read_text(encoding="utf-8"))
        names |= table["project"]["entry-points"][ENTRY_POINTS]
    return [importlib.import_module(name) for name in names.values()]


PACKAGES = _packages()
"""The packages, without what takes long to import."""


def site_records() -> list[str]:
    """Return the names of records that the packages keep in the site."""
    return [name for module in _site_modules() for name in module.RECORDS]


def site_parts(folder: Path) -> dict[str, Any]:
    """Return the parts of the site that the packages make from the records in its folder."""
    parts = dict[str, Any]()
    for module in _site_modules():
        parts |= module.parts(folder)
    return parts


def _site_modules() -> list[ModuleType]:
    return [importlib.import_module(f"{package.__name__}.site_parts") for package in PACKAGES]
