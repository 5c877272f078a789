"""The fleet view for people: lines for a terminal and for a message. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from goldenami.fleet.drift.fleet_records import FleetRecord, GroupRow, ImageFleet, InstanceRow

STRANGERS_SHOWN = 5
"""Instances of others that are named; all of them are in the record."""


def headline(record: FleetRecord) -> str:
    """One line: how many of how many drifted, and which regions are silent."""
    fleets = [fleet for fleets in record.regions.values() for fleet in fleets]
    drifted, all_of_them = (sum(getattr(fleet.metrics, name) for fleet in fleets)
                            for name in ("drifted", "instances"))
    groups = sum(bool(group.drift) for fleet in fleets for group in fleet.groups)
    parts = [f"{drifted} of {all_of_them} instances drifted"]
    parts += [f"{groups} groups launch another version than the default"] if groups else []
    parts += [f"could not look at {', '.join(record.unreachable)}"] if record.unreachable else []
    return "; ".join(parts)


def show(record: FleetRecord) -> Iterator[str]:
    """The record for a terminal: a block for each image and region."""
    for region, fleets in record.regions.items():
        for fleet in fleets:
            version = (
                f", template version {fleet.template_version}" if fleet.template_version else ""
            )
            yield f"{fleet.image} in {region}: `latest` is {fleet.latest or 'nothing'}{version}"
            for row in fleet.rows:
                yield f"  {_title(row)}"
                yield from (f"    DRIFT {drift.kind.value}: {drift.what}"
                            + (f" (since {drift.since})" if drift.since
                             else "") for drift in row.drift)
            yield f"  {_figures(fleet)}"
            yield from _strangers(fleet)
    for region, cause in record.unreachable.items():
        yield f"{region} is unreachable: {cause}"
    yield headline(record)


def _title(row: InstanceRow | GroupRow) -> str:
    if isinstance(row, GroupRow):
        return f"group {row.name} launches version {row.version}"
    origin = [f"in {row.group}"] if row.group else []
    origin += [f"by version {row.template_version}"] if row.template_version else []
    since = f" since {row.since}" if row.since else ""
    return f"{row.id} {row.ami} {row.build_id or 'no build'} {row.state}{since}" + (
        f" ({', '.join(origin)})" if origin else "")


def _figures(fleet: ImageFleet) -> str:
    by_build = ", ".join(f"{count} of {build}"
                         for build, count in fleet.metrics.instances_by_build.items())
    oldest = fleet.metrics.oldest_build_days
    return f"{fleet.metrics.instances} instances" + (f": {by_build}" if by_build else "") + (
        f"; the oldest build is {oldest:.0f} days old" if oldest is not None else "")


def _strangers(fleet: ImageFleet) -> Iterator[str]:
    if fleet.strangers:
        named = [f"{name} ({ami})" for name, ami in list(fleet.strangers.items())[:STRANGERS_SHOWN]]
        more = len(fleet.strangers) - len(named)
        yield f"  not of this pipeline: {', '.join(named)}" + (f" and {more} more" if more else "")
