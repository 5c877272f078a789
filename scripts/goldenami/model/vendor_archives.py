"""Vendors' archives that an image's roles want beside the distribution's own, as the roles state them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from goldenami.model import role_packages
from goldenami.model.definition import Definition
from goldenami.model.platforms import PLATFORMS
from goldenami.packages.mirrors import VendorArchive


def of(root: Path, definition: Definition) -> tuple[VendorArchive, ...]:
    """The archives of every role that states some: `__<role>_archives` in its vars/, a list of tables.

    It is an expression over the role's own variables, empty where the role takes the distribution's packages.
    """
    found = dict[str, VendorArchive]()
    for role in definition.role_names:
        found |= _stated(root, definition, role, definition.variables(role))
    if definition.variables("cuda").get("cuda_source") == "nvidia":  # the same repository, beside any driver or none
        given = {**definition.variables("nvidia_driver"), "nvidia_driver_source": "nvidia"}
        found |= _stated(root, definition, "nvidia_driver", given)
    return tuple(found.values())


def _stated(root: Path, definition: Definition, role: str, given: Mapping[str, Any]) -> dict[str, VendorArchive]:
    name = f"__{role}_archives"
    facts = role_packages.facts(root, role, PLATFORMS[definition.base.release], given, only=name)
    return {entry["archive"]: VendorArchive(**entry) for entry in facts.get(name, [])}
