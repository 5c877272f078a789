"""Lateness as data: which calls of which regions answer late, wrong or not at all; and the choice,
by seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Annotated

from goldenami.core.records import Record
from pydantic import Field


class LateMode(StrEnum):
    """What a call may meet. `lateness` keeps each as a rule, with AWS's page."""

    STALE = "stale"
    """A read answers as it did before a write of the last `seconds`."""
    NOT_FOUND = "not-found"
    """What was made in the last `seconds` is not known yet."""
    IN_USE = "in-use"
    """What was held by something that went in the last `seconds` seems held still."""
    THROTTLED = "throttled"
    """The call is refused in the service's word for too many."""
    OUT = "out"
    """The region answers that it is not available."""
    HANGING = "hanging"
    """No answer for `seconds`, then the connection breaks; a change of the settings ends it
    earlier."""
    CUT = "cut"
    """The connection breaks before the call is looked at."""
    LOST = "lost"
    """The call is carried out and the connection breaks before the answer."""


class LateRule(Record):
    """One mode for some calls. `calls` (`ec2:Describe*`) and `regions` are patterns; `share` of
    them are met."""

    mode: LateMode
    calls: tuple[str, ...] = ("*",)
    regions: tuple[str, ...] = ("*",)
    share: Annotated[float, Field(ge=0, le=1)] = 1.0
    seconds: Annotated[float, Field(ge=0)] = 15.0


def met(
    rules: Sequence[LateRule], seed: int, number: int, call: str, region: str
) -> Iterator[LateRule]:
    """The rules that the `number`th call meets; the same seed and order of calls meet the same
    ones."""
    def fits(text: str, patterns: Sequence[str]) -> bool:
        return any(fnmatchcase(text, each) for each in patterns)

    for index, rule in enumerate(rules):
        dice = random.Random(f"{seed} {index} {number}")  # noqa: S311 - no secret
        if fits(call, rule.calls) and fits(region, rule.regions) and dice.random() < rule.share:
            yield rule
