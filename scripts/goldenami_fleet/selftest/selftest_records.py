"""What `golden selftest` writes: each step with its time and price, and each deviation of AWS from
what we take it to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Literal

from goldenami.aws.recording import RecordedCall
from goldenami.core.records import Lax, Record
from goldenami.model.builds.build_records import Utc

SELFTEST_FILE, SELFTEST_PAGE = "selftest.json", "selftest.html"


class StepState(StrEnum):
    """What became of a step. `unreachable`: something in the account or here was in its way, which
    says nothing of AWS."""

    SHOWN = "shown"
    DIFFERS = "differs"
    UNREACHABLE = "unreachable"


class Deviation(Record):
    """One thing that AWS did otherwise: in a step, by a rule of the contract with AWS's page about
    it, or by a command (`rule` is then "", `page` too). `call` is what was asked and answered."""

    step: str
    rule: str
    page: str
    expected: str
    actual: str
    call: RecordedCall | None = None

    @property
    def name(self) -> str:
        return f"{self.step}/{self.rule or 'command'}"


class StepResult(Record):
    """One step: what became of it and why, its seconds, the US dollars that it cost at most, and
    the rules that it showed."""

    step: str
    does: str
    state: Lax[StepState]
    why: str = ""
    seconds: float
    usd: float
    rules: tuple[str, ...] = ()


class SelftestRecord(Record):
    """One run. `emulated` is True if it was against the emulator; `left` is what is still there
    after it, with regions; `usd` is the most that it cost, `most_usd` the limit."""

    schema_version: Literal[1] = 1
    version: str
    started_at: Utc
    emulated: bool
    regions: tuple[str, ...]
    usd: float
    most_usd: float
    steps: tuple[StepResult, ...]
    deviations: tuple[Deviation, ...]
    left: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        return not self.deviations and not self.left

    @property
    def counted(self) -> str:
        """The number of deviations, with its noun."""
        count = len(self.deviations)
        return f"{count} {'deviation' if count == 1 else 'deviations'}"

    @property
    def headline(self) -> str:
        """One line for a person."""
        rules = {rule for step in self.steps for rule in step.rules}
        shown = sum(step.state is StepState.SHOWN for step in self.steps)
        unreachable = [step.step for step in self.steps if step.state is StepState.UNREACHABLE]
        text = f"{shown} of {len(self.steps)} steps and {len(rules)} rules shown"
        if unreachable:
            text += f", unreachable: {', '.join(unreachable)}"
        text += f"; {self.counted}; at most ${self.usd:.2f}"
        if self.left:
            text += f"; {len(self.left)} things are left"
        return text


def lines(deviations: Iterable[Deviation]) -> Iterator[str]:
    """Deviations in lines for a person."""
    for deviation in deviations:
        yield f"  {deviation.name}: expected {deviation.expected}; AWS: {deviation.actual}"
        if deviation.call:
            yield f"    {deviation.call}"
        if deviation.page:
            yield f"    {deviation.page}"
