"""The findings of a digest: changes, and things that need a decision. A finding's key makes sure
that it is reported only once. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum, StrEnum
from typing import Annotated

from goldenami.core.records import Record
from pydantic import Field

WEEKS_OF_MONTH = 365 / 12 / 7


class Urgency(IntEnum):
    """How long a decision can wait; the most urgent first."""

    NOW = 0
    SOON = 1
    WHEN_THERE_IS_TIME = 2

    @property
    def words(self) -> str:
        return self.name.replace("_", " ").capitalize()


class Kind(StrEnum):
    """The kind of a finding; the value is its heading. A finding whose kind `is_event` needs no
    notice when it is no longer found."""

    urgency: Urgency
    is_event: bool

    VULNERABLE = "known vulnerabilities", Urgency.NOW
    ENDED = "ended support", Urgency.NOW
    DRIFT = "drift", Urgency.NOW
    OVERSPENT = "spending", Urgency.NOW, True
    ANOMALY = "unusual costs", Urgency.NOW, True
    ENDING = "commitments that end", Urgency.SOON, True
    IDLE = "idle machines", Urgency.SOON
    HELD = "holds without an end", Urgency.SOON
    UNDERUSED = "machines that are too large", Urgency.SOON
    UNUSED_COMMITMENT = "commitments that are not used", Urgency.SOON
    REVIEW = "commitments to review", Urgency.SOON, True
    EMPTY_DISK = "disks that are too large", Urgency.WHEN_THERE_IS_TIME
    UNUSED = "builds that nobody runs", Urgency.WHEN_THERE_IS_TIME

    def __new__(cls, words: str, urgency: Urgency, is_event: bool = False) -> Kind:
        # Extra attributes need __new__: StrEnum would read them as arguments of str().
        member = str.__new__(cls, words)
        member._value_, member.urgency, member.is_event = words, urgency, is_event
        return member


class DigestFinding(Record):
    """One finding. `subject` names the machine, image or commitment. `stage` is the subject's
    state: each state of one subject is reported. `what` is the sentence, `todo` the remedy.
    `usd_week` are the US dollars a week that the decision is about, or None if unknown."""

    kind: Annotated[Kind, Field(strict=False)]
    subject: str
    what: str
    todo: str
    stage: str = ""
    owner: str = ""
    usd_week: float | None = None

    @property
    def key(self) -> str:
        return f"{self.kind.value}|{self.subject}|{self.stage}"


class Gap(Record):
    """A part that could not be read, and why. `kinds` are the findings that it might have had:
    earlier ones of these kinds remain reported. `is_failure` is False for an expected gap, such as
    a lock that is not on this machine."""

    what: str
    why: str
    kinds: list[Annotated[Kind, Field(strict=False)]]
    is_failure: bool = True


_MACHINES = frozenset({Kind.IDLE, Kind.HELD, Kind.UNDERUSED})
"""Kinds that can be about the same hours of one machine."""
_SAVES = _MACHINES | {Kind.EMPTY_DISK, Kind.UNUSED}


def saving(findings: Iterable[DigestFinding]) -> float:
    """US dollars a week that decisions on these findings could save."""
    usd_by_subject = dict[tuple[str, bool], float]()
    for finding in findings:
        if finding.kind in _SAVES:
            # One machine may be idle, held and too large at once: its hours count only once.
            key = finding.subject, finding.kind in _MACHINES
            usd_by_subject[key] = max(finding.usd_week or 0.0, usd_by_subject.get(key, 0.0))
    return sum(usd_by_subject.values())


def worst_first(findings: list[DigestFinding]) -> list[DigestFinding]:
    """Sort by urgency, then by dollars, then by kind and name."""
    kinds = list(Kind)
    return sorted(
        findings,
        key=lambda finding: (
            finding.kind.urgency,
            -(finding.usd_week or 0.0),
            kinds.index(finding.kind),
            finding.subject,
            finding.stage,
        ),
    )
