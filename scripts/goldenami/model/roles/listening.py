"""What an image listens on: declared in `listen` of its definition, and by each role in its fact
`__<role>_listens`, in the same form."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from goldenami.core.errors import BadInput
from goldenami.core.records import Lax, Section
from goldenami.model import program_files
from goldenami.model.roles import role_packages
from goldenami.model.supported.platforms import Platform


class Protocol(StrEnum):
    """The protocols that have ports."""

    TCP = "tcp"
    UDP = "udp"


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError(f"`{text}` is no IP address, such as 127.0.0.1") from None


class Listen(Section):
    """A port that a unit of the image listens on."""

    port: Annotated[int, Field(ge=0, le=65535)]
    """its number; 0 is any that the unit takes"""
    unit: Annotated[str, Field(pattern=r"^(kernel|[\w.@:\\-]+\.(service|socket))$")]
    """who listens, such as agent.service; a socket of that name counts, too"""
    protocol: Lax[Protocol] = Protocol.TCP
    """of the port"""
    addresses: list[Annotated[str, AfterValidator(_address)]] = Field(
        default=["127.0.0.1", "::1"], min_length=1
    )
    """where it listens: `0.0.0.0` is all of IPv4, `::` all of both"""


_ROWS = TypeAdapter(list[Listen])


def of_image(
    root: Path,
    platform: Platform,
    roles: Iterable[str],
    variables: Mapping[str, Any],
    declared: list[Listen],
) -> list[dict[str, Any]]:
    """Return the rows of the definition and of its roles as the variable `golden_listen`. `role` is
    empty in those of the definition, which have to listen at each boot."""
    found = {"": declared}
    for role in roles:
        name = f"__{role}_listens"
        rows = role_packages.facts(root, role, platform, variables, only=name).get(name)
        try:
            found[role] = _ROWS.validate_python(rows or [])
        except ValidationError as error:
            raise BadInput(
                f"{program_files.role(root, role)}/vars: {name}: {error.errors()[0]['msg']}",
                hint=f"write `{name}: [{{port: 9100, unit: {role}.service}}]`",
            ) from None
    return [
        {**row.model_dump(mode="json"), "role": role}
        for role, rows in found.items()
        for row in rows
    ]
