"""Records of a scan of a build by the rules of a public hardening guide."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from goldenami.core.records import Lax, Record
from goldenami.model.builds.build_records import BuildId
from goldenami.model.supported.scales import HardeningLevel

HARDENING_FILE = "hardening.json"


class RuleOutcome(StrEnum):
    """Outcome of a rule. `unreachable`: the scanner could not decide."""

    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    WAIVED = "waived"
    UNREACHABLE = "unreachable"


class HardeningRule(Record):
    """A rule of the guide that applies to the image. `level` is the lowest that includes it;
    `reason` says why it is waived."""

    id: str
    title: str
    level: Lax[HardeningLevel]
    outcome: Lax[RuleOutcome]
    reason: str = ""


class HardeningScan(Record):
    """The scanner's result, before any waiver. `problem` says why the scan failed, or is ""."""

    content: str = ""
    rules: list[HardeningRule] = Field(default_factory=list)
    problem: str = ""


class HardeningRecord(Record):
    """Outcomes of the guide's rules; `content` names the scanner's version of the guide. If there
    is a `problem`, no score holds."""

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
        """Passed rules of all by level: `minimal 32/34, intermediary 152/181, enhanced 160/211`."""
        if self.problem:
            return f"unreachable: {self.problem}"
        return ", ".join(
            f"{level.value} {self.count(level, RuleOutcome.PASS)}/{self.count(level)}"
            for level in HardeningLevel
        )
