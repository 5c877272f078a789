"""What may differ between a disk and its bake: what a launch made and what is data, by
may_differ.yml, and what a definition allows besides."""

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
"""Why a definition allows a path to differ; empty where it does not."""
_NEVER = re.compile(r".*\.pyc|.*/\.ssh(/.*)?|.*/authorized_keys.*", re.DOTALL)
"""Python runs a .pyc instead of its source, and sshd reads the rest: no definition allows these by
a pattern."""


class Owner(StrEnum):
    """Whose a path is."""

    ROOT = "root"
    PERSON = "person"

    def has(self, uid: int, gid: int) -> bool:
        """Debian gives people ids from 1000 (UID_MIN, login.defs)."""
        return uid >= 1000 and gid >= 1000 if self is Owner.PERSON else uid == gid == 0


class Source(StrEnum):
    """What of a launch says a file's content."""

    KEY = "key"
    HOSTNAME = "hostname"


class _Row(Record):
    """A row of may_differ.yml, which says what its keys mean."""

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
    """What of an area starts by itself."""

    what: str
    text: str = ""


class _Rules(Record):
    made: list[Made]
    data: list[Area]
    starts: list[Start]


def expression(pattern: str) -> str:
    """A regular expression for a path pattern: `*` within a name, `**` any path below."""
    parts = re.split(r"(\*\*/|\*\*|\*)", pattern)
    return "".join(
        {"**/": "(?:[^/]+/)*", "**": ".+", "*": "[^/]*"}.get(part, re.escape(part))
        for part in parts
    )


class MayDiffer:
    """The rows of may_differ.yml that are of an image with these paths."""

    def __init__(self, image: Container[str]) -> None:
        text = Path(__file__).with_suffix(".yml").read_text(encoding="utf-8")
        rules = _Rules.model_validate(yaml.safe_load(text))
        self._made = [row for row in rules.made if row.is_of(image)]
        self._areas = [row for row in rules.data if row.is_of(image)]
        self._starts = rules.starts

    def made(self, path: str) -> Made | None:
        return next((row for row in self._made if row.pattern.fullmatch(path)), None)

    def area(self, path: str) -> str:
        """The area of data that a path is in; empty for one that is in none."""
        if self.made(path):
            return ""
        return next((row.area for row in self._areas if row.pattern.fullmatch(path)), "")

    def start(self, path: str, text: str) -> str:
        """What a file of data with this text starts, or whom it lets in; empty for nothing."""
        rows = (row for row in self._starts if row.pattern.fullmatch(path))
        return next((row.what for row in rows if re.search(row.text, text)), "")

    def areas(self, above: str = "") -> list[tuple[str, str]]:
        """Each area with a regular expression for its paths below `above`, for the reader."""
        made = "|".join(row.expression for row in self._made)
        return [(row.area, f"{above}(?!(?:{made})$){row.expression}") for row in self._areas]

    @property
    def kept(self) -> str:
        """A regular expression for the files whose content is asked for."""
        files = [row for row in self._made if not row.folder]
        return "|".join(row.expression for row in (*files, *self._starts))


def allowed_paths(definition: Definition, today: date) -> Allowed:
    """By the definition; BadInput where a date in it is past: somebody has to look again."""
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
        return next(
            (
                f"{row.path}: {row.reason}, until {row.until}"
                for pattern, row in rows
                if pattern.fullmatch(path)
            ),
            "",
        )

    return reason
