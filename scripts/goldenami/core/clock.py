"""The wall clock, read in one place: nothing that shapes an image may depend on it."""

from __future__ import annotations

import datetime


def now() -> datetime.datetime:
    """This moment in UTC, without fractions of a second."""
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


def stamp() -> str:
    """This moment as records state it: `2026-01-31T12:00:00Z`."""
    return now().strftime("%Y-%m-%dT%H:%M:%SZ")
