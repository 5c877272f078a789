"""What may differ between a disk and its bake: the rules of policy.yml, and what a definition
allows besides."""

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

USER = "USER"
"""Stands for the default user's name."""
Allowed = Callable[[str], str]
"""Why a definition allows a path to differ; empty where it does not."""


class Freedom(StrEnum):
    """What a rule leaves free; policy.yml says what each means."""

    ANYTHING = "anything"
    DATA = "data"
    LAYERS = "layers"
    FOLDERS = "folders"
    LINK = "link"
    CONTENT = "content"
    ACCOUNTS = "accounts"
    MODES = "modes"
    NOTHING = "nothing"


class Rule(Record):
    """One rule of policy.yml."""

    paths: Annotated[list[str], Field(min_length=1)]
    may: Annotated[Freedom, Field(strict=False)]
    reason: str
    modes: list[str] = Field(default_factory=list)
    owner: str = ""
    text: str = ""
    form: str = ""
    where: list[str] = Field(default_factory=list)

    @functools.cached_property
    def pattern(self) -> re.Pattern[str]:
        return re.compile("|".join(map(expression, self.paths)), re.DOTALL)

    def __str__(self) -> str:
        return f"{', '.join(self.paths)}: {self.may.value} ({self.reason})"


def expression(pattern: str) -> str:
    """A regular expression for a path pattern: `*` within a name, `**` any path below."""
    parts = re.split(r"(\*\*/|\*\*|\*)", pattern)
    return "".join({"**/": "(?:[^/]+/)*", "**": ".+", "*": "[^/]*"}.get(part, re.escape(part))
                   for part in parts)


class Policy:
    """The rules of policy.yml that are of an image with these paths."""

    def __init__(self, image: Container[str]) -> None:
        text = Path(__file__).with_name("policy.yml").read_text(encoding="utf-8")
        rules = [Rule.model_validate(row) for row in yaml.safe_load(text)]
        self._rules = [rule for rule in rules
                       if not rule.where or any(path in image for path in rule.where)]

    def rule(self, path: str) -> Rule | None:
        """The rule that decides on a path; None where nothing may change."""
        return next((rule for rule in self._rules if rule.pattern.fullmatch(path)), None)

    @property
    def kept(self) -> str:
        """A regular expression for the paths whose content the rules look at."""
        read = (Freedom.CONTENT, Freedom.ACCOUNTS)
        return "|".join(expression(path) for rule in self._rules if rule.may in read
                        for path in rule.paths)


def allowed_paths(definition: Definition, today: date) -> Allowed:
    """By the definition; BadInput where a date in it is past: somebody has to look again."""
    for index, row in enumerate(definition.drift.allow, 1):
        if row.until < today:
            raise BadInput(f"packer/images/{definition.image}.yml: drift.allow.{index}.until: "
                           f"{row.path} was allowed to differ until {row.until}",
                           hint="bake it into the image, or state a later date and why")
    rows = [(re.compile(expression(row.path), re.DOTALL), row) for row in definition.drift.allow]

    def reason(path: str) -> str:
        return next((f"{row.path}: {row.reason}, until {row.until}" for pattern, row in rows
                     if pattern.fullmatch(path)), "")

    return reason
