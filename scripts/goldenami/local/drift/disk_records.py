"""The record of a disk that was compared with its bake, and its lines for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from goldenami.core import units
from goldenami.core.records import Record, Sha256
from goldenami.model.builds.build_records import BuildId, Utc

SHOWN, NAMED = 50, 5
"""Differences that are shown, and paths of an area that are named; the record has all of them."""


class DiskVerdict(StrEnum):
    """The verdict on a disk. One that could not be read has no record."""

    AS_BAKED = "as baked"
    DRIFTED = "drifted"


class DiskDifference(Record):
    """One path (or place that boots the disk) that is not as baked. `what` are its differences,
    `rule` is what it breaks, or what lets it pass; `package` is that of the baked path, or ""."""

    path: str
    package: str
    what: Annotated[list[str], Field(min_length=1)]
    rule: str


class MadeAtLaunch(Record):
    """One file that a launch made. `alike` says whether the machines of one build have the same."""

    path: str
    sha256: Sha256
    why: str
    alike: bool


class DataArea(Record):
    """Files that people and services wrote: they are counted, not compared. `named` has those that
    give rights: set-id files, devices, capabilities."""

    area: str
    paths: Annotated[int, Field(ge=0)]
    bytes: Annotated[int, Field(ge=0)]
    named: list[str]


class DiskRecord(Record):
    """Findings about one disk. `passed` are differences that the image's definition allows,
    `starts` what starts by itself from data, `unseen` what was not read."""

    schema_version: Literal[2] = 2
    image: str
    build_id: BuildId
    manifest_sha256: Sha256
    disk: str
    looked_at: Utc
    verdict: Annotated[DiskVerdict, Field(strict=False)]
    paths: Annotated[int, Field(ge=1)]
    drift: list[DiskDifference]
    passed: list[DiskDifference]
    made: list[MadeAtLaunch]
    data: list[DataArea]
    starts: list[str]
    unseen: list[str]


def headline(record: DiskRecord) -> str:
    """Return one line that says what the disk is."""
    subject = f"{record.disk} against build {record.build_id} of {record.image}"
    if record.verdict is DiskVerdict.DRIFTED:
        return f"{subject}: {len(record.drift)} of {record.paths} paths drifted"
    data = sum(area.paths for area in record.data)
    return (
        f"{subject}: as baked ({record.paths} paths; {len(record.made)} made at launch, {data} of "
        "data not judged)"
    )


def lines(record: DiskRecord) -> Iterator[str]:
    """Yield the record's lines for a terminal."""
    for row in record.drift[:SHOWN]:
        yield f"{row.path}{f' ({row.package})' if row.package else ''}"
        yield from (f"    {line}" for line in row.what)
        yield f"    breaks: {row.rule}"
    if len(record.drift) > SHOWN:
        yield f"and {len(record.drift) - SHOWN} more: --json prints all of them"
    yield from (f"{row.path} differs and is allowed: {row.rule}" for row in record.passed[:SHOWN])
    for made in record.made:
        yield f"made at launch: {made.path}, SHA-256 {made.sha256[:12]} ({made.why})"
    for area in record.data:
        yield f"not judged: {area.area}: {area.paths} paths, {units.size(area.bytes)}"
        if area.named:
            yield f"    with rights: {units.some(area.named, NAMED)}"
    yield from (f"starts by itself: {line}" for line in record.starts)
    yield f"not looked at: {', '.join(record.unseen)}"
    yield headline(record)


def unlike(record: DiskRecord, siblings: Iterable[DiskRecord]) -> Iterator[str]:
    """Yield a line for each file that machines of one build have alike, and that most `siblings`
    have otherwise."""
    same_build = [
        sibling
        for sibling in siblings
        if sibling.build_id == record.build_id
        and sibling.image == record.image
        and sibling.disk != record.disk
    ]
    for row in record.made:
        digests = Counter[str]()
        for sibling in same_build:
            digests.update(made.sha256 for made in sibling.made if made.path == row.path)
        if row.alike and digests and digests[row.sha256] * 2 < digests.total():
            yield (
                f"{row.path} is not that of its siblings: {digests[row.sha256]} of "
                f"{digests.total()} have it so"
            )
