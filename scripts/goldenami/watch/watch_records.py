"""The records of one run of `watch` in `build/watch/`: what it found, and what new locks changed.
Sizes are bytes, times ISO 8601 in UTC."""

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
    """One component of one image. `mends` are the known vulnerabilities that the available version
    fixes. `mover` is left out of the file: only the run that wrote the row needs it."""

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
        """Whether a new lock has to be made for it."""
        return self.verdict is UpdateVerdict.UPDATE and self.mover is Mover.NEW_LOCK


class LockChange(Record):
    """The difference between a new lock and the one that it replaces. `kernel` and `driver` are the
    versions before and after, or empty if they are the same."""

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
            old.model_dump(mode="json")["packages"], new.model_dump(mode="json")["packages"]
        )
        return cls(
            image=new.image,
            build_before=old_sha256[: lockfile.ID_LENGTH],
            build_after=new_sha256[: lockfile.ID_LENGTH],
            kernel=_pair(old.kernel.release, new.kernel.release),
            driver=_pair(_driver_version(old), _driver_version(new)),
            packages=diff.moves,
            installed_bytes=diff.installed_bytes,
        )


def _driver_version(lock: Lock) -> str:
    if lock.driver is None:
        return ""
    return lock.driver.version


def _pair(before: str, after: str) -> list[str]:
    if before == after:
        return []
    return [before, after]


class WatchRecord(Record):
    """Everything that one run found and changed."""

    schema_version: Literal[1] = 1
    looked_at: Utc
    sources: list[SourceStatus]
    rows: list[ComponentRow]
    warnings: list[str]
    changes: list[LockChange] = Field(default_factory=list)

    @property
    def errors(self) -> list[str]:
        return [f"{source.name}: {source.error}" for source in self.sources if source.error]
