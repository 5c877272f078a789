"""The `regions` command's work: where instance families exist, what they cost there, where a
workload costs least."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

from pydantic import Field

from goldenami.aws.calls import pages
from goldenami.aws.instances import instance_types
from goldenami.aws.pricing import prices
from goldenami.aws.pricing.prices import SpotPrices
from goldenami.aws.regions import for_each_region
from goldenami.aws.session import Account, Client, translate, translated
from goldenami.core import clock
from goldenami.core.errors import GoldenError
from goldenami.core.records import Record
from goldenami.fleet.costs.region_advice import Advice, OfferedType, advise, show_advice
from goldenami.model.builds.build_records import Utc
from goldenami.model.operation import region_places
from goldenami.model.operation.residency import GeoPlace

SPOT_DAYS = 30
"""Days of Spot prices that are looked at; EC2 keeps 90."""


class RegionPlace(Record):
    """What speaks for a region besides its price: `km` from the company's data centre, machines of
    the account that run there. None: not stated, or nobody may look."""

    km: int | None
    machines: int | None


class RegionsRecord(Record):
    """Where families exist. `prices_unknown` is why there are no prices, `spot_unknown` why a
    region has none of Spot, `unreachable` why a region is not known. `advice` is for a workload,
    where one was given. `default` is the region where most machines of the account run, empty where
    none does; `not_allowed` has been left out."""

    schema_version: Literal[3] = 3
    families: list[str]
    asked_at: Utc
    regions: dict[str, list[OfferedType]]
    places: dict[str, RegionPlace] = Field(default_factory=dict)
    default: str = ""
    not_allowed: list[str] = Field(default_factory=list)
    prices_unknown: str
    spot_unknown: dict[str, str]
    unreachable: dict[str, str]
    advice: Advice | None = None


def look(
    account: Account,
    families: Sequence[str],
    regions: list[str],
    gpu_hours: float | None = None,
    center: GeoPlace | None = None,
) -> tuple[RegionsRecord, dict[str, GoldenError]]:
    """Without `regions` all are asked that the account has enabled and that are allowed. `center`
    is the company's data centre."""
    account = account.with_short_timeouts()
    enabled = regions or sorted(
        row["RegionName"] for row in account.ec2(account.home).describe_regions()["Regions"]
    )
    asked = enabled if regions else list(filter(account.allowed.allows, enabled))
    answers = for_each_region(
        asked, lambda region: _region(account.ec2(region), families, spot=gpu_hours is not None)
    )
    gpus = _gpus_by_type(
        account, families, {region: one.zones for region, one in answers.done.items()}
    )
    known, why = prices.hourly_by_type(account, sorted(gpus))
    if gpus and not why and not any(known.values()):
        why = "AWS's price list has none of these types"
    offers = {
        region: [
            OfferedType(
                instance_type=name,
                gpu=gpus[name][0],
                gpus=gpus[name][1],
                zones=sorted(zones),
                spot=one.spot.get(name),
                usd_hour=known.get(name, {}).get(region),
            )
            for name, zones in sorted(one.zones.items())
        ]
        for region, one in answers.done.items()
    }
    places = {
        region: RegionPlace(km=region_places.km(region, center), machines=one.machines)
        for region, one in answers.done.items()
    }
    most = max(
        (region for region, place in places.items() if place.machines),
        key=lambda region: places[region].machines or 0,
        default="",
    )
    return RegionsRecord(
        places=places,
        default=most,
        not_allowed=[region for region in enabled if region not in asked],
        families=list(families),
        asked_at=clock.stamp(),
        prices_unknown=why,
        unreachable=answers.causes,
        spot_unknown={
            region: one.spot_unknown for region, one in answers.done.items() if one.spot_unknown
        },
        regions=offers,
        advice=advise(offers, gpu_hours) if gpu_hours else None,
    ), answers.failed


@dataclass(frozen=True)
class _RegionOffers:
    """How many machines the account runs in a region, the zones of each type, the Spot prices of
    each, and why these are not known."""

    machines: int | None
    zones: dict[str, list[str]]
    spot: dict[str, SpotPrices]
    spot_unknown: str = ""


def _region(ec2: Client, families: Sequence[str], *, spot: bool) -> _RegionOffers:
    zones: dict[str, list[str]] = {}
    for name, zone in instance_types.zones(ec2, families):
        zones.setdefault(name, []).append(zone)
    machines = _machines(ec2)
    if not zones or not spot:
        return _RegionOffers(machines, zones, {})
    try:
        return _RegionOffers(machines, zones, prices.spot_history(ec2, sorted(zones), SPOT_DAYS))
    except (
        Exception
    ) as error:  # no price is worth failing for; translate raises what is none of AWS's errors
        return _RegionOffers(machines, zones, {}, translate(error).message)


def _machines(ec2: Client) -> int | None:
    running = [{"Name": "instance-state-name", "Values": ["running"]}]
    try:
        return sum(
            len(row["Instances"])
            for row in pages(ec2, "describe_instances", "Reservations", Filters=running)
        )
    except Exception as error:  # as with Spot's prices
        translate(error)
        return None


def _gpus_by_type(
    account: Account,
    families: Sequence[str],
    regions: Mapping[str, Iterable[str]],
) -> dict[str, tuple[str, int]]:
    """Name and number of the GPUs of every type that `regions` offer. A type is the same
    everywhere, so a region is asked for those alone that none before it had."""
    found: dict[str, tuple[str, int]] = {}
    for region, types in regions.items():
        if not found.keys() >= set(types):
            with translated(region):
                found |= {
                    row["InstanceType"]: _gpus(row)
                    for row in instance_types.describe(account.ec2(region), families)
                }
    return {name: found[name] for name in {name for types in regions.values() for name in types}}


def _gpus(row: dict[str, Any]) -> tuple[str, int]:
    found = row.get("GpuInfo", {}).get("Gpus", [])
    return (found[0]["Name"], sum(gpu.get("Count", 0) for gpu in found)) if found else ("", 0)


def show(record: RegionsRecord) -> Iterator[str]:
    """The record for a person."""
    if record.advice and record.advice.rows:
        yield from show_advice(record.advice)
        yield from (
            f"  {region:<15} {text}"
            for region in record.regions
            if (text := _place(record, region))
        )
    else:
        for region in sorted(record.regions, key=lambda name: (name != record.default, name)):
            offers = (
                "; ".join(_families(record.regions[region]))
                or f"has no {' and no '.join(record.families)}"
            )
            place = _place(record, region)
            yield f"  {region:<15} {offers}{place and f' ({place})'}"
    if record.not_allowed:
        yield f"not allowed by `residency`, and left out: {', '.join(record.not_allowed)}"
    for region, cause in record.unreachable.items():
        yield f"  {region:<15} unreachable: {cause}"
    for region, cause in record.spot_unknown.items():
        yield f"  {region:<15} Spot's prices are unknown: {cause}"
    if record.prices_unknown:
        yield f"what an hour costs cannot be known: {record.prices_unknown}"


def _place(record: RegionsRecord, region: str) -> str:
    known = record.places.get(region)
    if known is None:
        return ""
    said = [f"{known.km:,} km away"] if known.km is not None else []
    said += [f"{known.machines} machines of the account run there"] if known.machines else []
    return ", ".join([*said, "the default"] if region == record.default else said)


def _families(offers: Sequence[OfferedType]) -> Iterator[str]:
    """Each family by its cheapest and its dearest type; where prices are not known, by size."""
    for _, types in groupby(offers, key=lambda each: each.instance_type.partition(".")[0]):
        first, *others = sorted(
            types, key=lambda each: (each.usd_hour or float("inf"), len(each.instance_type))
        )
        last = f" to {_offer(others[-1])}, {len(others) + 1} types" if others else ""
        yield _offer(first) + last


def _offer(offer: OfferedType) -> str:
    return offer.instance_type + ("" if offer.usd_hour is None else f" ${offer.usd_hour:.3f}/h")
