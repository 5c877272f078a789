"""The record of a disk that was compared with its bake."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from goldenami.core.records import Record
from goldenami.model.builds.build_records import BuildId, Sha256, Utc


class DiskVerdict(StrEnum):
    """What a disk is. One that could not be looked at has no record."""

    AS_BAKED = "as baked"
    DRIFTED = "drifted"


class DiskDifference(Record):
    """One path (or place that boots the disk) that is not as baked; `what` are its differences,
    `rule` is what it breaks, or what lets it pass; `package` is that of the baked path, or
    empty."""

    path: str
    package: str
    what: Annotated[list[str], Field(min_length=1)]
    rule: str


class RunningKind(StrEnum):
    """What of a running machine no disk shows."""

    DECLARATION = "declaration"
    KERNEL = "kernel"
    COMMAND_LINE = "command line"
    MODULE = "module"
    SYSCTL = "sysctl"
    LIMIT = "limit"
    LISTENER = "listener"
    MOUNT = "mount"
    CONTAINER = "container"


class RunningDifference(Record):
    """One thing that a machine runs otherwise than its image declares; `rule` is what it breaks."""

    kind: Annotated[RunningKind, Field(strict=False)]
    name: str
    what: str
    rule: str


class DiskRecord(Record):
    """What was found on one disk. `passed` are differences that the image's definition allows;
    those that the policy lets pass are only counted, in `expected`. `running` is what was found
    inside, None where nobody asked there.
    """

    schema_version: Literal[1] = 1
    image: str
    build_id: BuildId
    manifest_sha256: Sha256
    disk: str
    looked_at: Utc
    verdict: Annotated[DiskVerdict, Field(strict=False)]
    paths: Annotated[int, Field(ge=1)]
    expected: Annotated[int, Field(ge=0)]
    drift: list[DiskDifference]
    passed: list[DiskDifference]
    running: list[RunningDifference] | None = None

    @model_validator(mode="after")
    def _verdict_is_earned(self) -> Self:
        if (self.verdict is DiskVerdict.DRIFTED) is not bool(self.drift or self.running):
            raise ValueError(f"verdict is {self.verdict.value} with {len(self.drift)} differences")
        return self

    def with_running(self, found: list[RunningDifference] | None) -> DiskRecord:
        """This record, with what was found inside."""
        verdict = DiskVerdict.DRIFTED if self.drift or found else DiskVerdict.AS_BAKED
        return DiskRecord(**{**dict(self), "running": found, "verdict": verdict})
