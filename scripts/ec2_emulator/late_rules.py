"""Rules that say which calls in which regions are answered late, wrong or not at all."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from goldenami.core.records import Record
from pydantic import Field


class LateMode(StrEnum):
    """What can happen to a call. `lateness` implements each mode and names AWS's page."""

    STALE = "stale"
    """A read answers as it did before a write of the last `seconds`."""
    NOT_FOUND = "not-found"
    """A resource that was made in the last `seconds` is not found yet."""
    IN_USE = "in-use"
    """A resource seems to be in use still if its user was removed in the last `seconds`."""
    REFUSED = "refused"
    """The call is refused with `code` and `status`."""
    THROTTLED = "throttled"
    """The call is refused with the service's error for too many requests."""
    OUT = "out"
    """The region answers that it is unavailable."""
    SLOW = "slow"
    """The call is handled after `seconds`."""
    HANGING = "hanging"
    """No answer for `seconds`, then the connection breaks; a change of the settings ends it
    earlier."""
    CUT = "cut"
    """The connection breaks before the call is handled
    (https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html)."""
    LOST = "lost"
    """The call is carried out, and the connection breaks before the answer. A client cannot tell it
    from `CUT`."""


class LateRule(Record):
    """A mode for some calls. `calls` (`ec2:Describe*`) and `regions` are patterns. The rule applies
    to a `share` of the matching calls, and of those to the first `times` (0: to all)."""

    mode: LateMode
    calls: tuple[str, ...] = ("*",)
    regions: tuple[str, ...] = ("*",)
    share: Annotated[float, Field(ge=0, le=1)] = 1.0
    times: int = 0
    seconds: Annotated[float, Field(ge=0)] = 15.0
    code: str = ""
    status: int = 400
