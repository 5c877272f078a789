"""Collects the archives that an image uses beside the distribution's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from goldenami.core.errors import BadInput
from goldenami.model.definitions.definition import Definition
from goldenami.model.locked.lockfile import Lock
from goldenami.model.roles import role_packages
from goldenami.model.supported.platforms import PLATFORMS
from goldenami.packages.mirrors import VendorArchive


def declared_archives(root: Path, definition: Definition) -> tuple[VendorArchive, ...]:
    """Return the archives of a definition: those of its roles, `__<role>_archives` in their vars/,
    and `extra_repos`. A role's list is an expression over its variables, and empty if the role
    takes the distribution's packages. Raises BadInput if two archives have the same name."""
    return _of(
        root,
        definition.base.release,
        definition.role_names,
        definition.variables,
        definition.extra_repos,
    )


def of_lock(root: Path, lock: Lock) -> tuple[VendorArchive, ...]:
    """Return the archives of a lock, by the variables with which it was made."""
    return _of(
        root,
        lock.base.release,
        lock.roles,
        lambda role: {
            name: value for name, value in lock.variables.items() if name.startswith(f"{role}_")
        },
        lock.extra_repos,
    )


def _of(
    root: Path,
    release: str,
    roles: Iterable[str],
    variables: Callable[[str], Mapping[str, Any]],
    extra_repos: Iterable[VendorArchive],
) -> tuple[VendorArchive, ...]:
    archives = dict[str, VendorArchive]()
    for role in roles:
        archives |= _stated(root, release, role, variables(role))
    # CUDA from NVIDIA comes from the repository of NVIDIA's driver, whatever driver the image has,
    # or none.
    if variables("cuda").get("cuda_source") == "nvidia":
        settings = {**variables("nvidia_driver"), "nvidia_driver_source": "nvidia"}
        archives |= _stated(root, release, "nvidia_driver", settings)
    for repo in extra_repos:
        if repo.name in archives:
            raise BadInput(
                f"the archive `{repo.name}` of extra_repos has the name of a role's",
                hint="give it another name",
            )
        archives[repo.name] = repo
    return tuple(_located(root, repo) for repo in archives.values())


def _stated(
    root: Path, release: str, role: str, overrides: Mapping[str, Any]
) -> dict[str, VendorArchive]:
    name = f"__{role}_archives"
    facts = role_packages.facts(root, role, PLATFORMS[release], overrides, only=name)
    try:
        repos = [VendorArchive.model_validate(entry) for entry in facts.get(name, [])]
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise BadInput(
            f"{root}/roles/{role}/vars: {name}: {key}: {first['msg']}",
            hint="docs/reference.md has the form, under `extra_repos`",
        ) from None
    return {repo.name: repo for repo in repos}


def _located(root: Path, repo: VendorArchive) -> VendorArchive:
    path = root / repo.key
    return repo.model_copy(update={"key": str(path)}) if path.is_file() else repo
