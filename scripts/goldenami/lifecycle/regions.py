"""The `regions` command's work: where an instance family exists, and what an hour of it costs there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from goldenami.aws import instance_types, prices
from goldenami.aws.regions import for_each_region
from goldenami.aws.session import Account
from goldenami.core import clock
from goldenami.core.errors import GoldenError
from goldenami.core.records import Record
from goldenami.model.build_records import Utc


class OfferedType(Record):
    """One instance type in one region. `usd_hour` is None where its price could not be asked for or is not listed."""

    instance_type: str
    usd_hour: float | None


class RegionsRecord(Record):
    """Where a family exists. `prices_unknown` is why there are no prices, `unreachable` why a region is not known."""

    schema_version: Literal[1] = 1
    family: str
    asked_at: Utc
    regions: dict[str, list[OfferedType]]
    prices_unknown: str
    unreachable: dict[str, str]


def look(account: Account, family: str, regions: list[str], home: str) -> tuple[RegionsRecord, dict[str, GoldenError]]:
    """Ask every region (`regions`; none: all that the account has enabled, which `home` is asked for)."""
    asked = regions or sorted(row["RegionName"] for row in account.ec2(home).describe_regions()["Regions"])
    offered = for_each_region(asked, lambda region: instance_types.offered(account.ec2(region), [family]))
    known, why = prices.hourly_by_type(account, sorted({name for types in offered.done.values() for name in types}))
    return RegionsRecord(
        family=family, asked_at=clock.stamp(), prices_unknown=why,
        unreachable=offered.causes,
        regions={region: [OfferedType(instance_type=name, usd_hour=known.get(name, {}).get(region))
                          for name in sorted(types)] for region, types in offered.done.items()},
    ), offered.failed


def show(record: RegionsRecord) -> Iterator[str]:
    """The record for a person."""
    for region, offers in record.regions.items():
        yield f"  {region:<15} " + (", ".join(map(_offer, offers)) or f"has no {record.family}")
    for region, cause in record.unreachable.items():
        yield f"  {region:<15} unreachable: {cause}"
    if record.prices_unknown:
        yield f"what an hour costs cannot be known: {record.prices_unknown}"


def _offer(offer: OfferedType) -> str:
    return offer.instance_type + ("" if offer.usd_hour is None else f" ${offer.usd_hour:.3f}/h")
