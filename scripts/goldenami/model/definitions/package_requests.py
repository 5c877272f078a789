"""Packages that a definition names: those that roles are to install, some in one version
(`name=version`), and those that it leaves out."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from goldenami.core.errors import BadInput
from goldenami.core.yaml_lines import Key, YamlFile
from goldenami.model.definitions.definition import Definition
from goldenami.model.roles import role_order, role_packages
from goldenami.model.supported.platforms import PLATFORMS

ABSENT: Key = ("roles", "customize", "customize_packages_absent")
_REQUEST = re.compile(r"([a-z0-9][a-z0-9+.-]+)(?:=([A-Za-z0-9.+:~-]+))?")
"""A package's name, and perhaps a version (deb-version(7))."""


@dataclass(frozen=True)
class PackageRequest:
    """What the definition says at `key`: `name`, or `name=version` for exactly that one."""

    key: Key
    text: str

    @property
    def name(self) -> str:
        return self.text.partition("=")[0]

    @property
    def version(self) -> str:
        return self.text.partition("=")[2]


def asked(definition: Definition) -> list[PackageRequest]:
    """Return the packages in the lists of all roles."""
    requests = list[PackageRequest]()
    for role, entry in definition.roles.items():
        for variable, names in (entry or {}).items():
            # In a variable of an own role only that role knows what a name means.
            of_role = role in role_order.ROLE_ORDER and variable.endswith("_packages")
            if of_role or variable == "packages":
                for index, text in enumerate(names or []):
                    requests.append(PackageRequest(("roles", role, variable, index), text))
    return requests


def absent(definition: Definition) -> list[str]:
    """Return the packages that the image is to lack."""
    return list(definition.variables(ABSENT[1]).get(ABSENT[2]) or [])


def mistakes(root: Path, source: YamlFile, definition: Definition) -> Iterator[BadInput]:
    """Yield the mistakes that need no archive, each with its line in `source`."""
    versions = dict[str, str]()
    for request in asked(definition):
        if not _REQUEST.fullmatch(request.text):
            yield source.error(
                request.key, f"`{request.text}` is no package such as htop or htop=3.4.1-5"
            )
        elif request.version:
            other = versions.setdefault(request.name, request.version)
            if other != request.version:
                yield source.error(
                    request.key, f"`{request.name}` is asked for in version {other}, too"
                )
    askers, names = _askers(root, definition), absent(definition)
    yield from source.repeated(ABSENT, names)
    for index, name in enumerate(names):
        match = _REQUEST.fullmatch(name)
        if match is None or match[2]:
            yield source.error((*ABSENT, index), f"`{name}` is no name of a package")
        elif name in askers:
            yield source.error(
                (*ABSENT, index),
                f"`{name}` is asked for by the role {askers[name]}",
                hint="take it out of one of the two",
            )


def _askers(root: Path, definition: Definition) -> dict[str, str]:
    """Return the role that installs each package, as far as no lock has to choose."""
    askers, platform = dict[str, str](), PLATFORMS[definition.base.release]
    for role in definition.role_names:
        names = definition.packages(role)
        # The driver's packages depend on what the lock finds.
        with contextlib.suppress(BadInput):
            names += role_packages.packages(root, role, platform, definition.variables(role))
        askers |= {name.partition("=")[0]: role for name in names}
    return askers
