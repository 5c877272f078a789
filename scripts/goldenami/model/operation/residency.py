"""Regions in which an image may be."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

from pydantic import Field

from goldenami.core import yaml_lines
from goldenami.core.errors import BadInput
from goldenami.core.records import Record, Section

FILE = "packer/residency.yml"
WORLDWIDE = frozenset({"budgets", "ce", "iam", "organizations", "pricing", "savingsplans"})
"""Services that belong to no region, though their addresses may name one. They hold prices, bills
and rights of the whole account, and nothing of an image."""
_ECR = re.compile(r"\d{12}\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.(com(\.cn)?|eu)")
"""Host of an account's private registry (ECR's user guide, "Private registry concepts")."""

Pattern = Annotated[str, Field(pattern=r"^[a-z]{2,4}(-[a-z*]+)*-([0-9]{1,2}|\*)$")]


class Residency(Section):
    """The section `residency` of a definition, or packer/residency.yml, which is for all images. No
    part of it shapes an image."""

    regions: Annotated[list[Pattern], Field(min_length=1)]
    """regions that are allowed, such as `eu-central-1` or `eu-*`"""


class AllowedRegions(Record):
    """Rules with the places where they are written, such as `packer/residency.yml`. A region has to
    fit all of them, or be in `also`: from those regions a command only reads, or removes
    something."""

    rules: tuple[tuple[str, tuple[str, ...]], ...]
    also: frozenset[str] = frozenset()

    def allows(self, region: str) -> bool:
        return not self.refusal(region)

    def refusal(self, region: str) -> str:
        """Return why a region is not allowed, or "" if it is."""
        if region in self.also:
            return ""
        for where, patterns in self.rules:
            if not any(fnmatchcase(region, pattern) for pattern in patterns):
                return f"{region} is not allowed: {where} allows {', '.join(patterns)}"
        return ""

    def require(self, region: str) -> None:
        if refused := self.refusal(region):
            raise BadInput(
                refused,
                hint="name an allowed region (`--region`, AWS_REGION, the address in "
                "the environment), or change `residency`",
            )

    def first(self, regions: Iterable[str]) -> str | None:
        return next(filter(self.allows, regions), None)


def registry_region(host: str) -> str:
    """Return the region of a registry of ECR, or "" for any other registry."""
    match = _ECR.fullmatch(host)
    return match[1] if match else ""


def of_repository(root: Path) -> Residency | None:
    """Return the content of packer/residency.yml, or None if there is no such file."""
    path = root / FILE
    if not path.exists():
        return None
    return yaml_lines.validate(yaml_lines.load(path), Residency)


def allowed(root: Path, sections: Iterable[tuple[str, Residency | None]]) -> AllowedRegions:
    """Return the rules of the repository and of `sections`, which are pairs of a name and a
    section."""
    rules = [(FILE, of_repository(root)), *sections]
    return AllowedRegions(
        rules=tuple((name, tuple(section.regions)) for name, section in rules if section)
    )
