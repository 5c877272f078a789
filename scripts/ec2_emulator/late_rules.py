"""Lateness as data: which calls of which regions answer late, wrong or not at all."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from goldenami.core.records import Record
from pydantic import Field


class LateMode(StrEnum):
    """What a call may meet. `lateness` keeps each, with AWS's page."""

    STALE = "stale"
    """A read answers as it did before a write of the last `seconds`."""
    NOT_FOUND = "not-found"
    """What was made in the last `seconds` is not known yet."""
    IN_USE = "in-use"
    """What was held by something that went in the last `seconds` seems held still."""
    REFUSED = "refused"
    """The call is refused with `code` and `status`."""
    THROTTLED = "throttled"
    """The call is refused in the service's word for too many."""
    OUT = "out"
    """The region answers that it is not available."""
    SLOW = "slow"
    """The call is looked at after `seconds`."""
    HANGING = "hanging"
    """No answer for `seconds`, then the connection breaks; a change of the settings ends it
    earlier."""
    CUT = "cut"
    """The connection breaks before the call is looked at
    (https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html)."""
    LOST = "lost"
    """The call is carried out and the connection breaks before the answer: both look alike."""


class LateRule(Record):
    """One mode for some calls. `calls` (`ec2:Describe*`) and `regions` are patterns; `share` of
    them are met, and of those the first `times` (0: all)."""

    mode: LateMode
    calls: tuple[str, ...] = ("*",)
    regions: tuple[str, ...] = ("*",)
    share: Annotated[float, Field(ge=0, le=1)] = 1.0
    times: int = 0
    seconds: Annotated[float, Field(ge=0)] = 15.0
    code: str = ""
    status: int = 400
