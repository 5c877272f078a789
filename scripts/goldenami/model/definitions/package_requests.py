"""Packages that a definition names: those that roles are to install, some in one version
(`name=version`), and those that it leaves out."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from goldenami.core.errors import BadInput
from goldenami.core.yaml_lines import Key, YamlFile
from goldenami.model.definitions.definition import Definition
from goldenami.model.roles import role_order, role_packages
from goldenami.model.supported.platforms import PLATFORMS

ABSENT: Key = ("roles", "customize", "customize_packages_absent")
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_VERSION = re.compile(r"[A-Za-z0-9.+:~-]*")
"""The form of a version (deb-version(7)), or none."""


class PackageRequest(NamedTuple):
    """A package that the definition names at `key`; without a version any will do."""

    key: Key
    name: str
    version: str


def asked(definition: Definition) -> list[PackageRequest]:
    """Return the packages in the lists of all roles."""
    requests = list[PackageRequest]()
    for role, entry in definition.roles.items():
        for variable, names in (entry or {}).items():
            # In a variable of an own role only that role knows what a name means.
            of_role = role in role_order.ROLE_ORDER and variable.endswith("_packages")
            is_list = of_role or variable == "packages"
            for index, text in enumerate((is_list and names) or []):
                name, _, version = text.partition("=")
                requests.append(PackageRequest(("roles", role, variable, index), name, version))
    return requests


def absent(definition: Definition) -> list[str]:
    """Return the packages that the image is to lack."""
    return list(definition.variables("customize").get("customize_packages_absent") or [])


def mistakes(root: Path, source: YamlFile, definition: Definition) -> Iterator[BadInput]:
    """Yield the mistakes that need no archive, each with its line in `source`."""
    versions = dict[str, str]()
    for key, name, version in asked(definition):
        if not _NAME.fullmatch(name) or not _VERSION.fullmatch(version):
            yield source.error(key, "is no package such as htop or htop=3.4.1-5")
        elif version and versions.setdefault(name, version) != version:
            yield source.error(key, f"`{name}` is asked for in version {versions[name]}, too")
    names, platform = absent(definition), PLATFORMS[definition.base.release]
    yield from source.repeated(ABSENT, names)
    for index, name in enumerate(names):
        if not _NAME.fullmatch(name):
            yield source.error((*ABSENT, index), f"`{name}` is no name of a package")
    for role in definition.role_names:
        asked_for = definition.packages(role)
        # The driver's packages depend on what the lock finds.
        with contextlib.suppress(BadInput):
            given = definition.variables(role)
            asked_for += role_packages.packages(root, role, platform, given, asked_for)
        for index, name in enumerate(names):
            if name in [text.partition("=")[0] for text in asked_for]:
                yield source.error((*ABSENT, index), f"`{name}` is asked for by the role {role}")
