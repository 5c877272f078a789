"""Rules for differences between a disk and its bake: may_differ.yml has what a launch makes and
what is data, a definition what it allows besides."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Container
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field

from goldenami.core.errors import BadInput
from goldenami.core.records import Record
from goldenami.model.definitions.definition import Definition

Allowed = Callable[[str], str]
"""Function that returns why a definition allows a path to differ, or "" if it does not."""
_NEVER = re.compile(r".*\.pyc|.*/\.ssh(/.*)?|.*/authorized_keys.*", re.DOTALL)
"""Python runs a .pyc instead of its source, and sshd reads the rest: no pattern of a definition
allows these."""


class Owner(StrEnum):
    """The owner of a path."""

    ROOT = "root"
    PERSON = "person"

    def has(self, uid: int, gid: int) -> bool:
        """Return whether the owner has these ids: Debian gives people ids from 1000 (UID_MIN,
        login.defs)."""
        return uid >= 1000 and gid >= 1000 if self is Owner.PERSON else uid == gid == 0


class Source(StrEnum):
    """The part of a launch that a file's content has to match."""

    KEY = "key"
    HOSTNAME = "hostname"


class _Row(Record):
    """A row of may_differ.yml, which explains its keys."""

    paths: Annotated[list[str], Field(min_length=1)]
    but: list[str] = Field(default_factory=list)
    where: list[str] = Field(default_factory=list)

    @functools.cached_property
    def expression(self) -> str:
        named = "|".join(map(expression, self.paths))
        kept = "|".join(map(expression, self.but))
        return f"(?!(?:{kept})$)(?:{named})" if kept else f"(?:{named})"

    @functools.cached_property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(self.expression, re.DOTALL)

    def is_of(self, image: Container[str]) -> bool:
        """Return whether the row is for an image with these paths."""
        return not self.where or any(path in image for path in self.where)


class Made(_Row):
    """Paths that a first boot makes."""

    modes: Annotated[list[str], Field(min_length=1)]
    why: str
    folder: bool = False
    owner: Annotated[Owner, Field(strict=False)] = Owner.ROOT
    launch: Annotated[Source | None, Field(strict=False)] = None
    alike: bool = False


class Area(_Row):
    """Paths that people and services write."""

    area: str


class Start(_Row):
    """A file in an area that starts something by itself."""

    what: str
    text: str = ""


class _Rules(Record):
    made: list[Made]
    data: list[Area]
    starts: list[Start]


def expression(pattern: str) -> str:
    """Return a regular expression for a path pattern: `*` within a name, `**` any path below."""
    wildcards = {"**/": "(?:[^/]+/)*", "**": ".+", "*": "[^/]*"}
    parts = re.split(r"(\*\*/|\*\*|\*)", pattern)
    return "".join(wildcards.get(part, re.escape(part)) for part in parts)


class MayDiffer:
    """The rows of may_differ.yml that are for an image with these paths."""

    def __init__(self, image: Container[str]) -> None:
        text = Path(__file__).with_suffix(".yml").read_text(encoding="utf-8")
        rules = _Rules.model_validate(yaml.safe_load(text))
        self._made = [row for row in rules.made if row.is_of(image)]
        self._areas = [row for row in rules.data if row.is_of(image)]
        self._starts = rules.starts

    def made(self, path: str) -> Made | None:
        return next((row for row in self._made if row.pattern.fullmatch(path)), None)

    def area(self, path: str) -> str:
        """Return the area of data that a path is in, or ""."""
        # What a launch makes is compared, also within an area.
        if self.made(path):
            return ""
        return next((row.area for row in self._areas if row.pattern.fullmatch(path)), "")

    def start(self, path: str, text: str) -> str:
        """Return what a file of data with this text starts, or whom it lets in; "" for nothing."""
        rows = (row for row in self._starts if row.pattern.fullmatch(path))
        return next((row.what for row in rows if re.search(row.text, text)), "")

    def areas(self, above: str = "") -> list[tuple[str, str]]:
        """Return each area with a regular expression for its paths below `above`, for the
        reader."""
        made_paths = "|".join(row.expression for row in self._made)
        return [(row.area, f"{above}(?!(?:{made_paths})$){row.expression}") for row in self._areas]

    @property
    def kept(self) -> str:
        """Regular expression for the files whose content is needed."""
        files = [row for row in self._made if not row.folder]
        return "|".join(row.expression for row in (*files, *self._starts))


def allowed_paths(definition: Definition, today: date) -> Allowed:
    """Return what the definition allows. Raises BadInput if a date in it is past: somebody has to
    check again."""
    for index, row in enumerate(definition.drift.allow, 1):
        if row.until < today:
            raise BadInput(
                f"packer/images/{definition.image}.yml: drift.allow.{index}.until: "
                f"{row.path} was allowed to differ until {row.until}",
                hint="bake it into the image, or state a later date and why",
            )
    rows = [(re.compile(expression(row.path), re.DOTALL), row) for row in definition.drift.allow]

    def reason(path: str) -> str:
        if _NEVER.fullmatch(path):
            return ""
        for pattern, row in rows:
            if pattern.fullmatch(path):
                return f"{row.path}: {row.reason}, until {row.until}"
        return ""

    return reason
