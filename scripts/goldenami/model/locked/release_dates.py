"""Detects mirrors whose Release files are older than those of the lock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from goldenami.core.errors import Unreachable
from goldenami.model.locked.lockfile import Lock, Suite


@dataclass(frozen=True)
class Regression:
    """A suite whose Release file is older than the one from which the lock was made. `now` and
    `locked` are their dates by ISO 8601."""

    image: str
    suite: str
    now: str
    locked: str

    @property
    def error(self) -> str:
        return (
            f"goes backwards: its Release file is of {self.now}, the lock of {self.image} was "
            f"made from one of {self.locked}"
        )


def regressions(lock: Lock, suites: Sequence[Suite]) -> list[Regression]:
    """Return the suites that are older than those of the lock."""
    older = []
    for name in sorted(
        {suite.suite for suite in suites} & {suite.suite for suite in lock.base.suites}
    ):
        now, locked = _newest(suites, name), _newest(lock.base.suites, name)
        if _seconds(now) < _seconds(locked):
            older.append(Regression(lock.image, name, iso(now), iso(locked)))
    return older


def demand_progress(lock: Lock, suites: Sequence[Suite]) -> None:
    """Raise Unreachable if a suite is older than that of the lock."""
    # A lock from an older index would take updates back.
    for regression in regressions(lock, suites):
        raise Unreachable(
            f"suite {regression.suite} {regression.error}",
            hint="a stale mirror: use another, or wait; the lock stays",
        )


def iso(date: str) -> str:
    """Return a date of RFC 5322 as ISO 8601 in UTC."""
    return parsedate_to_datetime(date).strftime("%Y-%m-%dT%H:%M:%SZ")


def _newest(suites: Sequence[Suite], name: str) -> str:
    return max((suite.date for suite in suites if suite.suite == name), key=_seconds)


def _seconds(date: str) -> float:
    return parsedate_to_datetime(date).timestamp()
