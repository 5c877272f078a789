"""The record of one look at the sources, and of what a new lock moved: what `watch` writes.

They go to `build/watch/`, as JSON and as Markdown for a pull request. Sizes are bytes, times ISO
8601 in UTC.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from goldenami.core.records import Record
from goldenami.model.builds.build_records import BuildId, Utc
from goldenami.model.definitions.update_policy import UpdateVerdict

RECORD_FILE = "watch.json"
SUMMARY_FILE = "summary.md"


class SourceStatus(Record):
    """One source and when it was last changed; `error` says why it could not be looked at, if
    so."""

    name: str
    changed: str = ""
    error: str = ""


class PackageUpdate(Record):
    """One package of a row that stands for many. `mends` are the known vulnerabilities that it no
    longer has."""

    name: str
    locked: str
    available: str
    security: bool
    mends: list[str] = Field(default_factory=list)


class ComponentRow(Record):
    """One component of one image, and what its policy makes of what there is; `mends` as in
    PackageUpdate."""

    image: str
    component: str
    locked: str
    available: str
    policy: str
    verdict: Annotated[UpdateVerdict, Field(strict=False)]
    reason: str = ""
    source: str = ""
    moving: list[PackageUpdate] = Field(default_factory=list)
    mends: list[str] = Field(default_factory=list)


class ChangelogEntry(Record):
    """One entry of a package's changelog."""

    version: str
    date: str
    text: str


class SourcePackageChange(Record):
    """A source package that a new lock moved, with its changelog between the two versions."""

    source: str
    packages: list[str]
    before: str
    after: str
    entries: list[ChangelogEntry]
    advisories: list[str]


class LockChange(Record):
    """A new lock against the one that it replaces."""

    image: str
    build_before: BuildId
    build_after: BuildId
    kernel: list[str]
    driver: list[str]
    moved: list[SourcePackageChange]
    added: list[str]
    removed: list[str]
    installed_bytes: int
    download_bytes: int


class WatchRecord(Record):
    """All that one run saw and did."""

    schema_version: Literal[1] = 1
    looked_at: Utc
    sources: list[SourceStatus]
    rows: list[ComponentRow]
    warnings: list[str]
    changes: list[LockChange] = Field(default_factory=list)

    @property
    def errors(self) -> list[str]:
        """What could not be looked at, once each."""
        return [f"{source.name}: {source.error}" for source in self.sources if source.error]
