"""What one run of `watch` saw, and what a new lock moved, in `build/watch/`: sizes are bytes,
times ISO 8601 in UTC."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from goldenami.core.records import Record
from goldenami.model.builds.build_records import BuildId, Utc
from goldenami.model.definitions.update_policy import Mover, UpdateVerdict
from goldenami.model.locked import lockfile
from goldenami.model.locked.lockfile import Lock
from goldenami.packages import package_diff
from goldenami.packages.package_diff import PackageMove
from goldenami.watch.sources.source_records import PackageUpdate, SourceStatus

RECORD_FILE = "watch.json"
SUMMARY_FILE = "summary.md"


class ComponentRow(Record):
    """One component of one image; `mends` are the known vulnerabilities that what is available
    no longer has. `mover` is known to the run that looks: its file leaves it out."""

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
    mover: Mover = Field(default=Mover.NEW_LOCK, exclude=True)

    @property
    def needs_a_lock(self) -> bool:
        """Whether a new lock is to be made for it."""
        return self.verdict is UpdateVerdict.UPDATE and self.mover is Mover.NEW_LOCK


class LockChange(Record):
    """A new lock against the one that it replaces."""

    image: str
    build_before: BuildId
    build_after: BuildId
    kernel: list[str]
    driver: list[str]
    packages: list[PackageMove]
    installed_bytes: int

    @classmethod
    def between(cls, old: Lock, old_sha256: str, new: Lock, new_sha256: str) -> LockChange:
        diff = package_diff.compare(
            *(lock.model_dump(mode="json")["packages"] for lock in (old, new))
        )
        return cls(
            image=new.image,
            build_before=old_sha256[: lockfile.ID_LENGTH],
            build_after=new_sha256[: lockfile.ID_LENGTH],
            kernel=_pair(old.kernel.release, new.kernel.release),
            driver=_pair(
                old.driver.version if old.driver else "", new.driver.version if new.driver else ""
            ),
            packages=diff.moves,
            installed_bytes=diff.installed_bytes,
        )


def _pair(before: str, after: str) -> list[str]:
    return [] if before == after else [before, after]


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
        return [f"{source.name}: {source.error}" for source in self.sources if source.error]
