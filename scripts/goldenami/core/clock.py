"""The wall clock. It is read here only, because nothing that shapes an image may depend on it."""

from __future__ import annotations

import datetime


def now() -> datetime.datetime:
    """Return the time in UTC, without fractions of a second."""
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


def stamp(moment: datetime.datetime | None = None) -> str:
    """Return a moment in UTC (default: now) as records state it: `2026-01-31T12:00:00Z`."""
    return (moment or now()).strftime("%Y-%m-%dT%H:%M:%SZ")
