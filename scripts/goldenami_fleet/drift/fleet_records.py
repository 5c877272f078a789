"""The record of `golden drift`, and its lines for a terminal: which instance runs what, and how it
differs from what is published."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Literal

from goldenami.core import units
from goldenami.core.records import Record
from goldenami.model.builds.build_records import Utc
from pydantic import Field

DRIFT_FILE = "drift.json"
STRANGERS_SHOWN = 5
"""How many foreign instances are named; the record has all."""


class FleetDrift(StrEnum):
    """How an instance, group or AMI differs from what is published."""

    FOREIGN = "foreign AMI"
    WITHDRAWN = "withdrawn build"
    OTHER = "not the build of `latest`"
    ROOT = "root volume is not the AMI's"
    VERSION = "template version is not the default"
    AMI = "AMI is not as published"


class DriftRow(Record):
    """One difference. `since` is the earliest time at which it is known to exist, or None."""

    kind: Annotated[FleetDrift, Field(strict=False)]
    what: str
    since: Utc | None


class InstanceRow(Record):
    """One instance. `build_id` is "" if its AMI is no build of the image. `template_version` is ""
    if EC2 names no launch template for it. `since` is when its root volume was attached."""

    id: str
    ami: str
    build_id: str
    state: str
    group: str
    template_version: str
    since: Utc | None
    drift: list[DriftRow]


class GroupRow(Record):
    """An Auto Scaling group that launches from the image's template."""

    name: str
    version: str
    drift: list[DriftRow]


class AmiRow(Record):
    """An AMI that everybody may read, or that nobody can launch."""

    id: str
    build_id: str
    drift: list[DriftRow]


class FleetMetrics(Record):
    """Metrics of one image in one region. `oldest_build_days` is the age of the oldest running AMI,
    or None if no build runs."""

    instances: int
    instances_by_build: dict[str, int]
    drifted: int
    oldest_build_days: float | None


class ImageFleet(Record):
    """Everything that runs or launches one image in one region. `latest` is the build that the
    ledger names.

    `strangers` are instances whose AMI this pipeline did not make and that this image's template
    did not launch, by id with their AMI. They are no drift of this image.
    """

    image: str
    latest: str
    template_version: str
    instances: list[InstanceRow]
    groups: list[GroupRow]
    amis: list[AmiRow] = Field(default_factory=list)
    metrics: FleetMetrics
    strangers: dict[str, str]

    @property
    def rows(self) -> list[InstanceRow | GroupRow | AmiRow]:
        return [*self.instances, *self.groups, *self.amis]


class FleetRecord(Record):
    """All images in all regions. A region that could not be read is only in `unreachable`, with the
    cause."""

    schema_version: Literal[1] = 1
    asked_at: Utc
    regions: dict[str, list[ImageFleet]]
    unreachable: dict[str, str]

    def rows(self) -> Iterator[tuple[str, ImageFleet, InstanceRow | GroupRow | AmiRow, DriftRow]]:
        for region, fleets in self.regions.items():
            for fleet in fleets:
                for row in fleet.rows:
                    for drift in row.drift:
                        yield region, fleet, row, drift


def headline(record: FleetRecord) -> str:
    """One line: how many instances drifted, and which regions could not be read."""
    fleets = [fleet for fleets in record.regions.values() for fleet in fleets]
    drifted = sum(fleet.metrics.drifted for fleet in fleets)
    count = sum(fleet.metrics.instances for fleet in fleets)
    groups = sum(bool(group.drift) for fleet in fleets for group in fleet.groups)
    parts = [f"{drifted} of {count} instances drifted"]
    if groups:
        parts.append(f"{groups} groups launch another version than the default")
    if faults := sum(len(fleet.amis) for fleet in fleets):
        parts.append(f"{faults} AMIs are not as published")
    if record.unreachable:
        parts.append(f"could not look at {', '.join(record.unreachable)}")
    return "; ".join(parts)


def lines(record: FleetRecord) -> Iterator[str]:
    """Lines for a terminal."""
    for region, fleets in record.regions.items():
        for fleet in fleets:
            title = f"{fleet.image} in {region}: `latest` is {fleet.latest or 'nothing'}"
            if fleet.template_version:
                title += f", template version {fleet.template_version}"
            yield title
            for row in fleet.rows:
                yield f"  {_title(row)}"
                for drift in row.drift:
                    since = f" (since {drift.since})" if drift.since else ""
                    yield f"    DRIFT {drift.kind.value}: {drift.what}{since}"
            yield f"  {_figures(fleet)}"
            yield from _strangers(fleet)
    for region, cause in record.unreachable.items():
        yield f"{region} is unreachable: {cause}"
    yield headline(record)


def _title(row: InstanceRow | GroupRow | AmiRow) -> str:
    if isinstance(row, AmiRow):
        return f"{row.id} of build {row.build_id or 'unknown'}"
    if isinstance(row, GroupRow):
        return f"group {row.name} launches version {row.version}"
    title, origin = f"{row.id} {row.ami} {row.build_id or 'no build'} {row.state}", list[str]()
    if row.since:
        title += f" since {row.since}"
    if row.group:
        origin.append(f"in {row.group}")
    if row.template_version:
        origin.append(f"by version {row.template_version}")
    if origin:
        title += f" ({', '.join(origin)})"
    return title


def _figures(fleet: ImageFleet) -> str:
    by_build = ", ".join(
        f"{count} of {build}" for build, count in fleet.metrics.instances_by_build.items()
    )
    figures, oldest = f"{fleet.metrics.instances} instances", fleet.metrics.oldest_build_days
    if by_build:
        figures += f": {by_build}"
    if oldest is not None:
        figures += f"; the oldest build is {oldest:.0f} days old"
    return figures


def _strangers(fleet: ImageFleet) -> Iterator[str]:
    if fleet.strangers:
        named = [f"{name} ({ami})" for name, ami in fleet.strangers.items()]
        yield f"  not of this pipeline: {units.some(named, STRANGERS_SHOWN)}"
