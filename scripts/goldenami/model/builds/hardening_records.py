"""How hard a build is, by a public guide."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from goldenami.core.records import Lax, Record
from goldenami.model.builds.build_records import BuildId
from goldenami.model.supported.scales import HardeningLevel

HARDENING_FILE = "hardening.json"


class RuleOutcome(StrEnum):
    """What became of a rule; `unreachable`: nobody could tell."""

    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    WAIVED = "waived"
    UNREACHABLE = "unreachable"


class HardeningRule(Record):
    """One rule of the guide that fits the image; `level` is the lowest that has it, `reason` why it
    is waived."""

    id: str
    title: str
    level: Lax[HardeningLevel]
    outcome: Lax[RuleOutcome]
    reason: str = ""


class HardeningScan(Record):
    """What the scanner said, before anything is waived. With a `problem` it could not look."""

    content: str = ""
    rules: list[HardeningRule] = Field(default_factory=list)
    problem: str = ""


class HardeningRecord(Record):
    """The rules of the guide of `content` and what became of each. With a `problem` no score is to
    be believed."""

    schema_version: Literal[1] = 1
    image: str
    build_id: BuildId
    content: str
    rules: list[HardeningRule]
    problem: str = ""

    def count(self, level: HardeningLevel, outcome: RuleOutcome | None = None) -> int:
        return sum(
            rule.level in level.within and outcome in (None, rule.outcome) for rule in self.rules
        )

    def __str__(self) -> str:
        """`minimal 32/34, intermediary 152/181, enhanced 160/211`: rules of ANSSI BP-028."""
        if self.problem:
            return f"unreachable: {self.problem}"
        return ", ".join(
            f"{level.value} {self.count(level, RuleOutcome.PASS)}/{self.count(level)}"
            for level in HardeningLevel
        )
