"""The record of a disk that was compared with its bake, and its lines for people."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from goldenami.core.records import Record
from goldenami.model.builds.build_records import BuildId, Sha256, Utc

SHOWN = 50
"""Differences that are shown; all of them are in the record."""


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


class DiskRecord(Record):
    """What was found on one disk. `passed` are differences that the image's definition allows;
    those that the policy lets pass are only counted, in `expected`.
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


def headline(record: DiskRecord) -> str:
    """One line: what the disk is."""
    of = f"{record.disk} against build {record.build_id} of {record.image}"
    if record.verdict is DiskVerdict.AS_BAKED:
        return f"{of}: as baked ({record.paths} paths, {record.expected} changed as they may)"
    return f"{of}: {len(record.drift)} of {record.paths} paths drifted"


def show(record: DiskRecord) -> Iterator[str]:
    """The record for a terminal."""
    for row in record.drift[:SHOWN]:
        yield f"{row.path}{f' ({row.package})' if row.package else ''}"
        yield from (f"    {line}" for line in row.what)
        yield f"    breaks: {row.rule}"
    if len(record.drift) > SHOWN:
        yield f"and {len(record.drift) - SHOWN} more: --json prints all of them"
    yield from (f"{row.path} differs and is allowed: {row.rule}" for row in record.passed[:SHOWN])
    yield headline(record)
