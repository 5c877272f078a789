"""The `regions` command's work: where instance families exist, what they cost there, where a
workload costs least."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from goldenami.aws.instances import instance_types
from goldenami.aws.pricing import price_list, prices
from goldenami.aws.pricing.price_list import ListedPrices
from goldenami.aws.pricing.prices import SpotPrices
from goldenami.aws.regions import for_each_region
from goldenami.aws.session import Account, Client, translate, translated
from goldenami.core import clock
from goldenami.core.errors import GoldenError
from goldenami.core.records import Record
from goldenami.fleet.costs.region_advice import (
    Advice,
    GpuWorkload,
    OfferedType,
    advise,
    show_advice,
)
from goldenami.model.builds.build_records import Utc

SPOT_DAYS = 30
"""Days of Spot prices that are looked at; EC2 keeps 90."""


class RegionsRecord(Record):
    """Where families exist. `prices_unknown` is why there are no prices, `spot_unknown` why a
    region has none of Spot, `unreachable` why a region is not known. `advice` is for a workload,
    where one was given."""

    schema_version: Literal[2] = 2
    families: list[str]
    asked_at: Utc
    regions: dict[str, list[OfferedType]]
    prices_unknown: str
    spot_unknown: dict[str, str]
    unreachable: dict[str, str]
    advice: Advice | None = None


def look(
    account: Account, families: Sequence[str], regions: list[str], home: str,
    workload: GpuWorkload | None = None,
) -> tuple[RegionsRecord, dict[str, GoldenError]]:
    """Ask every region (`regions`; none: all that the account has enabled, which `home` is asked
    for)."""
    account = account.with_short_timeouts()
    asked = regions or sorted(row["RegionName"]
                              for row in account.ec2(home).describe_regions()["Regions"])
    answers = for_each_region(asked,
                              lambda region: _region(account.ec2(region), families,
                                                     spot=workload is not None))
    gpus = _gpus_by_type(account, families,
                         {region: one.zones for region, one in answers.done.items()})
    known, why = prices.hourly_by_type(account, sorted(gpus))
    offers = {region: [OfferedType(
        instance_type=name, gpu=gpus[name][0], gpus=gpus[name][1], zones=sorted(zones),
        spot=one.spot.get(name),
        usd_hour=known.get(name, {}).get(region)) for name, zones in sorted(one.zones.items())]
        for region, one in answers.done.items()}
    return RegionsRecord(
        families=list(families), asked_at=clock.stamp(), prices_unknown=why,
        unreachable=answers.causes,
        spot_unknown={region: one.spot_unknown for region, one in answers.done.items()
                      if one.spot_unknown},
        regions=offers,
        advice=_advice(account, offers, workload) if workload else None), answers.failed


def _advice(
    account: Account, offers: Mapping[str, Sequence[OfferedType]], workload: GpuWorkload
) -> Advice:
    """The price list is asked for data's way only where there is data."""
    transfer = price_list.of_usage(account, price_list.transfer_from(workload.data_region),
                                   offers) \
        if workload.data_gb else ListedPrices()
    return advise(offers, workload, transfer)


@dataclass(frozen=True)
class _RegionOffers:
    """The zones of each type in a region, the Spot prices of each, and why these are not known."""

    zones: dict[str, list[str]]
    spot: dict[str, SpotPrices]
    spot_unknown: str = ""


def _region(ec2: Client, families: Sequence[str], *, spot: bool) -> _RegionOffers:
    zones: dict[str, list[str]] = {}
    for name, zone in instance_types.zones(ec2, families):
        zones.setdefault(name, []).append(zone)
    if not zones or not spot:
        return _RegionOffers(zones, {})
    try:
        return _RegionOffers(zones, prices.spot_history(ec2, sorted(zones), SPOT_DAYS))
    except Exception as error:  # no price is worth failing for; translate raises what is none of AWS's errors
        return _RegionOffers(zones, {}, translate(error).message)


def _gpus_by_type(
    account: Account, families: Sequence[str], regions: Mapping[str, Iterable[str]],
) -> dict[str, tuple[str, int]]:
    """Name and number of the GPUs of every type that `regions` offer. A type is the same
    everywhere, so a region is asked for those alone that none before it had."""
    found: dict[str, tuple[str, int]] = {}
    for region, types in regions.items():
        if not found.keys() >= set(types):
            with translated(region):
                found |= {row["InstanceType"]: _gpus(row)
                          for row in instance_types.describe(account.ec2(region), families)}
    return {name: found[name] for name in {name for types in regions.values() for name in types}}


def _gpus(row: dict[str, Any]) -> tuple[str, int]:
    """Name and number of a type's GPUs, by its row of DescribeInstanceTypes."""
    found = row.get("GpuInfo", {}).get("Gpus", [])
    return (found[0]["Name"], sum(gpu.get("Count", 0) for gpu in found)) if found else ("", 0)


def show(record: RegionsRecord) -> Iterator[str]:
    """The record for a person."""
    if record.advice and record.advice.rows:
        yield from show_advice(record.advice)
    else:
        for region, offers in record.regions.items():
            yield f"  {region:<15} " + (", ".join(map(_offer, offers))
                                        or f"has no {' and no '.join(record.families)}")
    for region, cause in record.unreachable.items():
        yield f"  {region:<15} unreachable: {cause}"
    for region, cause in record.spot_unknown.items():
        yield f"  {region:<15} Spot's prices are unknown: {cause}"
    if record.prices_unknown:
        yield f"what an hour costs cannot be known: {record.prices_unknown}"


def _offer(offer: OfferedType) -> str:
    return offer.instance_type + ("" if offer.usd_hour is None else f" ${offer.usd_hour:.3f}/h")
