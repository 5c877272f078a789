"""Vendors' archives that an image's roles want beside the distribution's own, as the roles state
them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from goldenami.model.builds.lockfile import Lock
from goldenami.model.definitions import role_packages
from goldenami.model.definitions.definition import Definition
from goldenami.model.supported.platforms import PLATFORMS
from goldenami.packages.mirrors import VendorArchive


def of(root: Path, definition: Definition) -> tuple[VendorArchive, ...]:
    """The archives of every role that states some: `__<role>_archives` in its vars/, a list of
    tables.

    It is an expression over the role's own variables, empty where the role takes the distribution's
    packages.
    """
    return _of(root, definition.base.release, definition.role_names, definition.variables)


def of_lock(root: Path, lock: Lock) -> tuple[VendorArchive, ...]:
    """The same of a lock, by the variables that it was made with."""
    return _of(root, lock.base.release, lock.roles, lambda role: {
        name: value for name, value in lock.variables.items() if name.startswith(f"{role}_")})


def _of(
    root: Path, release: str, roles: Iterable[str], variables: Callable[[str], Mapping[str, Any]],
) -> tuple[VendorArchive, ...]:
    found = dict[str, VendorArchive]()
    for role in roles:
        found |= _stated(root, release, role, variables(role))
    # The same repository, beside any driver or none.
    if variables("cuda").get("cuda_source") == "nvidia":
        given = {**variables("nvidia_driver"), "nvidia_driver_source": "nvidia"}
        found |= _stated(root, release, "nvidia_driver", given)
    return tuple(found.values())


def _stated(
    root: Path, release: str, role: str, given: Mapping[str, Any]
) -> dict[str, VendorArchive]:
    name = f"__{role}_archives"
    facts = role_packages.facts(root, role, PLATFORMS[release], given, only=name)
    return {entry["archive"]: VendorArchive(**entry) for entry in facts.get(name, [])}
