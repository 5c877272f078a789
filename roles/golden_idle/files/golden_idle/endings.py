"""Ends of this machine that AWS announces, as its metadata service tells them.

Paths and forms are those of "Spot Instance interruption notices", "EC2 instance rebalance
recommendations" and "Scheduled events" (Amazon EC2 User Guide), and of "Retrieve the target
lifecycle state through instance metadata" (Amazon EC2 Auto Scaling User Guide).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from http import HTTPStatus
from urllib.error import HTTPError

from golden_idle import account


class Kind(StrEnum):
    """Why a machine ends; those first are told first if nobody knows when."""

    SCALE_IN = "scale_in"
    SPOT = "spot"
    EVENT = "event"
    CAPACITY_BLOCK = "capacity_block"
    SHUTDOWN = "shutdown"
    IDLE = "idle"
    REBALANCE = "rebalance"


@dataclass(frozen=True)
class Ending:
    """An end, in words for people, and when (seconds since 1970; None if nobody knows)."""

    kind: Kind
    text: str
    at: float | None = None

    @property
    def key(self) -> str:
        """Tell it from another one."""
        return f"{self.kind} {self.at or ''}".strip()


def announced() -> Iterator[Ending]:
    """Yield the ends that are announced. Raises OSError while nobody answers."""
    for notice in _rows(_read("spot/instance-action")):
        yield at_time(Kind.SPOT, "EC2 takes this Spot machine back", notice.get("time"))
    if _read("events/recommendations/rebalance"):
        yield Ending(Kind.REBALANCE, "EC2 may soon take this Spot machine back")
    if _read("autoscaling/target-lifecycle-state") == "Terminated":
        yield Ending(Kind.SCALE_IN, "The group of this machine ends it")
    for event in _rows(_read("events/maintenance/scheduled")):
        if event.get("State") == "active":
            yield at_time(Kind.EVENT, f"EC2 announces {event.get('Code')}", event.get("NotBefore"))


def in_block() -> bool:
    """Return whether the machine belongs to a capacity block."""
    return _read("instance-life-cycle") == "capacity-block"


def _read(path: str) -> str:
    """Return the text there, or "" if there is none."""
    try:
        return account.metadata(f"meta-data/{path}")
    except HTTPError as error:
        if error.code == HTTPStatus.NOT_FOUND:
            return ""
        raise


def at_time(kind: Kind, text: str, when: object) -> Ending:
    """Return an end at `2026-12-01T08:22:00Z` or `1 Dec 2026 08:22:00 GMT`."""
    for form in (datetime.fromisoformat, parsedate_to_datetime):
        with suppress(ValueError, TypeError):
            at = form(str(when)).timestamp()
            return Ending(kind, f"{text} at {when}", at)
    return Ending(kind, text)


def _rows(text: str) -> list[dict[str, object]]:
    """Return the objects of a list, or the only one."""
    try:
        found = json.loads(text or "[]")
    except ValueError:
        found = {}
    rows = found if isinstance(found, list) else [found]
    return [row for row in rows if isinstance(row, dict)]
