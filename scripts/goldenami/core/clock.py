"""The wall clock, read in one place: nothing that shapes an image may depend on it."""

from __future__ import annotations

import datetime


def now() -> datetime.datetime:
    """This moment in UTC, without fractions of a second."""
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


def stamp(moment: datetime.datetime | None = None) -> str:
    """A moment in UTC (this one if none is given) as records state it: `2026-01-31T12:00:00Z`."""
    return (moment or now()).strftime("%Y-%m-%dT%H:%M:%SZ")
