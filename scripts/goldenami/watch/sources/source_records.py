"""What a source says: how it is, and what is newer there."""

from __future__ import annotations

from goldenami.core.records import Record


class SourceStatus(Record):
    """One source: when it last changed, or why it could not be read."""

    name: str
    changed: str = ""
    error: str = ""


class PackageUpdate(Record):
    """One package of a row that covers many."""

    name: str
    locked: str
    available: str
    security: bool
