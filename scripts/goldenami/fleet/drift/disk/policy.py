"""What may differ between a disk and its bake: the rules of policy.yml, and what a definition
allows besides."""

from __future__ import annotations

import functools
import re
from collections.abc import Container, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field

from goldenami.core.records import Record

USER = "USER"
"""Stands for the default user's name."""


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
        """What matches a path of this rule."""
        return re.compile("|".join(map(expression, self.paths)), re.DOTALL)

    def __str__(self) -> str:
        return f"{', '.join(self.paths)}: {self.may.value} ({self.reason})"


def expression(pattern: str) -> str:
    """A regular expression for a path pattern: `*` within a name, `**` any path below."""
    parts = re.split(r"(\*\*/|\*\*|\*)", pattern)
    return "".join({"**/": "(?:[^/]+/)*", "**": ".+", "*": "[^/]*"}.get(part, re.escape(part))
                   for part in parts)


@dataclass(frozen=True)
class Policy:
    """The rules, for one default user."""

    rules: Sequence[Rule]
    user: str

    @classmethod
    def read(cls, user: str, image: Container[str]) -> Policy:
        """The rules of policy.yml that are of an image with these paths."""
        text = Path(__file__).with_name("policy.yml").read_text(encoding="utf-8")
        rules = [Rule.model_validate(row) for row in yaml.safe_load(text)]
        return cls([rule for rule in rules if not rule.where
                    or any(path in image for path in rule.where)], user)

    def rule(self, path: str) -> Rule | None:
        """The rule that decides on a path; None where nothing may change."""
        return next((rule for rule in self.rules if rule.pattern.fullmatch(path)), None)

    @property
    def kept(self) -> str:
        """A regular expression for the paths whose content the rules look at."""
        read = (Freedom.CONTENT, Freedom.ACCOUNTS)
        return "|".join(expression(path) for rule in self.rules if rule.may in read
                        for path in rule.paths)
