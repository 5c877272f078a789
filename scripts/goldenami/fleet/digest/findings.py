"""What a digest tells: things that changed or want a decision, each with a key by which it is told
once. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum, StrEnum
from typing import Annotated

from pydantic import Field

from goldenami.core.records import Record

WEEKS_OF_MONTH = 365 / 12 / 7


class Urgency(IntEnum):
    """How long a decision can wait; the first come first."""

    NOW = 0
    SOON = 1
    WHEN_THERE_IS_TIME = 2

    @property
    def words(self) -> str:
        return self.name.replace("_", " ").capitalize()


class Kind(StrEnum):
    """What a finding is, in the words of its heading. Of one that `is_event` nothing is left to
    settle when it is no longer found."""

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
        member = str.__new__(cls, words)
        member._value_, member.urgency, member.is_event = words, urgency, is_event
        return member


class DigestFinding(Record):
    """One thing. `subject` says what it is of, in few words; `stage` tells states of one subject
    apart that are each told; `what` is the sentence, `todo` the remedy. `usd_week` are the dollars
    a week that a decision is about, None where they are not known."""

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
    """What could not be looked at, why, and what findings it might have had: those of earlier
    digests still count as told. `is_failure`: it should have been possible."""

    what: str
    why: str
    kinds: list[Annotated[Kind, Field(strict=False)]]
    is_failure: bool = True


_MACHINES = frozenset({Kind.IDLE, Kind.HELD, Kind.UNDERUSED})
"""What may be said of the same hours of one machine."""
_SAVES = _MACHINES | {Kind.EMPTY_DISK, Kind.UNUSED}


def saving(findings: Iterable[DigestFinding]) -> float:
    """US dollars a week that decisions on these could save; an hour of a machine counts once."""
    found = dict[tuple[str, bool], float]()
    for one in findings:
        if one.kind in _SAVES:
            key = one.subject, one.kind in _MACHINES
            found[key] = max(one.usd_week or 0.0, found.get(key, 0.0))
    return sum(found.values())


def worst_first(findings: list[DigestFinding]) -> list[DigestFinding]:
    """By urgency, then by dollars, then by kind and name."""
    kinds = list(Kind)
    return sorted(
        findings,
        key=lambda one: (
            one.kind.urgency,
            -(one.usd_week or 0.0),
            kinds.index(one.kind),
            one.subject,
            one.stage,
        ),
    )
