"""The hardening record of a build: the scanner's results, without the rules that
packer/hardening.yml waives with a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from goldenami.core import yaml_lines
from goldenami.core.records import Record
from goldenami.model import program_files
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.hardening_records import (
    HardeningRecord,
    HardeningRule,
    HardeningScan,
    RuleOutcome,
)
from goldenami.model.supported.scales import HardeningLevel

PATH = "packer/hardening.yml"


class _Expected(Record):
    waived: dict[str, Annotated[str, Field(min_length=10)]]
    rules: dict[Annotated[HardeningLevel, Field(strict=False)], int]


def judge(root: Path, build: BuildFolder, scan: HardeningScan) -> HardeningRecord:
    """The record of `scan`. If fewer rules were checked than expected, its `problem` says so: the
    score is not to be believed then."""
    expected = yaml_lines.validate(program_files.table(root, PATH, depth=2), _Expected)
    record = HardeningRecord(
        image=build.image.image,
        build_id=build.build_id,
        content=scan.content,
        problem=scan.problem,
        rules=[_waived(rule, expected.waived) for rule in scan.rules],
    )
    # A scanner that leaves rules out makes the score better than it is.
    shortfalls = list[str]()
    for level, count in expected.rules.items():
        if (asked := record.count(level)) < count:
            shortfalls.append(f"{asked} of {count} {level.value} rules were asked")
    return record.model_copy(update={"problem": record.problem or "; ".join(shortfalls)})


def _waived(rule: HardeningRule, waived: dict[str, str]) -> HardeningRule:
    if rule.outcome is RuleOutcome.PASS or rule.id not in waived:
        return rule
    return rule.model_copy(update={"outcome": RuleOutcome.WAIVED, "reason": waived[rule.id]})
