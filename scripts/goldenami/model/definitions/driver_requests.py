"""Requests of a definition for the NVIDIA driver, one for each branch and flavour to try."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from goldenami.core.errors import BadInput
from goldenami.model.definitions.definition import ANY, NEWEST, Definition
from goldenami.model.roles import role_packages
from goldenami.model.supported import compatibility, hardware
from goldenami.model.supported.platforms import PLATFORMS

VERSION = "VERSION"
"""Placeholder of the driver's version in the role's facts until a candidate is tried."""

GSP_VARIABLE = "nvidia_driver_gsp_enabled"


@dataclass(frozen=True)
class DriverRequest:
    """Packages of one driver branch in one flavour, by the role's facts."""

    branch: str
    flavour: str
    dkms_package: str
    userland_package: str
    pinned_sources: list[str]
    provides: list[str]
    source_packages: list[str] = field(default_factory=list)
    """Packages with the source, if the DKMS package has only its configuration."""


def requests(
    root: Path,
    definition: Definition,
    overrides: Mapping[str, Any],
    *,
    branches: Sequence[str] = (),
) -> list[DriverRequest]:
    """Return the requests to try, open modules before proprietary ones. `overrides` has the role's
    variables; `branches` replace those of the definition."""
    settings = role_packages.variables(root, "nvidia_driver", overrides)
    requests = list[DriverRequest]()
    for flavour in _flavours(root, definition, settings):
        for branch in branches or _branches(root, definition, overrides, settings, flavour):
            requests.append(_request(root, definition, overrides, flavour, branch))
    return requests


def _flavours(root: Path, definition: Definition, settings: Mapping[str, Any]) -> list[str]:
    wanted_flavour = settings["nvidia_driver_flavour"]
    open_only, closed_only = hardware.by_modules(hardware.load(root), definition.hardware)
    flavours = [wanted_flavour]
    if wanted_flavour == ANY:
        flavours = []
        if not closed_only:
            flavours.append("open")
        if not open_only:
            flavours.append("proprietary")
    for flavour in flavours or ["open"]:
        compatibility.check_flavour(flavour, open_only, closed_only)
    return flavours


def _branches(
    root: Path,
    definition: Definition,
    overrides: Mapping[str, Any],
    settings: Mapping[str, Any],
    flavour: str,
) -> list[str]:
    branch = str(settings["nvidia_driver_branch"])
    if branch != NEWEST:
        return [branch]
    listed_branches: dict[str, list[str]] = _facts(root, definition, overrides, flavour, branch)[
        "__nvidia_driver_branches"
    ]
    if settings["nvidia_driver_source"] != "debian" or not listed_branches.get(flavour):
        raise BadInput(
            f"nvidia_driver_branch: {NEWEST}: the branches of this source are not listed",
            hint="name a branch, or take nvidia_driver_source: debian",
        )
    return listed_branches[flavour]


def without_gsp(root: Path, definition: Definition, flavour: str) -> list[str]:
    """Return the families for which the GSP firmware is turned off. It is [] if the definition
    decides that, or with the open modules, which always use the firmware."""
    if flavour != "proprietary" or GSP_VARIABLE in definition.variables("nvidia_driver"):
        return []
    return hardware.without_gsp(root, definition.hardware)


def _facts(
    root: Path, definition: Definition, overrides: Mapping[str, Any], flavour: str, branch: str
) -> dict[str, Any]:
    return role_packages.facts(
        root,
        "nvidia_driver",
        PLATFORMS[definition.base.release],
        {
            **overrides,
            "nvidia_driver_flavour": flavour,
            "nvidia_driver_branch": branch,
            "nvidia_driver_version": VERSION,
            "nvidia_driver_kernel_release": "",
            "nvidia_driver_modules_package": "",
        },
    )


def _request(
    root: Path, definition: Definition, overrides: Mapping[str, Any], flavour: str, branch: str
) -> DriverRequest:
    names = _facts(root, definition, overrides, flavour, branch)
    return DriverRequest(
        branch=branch,
        flavour=flavour,
        dkms_package=names["__nvidia_driver_dkms_package"],
        userland_package=names["__nvidia_driver_userland_package"],
        pinned_sources=names["__nvidia_driver_pinned_sources"],
        provides=names["__nvidia_driver_modules_provides"],
        source_packages=names["__nvidia_driver_source_packages"],
    )
