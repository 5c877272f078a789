"""`parts.json`: facts that packages and wheels of a tree state about themselves. A build on EC2 has
no such file."""

from __future__ import annotations

from packaging.utils import canonicalize_name
from pydantic import Field

from goldenami.core.records import Record

PARTS_FILE = "parts.json"


class PartFacts(Record):
    """Licence as an SPDX expression, supplier, and the keys of the parts that it needs. Empty
    fields are not stated."""

    licence: str = ""
    supplier: str = ""
    depends: list[str] = Field(default_factory=list)


class TreeFacts(Record):
    """Facts by the name of a package, and by `wheel_key`."""

    parts: dict[str, PartFacts]


def wheel_key(project: str, version: str) -> str:
    """Return the key of a wheel, such as `wheel:torch 2.9.0`."""
    return f"wheel:{canonicalize_name(project)} {version}"
