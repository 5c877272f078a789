"""`parts.json`: what the parts of a tree say of themselves. A build on EC2 has none."""

from __future__ import annotations

from packaging.utils import canonicalize_name
from pydantic import Field

from goldenami.core.records import Record

PARTS_FILE = "parts.json"


class PartFacts(Record):
    """Licence as an SPDX expression, who supplies it, and the keys of the parts that it needs;
    empty: not said."""

    licence: str = ""
    supplier: str = ""
    depends: list[str] = Field(default_factory=list)


class TreeFacts(Record):
    """By the name of a package, and by `wheel_key`."""

    parts: dict[str, PartFacts]


def wheel_key(project: str, version: str) -> str:
    """`wheel:torch 2.9.0`."""
    return f"wheel:{canonicalize_name(project)} {version}"
