"""The record of `golden drift`: which instance runs what, and what of it is not as published."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from goldenami.core.records import Record
from goldenami.model.builds.build_records import Utc

DRIFT_FILE = "drift.json"


class FleetDrift(StrEnum):
    """How an instance or a group is not as published."""

    FOREIGN = "foreign AMI"
    WITHDRAWN = "withdrawn build"
    OTHER = "not the build of `latest`"
    ROOT = "root volume is not the AMI's"
    VERSION = "template version is not the default"


class DriftRow(Record):
    """One way in which something drifted; `since` is the earliest time at which that is known to be
    so."""

    kind: Annotated[FleetDrift, Field(strict=False)]
    what: str
    since: Utc | None


class InstanceRow(Record):
    """One instance. `build_id` is empty where its AMI is no build of the image; `template_version`
    where EC2 does not say that a launch template launched it; `since` is when its root volume was
    attached.
    """

    id: str
    ami: str
    build_id: str
    state: str
    group: str
    template_version: str
    since: Utc | None
    drift: list[DriftRow]


class GroupRow(Record):
    """An Auto Scaling group that launches from the image's template, by the version that it
    names."""

    name: str
    version: str
    drift: list[DriftRow]


class FleetMetrics(Record):
    """Figures of one image in one region, for whoever draws them. The age is that of the oldest AMI
    that runs, in days; None where no build runs.
    """

    instances: int
    instances_by_build: dict[str, int]
    drifted: int
    oldest_build_days: float | None


class ImageFleet(Record):
    """Everything that runs or launches one image in one region. `latest` is the build that the
    ledger names.

    `strangers` are instances in the region whose AMI this pipeline did not make and that this
    image's template did not launch, with that AMI: no drift of this image.
    """

    image: str
    latest: str
    template_version: str
    instances: list[InstanceRow]
    groups: list[GroupRow]
    metrics: FleetMetrics
    strangers: dict[str, str]

    @property
    def rows(self) -> list[InstanceRow | GroupRow]:
        """Instances and groups."""
        return [*self.instances, *self.groups]


class FleetRecord(Record):
    """All images in all regions; a region that could not be read is in `unreachable` with the
    cause, and only there."""

    schema_version: Literal[1] = 1
    asked_at: Utc
    regions: dict[str, list[ImageFleet]]
    unreachable: dict[str, str]

    def rows(self) -> Iterator[tuple[str, ImageFleet, InstanceRow | GroupRow, DriftRow]]:
        """Every drift with its region, its image and what drifted."""
        for region, fleets in self.regions.items():
            for fleet in fleets:
                for row in fleet.rows:
                    for drift in row.drift:
                        yield region, fleet, row, drift
