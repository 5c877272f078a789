"""What a source says: how it is, and what is newer there."""

from __future__ import annotations

from goldenami.core.records import Record


class SourceStatus(Record):
    """One source, and when it was last changed or why it could not be looked at."""

    name: str
    changed: str = ""
    error: str = ""


class PackageUpdate(Record):
    """One package of a row that stands for many."""

    name: str
    locked: str
    available: str
    security: bool
