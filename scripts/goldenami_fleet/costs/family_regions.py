"""Where instance families exist, what they cost there, and where a workload costs least."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal
from urllib.parse import urlsplit

from goldenami.aws.calls import pages
from goldenami.aws.instances import instance_types
from goldenami.aws.pricing import price_list, prices
from goldenami.aws.pricing.price_list import ListedUsage
from goldenami.aws.pricing.prices import SpotPrices
from goldenami.aws.regions import for_each_region
from goldenami.aws.session import Account, Client, translate, translated
from goldenami.core import clock
from goldenami.core.errors import GoldenError
from goldenami.core.records import Record
from goldenami.core.units import dollars
from goldenami.model.builds.build_records import Utc
from pydantic import Field

from goldenami_fleet.costs.region_advice import Advice, OfferedType, advise, show_advice

SPOT_DAYS = 30
"""Days of Spot prices that are read; EC2 keeps 90."""
_CONNECTION_LIMIT_S = 2.0


class RegionPlace(Record):
    """Why to prefer a region besides its price. `round_trip_ms` is the time of a connection from
    this machine to EC2 there, or None if none is made, as behind a proxy. `move_usd` is the price
    of moving the workload's data from the default region. `machines` is the number of the account's
    running machines there, or None if they could not be listed."""

    round_trip_ms: int | None
    move_usd: float | None = None
    machines: int | None


@dataclass(frozen=True)
class Workload:
    """Hours of one GPU a month, GB of data to move, and the vCPUs and GiB of memory that work
    without a GPU needs, if named."""

    gpu_hours: float | None = None
    gb: float | None = None
    vcpus: int | None = None
    memory_gib: float | None = None

    def smallest(self, described: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Return each family's smallest type that has the vCPUs and the memory; all types if
        neither is named."""
        if not self.vcpus and not self.memory_gib:
            return dict(described)
        fitting: dict[str, dict[str, Any]] = {}
        for name in sorted(described, key=lambda name: (_vcpus(described[name]), len(name))):
            memory = described[name]["MemoryInfo"]["SizeInMiB"] / 1024
            has_both = _vcpus(described[name]) >= (self.vcpus or 0)
            has_both = has_both and memory >= (self.memory_gib or 0)
            if has_both and not _gpus(described[name])[1]:
                fitting.setdefault(name.partition(".")[0], described[name])
        return {row["InstanceType"]: row for row in fitting.values()}


class RegionsRecord(Record):
    """The regions in which families exist. `prices_unknown`, `spot_unknown` (by region) and
    `unreachable` (by region) have the cause of what is missing, or are empty. `advice` is None if
    no workload was named. `default` is the region in which most machines of the account run, or
    that of the environment if none run. `not_allowed` regions were left out."""

    schema_version: Literal[5] = 5
    families: list[str]
    asked_at: Utc
    regions: dict[str, list[OfferedType]]
    places: dict[str, RegionPlace] = Field(default_factory=dict)
    default: str = ""
    gb: float | None = None
    not_allowed: list[str] = Field(default_factory=list)
    prices_unknown: str
    spot_unknown: dict[str, str]
    unreachable: dict[str, str]
    advice: Advice | None = None


def read_regions(
    account: Account,
    families: Sequence[str],
    regions: list[str],
    workload: Workload = Workload(),
) -> tuple[RegionsRecord, dict[str, GoldenError]]:
    """Return the record, and the errors of regions that failed. If `regions` is empty, ask every
    region that the account has enabled and that `residency` allows."""
    account = account.with_short_timeouts()
    enabled = regions or sorted(
        row["RegionName"] for row in account.ec2(account.home).describe_regions()["Regions"]
    )
    allowed_regions = enabled if regions else list(filter(account.allowed.allows, enabled))
    answers = for_each_region(
        allowed_regions,
        lambda region: _read_region(
            account.ec2(region), families, spot=workload.gpu_hours is not None
        ),
    )
    zones = {region: region_offers.zones for region, region_offers in answers.done.items()}
    described = workload.smallest(_described(account, families, zones))
    usd_by_type, prices_unknown = prices.hourly_by_type(account, sorted(described))
    if described and not prices_unknown and not any(usd_by_type.values()):
        prices_unknown = "AWS's price list has none of these types"
    default = _busiest(answers.done) or account.home
    way = ListedUsage(
        "AWSDataTransfer",
        {"fromRegionCode": default, "transferType": "InterRegion Outbound"},
        "AWS-Out-Bytes",
        "toRegionCode",
    )
    usd_gb = price_list.of_usage(account, way, answers.done).usd if workload.gb else {}
    offers = dict[str, list[OfferedType]]()
    places, spot_unknown = dict[str, RegionPlace](), dict[str, str]()
    for region, region_offers in answers.done.items():
        offers[region] = list(_offered_types(region, region_offers, described, usd_by_type))
        places[region] = RegionPlace(
            round_trip_ms=region_offers.round_trip_ms,
            move_usd=usd_gb[region] * (workload.gb or 0) if region in usd_gb else None,
            machines=region_offers.machines,
        )
        if region_offers.spot_unknown:
            spot_unknown[region] = region_offers.spot_unknown
    return RegionsRecord(
        places=places,
        default=default,
        gb=workload.gb,
        not_allowed=[region for region in enabled if region not in allowed_regions],
        families=list(families),
        asked_at=clock.stamp(),
        prices_unknown=prices_unknown,
        unreachable=answers.causes,
        spot_unknown=spot_unknown,
        regions=offers,
        advice=advise(offers, workload.gpu_hours) if workload.gpu_hours else None,
    ), answers.failed


def _busiest(places: Mapping[str, _RegionOffers]) -> str:
    """Return the region in which most machines run, or "" if none run."""
    running = {region: place.machines for region, place in places.items() if place.machines}
    return max(running, key=lambda region: running[region], default="")


def _offered_types(
    region: str,
    region_offers: _RegionOffers,
    described: Mapping[str, dict[str, Any]],
    usd_by_type: Mapping[str, Mapping[str, float]],
) -> Iterator[OfferedType]:
    for name in sorted(region_offers.zones.keys() & described.keys()):
        gpu, number = _gpus(described[name])
        yield OfferedType(
            instance_type=name,
            gpu=gpu,
            gpus=number,
            zones=sorted(region_offers.zones[name]),
            spot=region_offers.spot.get(name),
            usd_hour=usd_by_type.get(name, {}).get(region),
        )


@dataclass(frozen=True)
class _RegionOffers:
    """What one region offers: the way there, the account's running machines, the zones of each
    type, the Spot prices of each type, and why these are unknown, or ""."""

    round_trip_ms: int | None
    machines: int | None
    zones: dict[str, list[str]]
    spot: dict[str, SpotPrices]
    spot_unknown: str = ""


def _read_region(ec2: Client, families: Sequence[str], *, spot: bool) -> _RegionOffers:
    zones: dict[str, list[str]] = {}
    for name, zone in instance_types.zones(ec2, families):
        zones.setdefault(name, []).append(zone)
    machines, round_trip_ms = _running_machines(ec2), _round_trip_ms(ec2)
    if not zones or not spot:
        return _RegionOffers(round_trip_ms, machines, zones, {})
    try:
        return _RegionOffers(
            round_trip_ms, machines, zones, prices.spot_history(ec2, sorted(zones), SPOT_DAYS)
        )
    # A missing price is no reason to fail; `translate` raises errors that are not AWS's.
    except Exception as error:
        return _RegionOffers(round_trip_ms, machines, zones, {}, translate(error).message)


def _round_trip_ms(ec2: Client) -> int | None:
    address = urlsplit(ec2.meta.endpoint_url)
    place = (str(address.hostname), address.port or 443)
    seconds = list[float]()
    with suppress(OSError):
        # The first connection also waits for the name's resolution.
        for _ in range(2):
            began = time.monotonic()
            socket.create_connection(place, timeout=_CONNECTION_LIMIT_S).close()
            seconds.append(time.monotonic() - began)
    return math.ceil(1000 * min(seconds)) if seconds else None


def _running_machines(ec2: Client) -> int | None:
    running = [{"Name": "instance-state-name", "Values": ["running"]}]
    try:
        return sum(
            len(reservation["Instances"])
            for reservation in pages(ec2, "describe_instances", "Reservations", Filters=running)
        )
    # The number is optional, as Spot's prices are.
    except Exception as error:
        translate(error)
        return None


def _described(
    account: Account,
    families: Sequence[str],
    regions: Mapping[str, Iterable[str]],
) -> dict[str, dict[str, Any]]:
    """Return EC2's description of each type that `regions` offer."""
    rows: dict[str, dict[str, Any]] = {}
    for region, types in regions.items():
        # A type is the same everywhere: ask a region only if it has types that no other had.
        if not rows.keys() >= set(types):
            with translated(region):
                rows |= {
                    row["InstanceType"]: row
                    for row in instance_types.describe(account.ec2(region), families)
                }
    return {name: rows[name] for name in set[str]().union(*regions.values())}


def _vcpus(described_type: dict[str, Any]) -> int:
    return int(described_type["VCpuInfo"]["DefaultVCpus"])


def _gpus(described_type: dict[str, Any]) -> tuple[str, int]:
    gpus = described_type.get("GpuInfo", {}).get("Gpus", [])
    if not gpus:
        return "", 0
    return gpus[0]["Name"], sum(gpu.get("Count", 0) for gpu in gpus)


def lines(record: RegionsRecord) -> Iterator[str]:
    """Lines for a terminal."""
    if record.advice and record.advice.rows:
        yield from show_advice(record.advice)
        for region in record.regions:
            if text := _place_notes(record, region):
                yield f"  {region:<15} {text}"
    else:
        for region in sorted(record.regions, key=lambda name: (name != record.default, name)):
            offers = (
                "; ".join(_family_lines(record.regions[region]))
                or f"has no {' and no '.join(record.families)}"
            )
            place = _place_notes(record, region)
            yield f"  {region:<15} {offers}{place and f' ({place})'}"
    if record.not_allowed:
        yield f"not allowed by `residency`, and left out: {', '.join(record.not_allowed)}"
    for region, cause in record.unreachable.items():
        yield f"  {region:<15} unreachable: {cause}"
    for region, cause in record.spot_unknown.items():
        yield f"  {region:<15} Spot's prices are unknown: {cause}"
    if record.prices_unknown:
        yield f"what an hour costs cannot be known: {record.prices_unknown}"


def _place_notes(record: RegionsRecord, region: str) -> str:
    place = record.places.get(region)
    if place is None:
        return ""
    notes = list[str]()
    if place.round_trip_ms is not None:
        notes.append(f"{place.round_trip_ms} ms away")
    if place.machines:
        notes.append(f"{place.machines} machines of the account run there")
    if region == record.default:
        return ", ".join([*notes, "the default"])
    if record.gb:
        notes.append(f"{record.gb:g} GB from {record.default} cost {dollars(place.move_usd)}")
    return ", ".join(notes)


def _family_lines(offers: Sequence[OfferedType]) -> Iterator[str]:
    """Describe each family by its cheapest and its most expensive type, or by its sizes if prices
    are unknown."""
    for _, types in groupby(offers, key=lambda offer: offer.instance_type.partition(".")[0]):
        first, *others = sorted(
            types, key=lambda offer: (offer.usd_hour or float("inf"), len(offer.instance_type))
        )
        text = _offer_text(first)
        priced = [offer for offer in others if offer.usd_hour is not None]
        if others:
            text += f" to {_offer_text([*others, *priced][-1])}, {len(others) + 1} types"
        if first.usd_hour is not None and len(priced) < len(others):
            text += f", {len(others) - len(priced)} without a price"
        yield text


def _offer_text(offer: OfferedType) -> str:
    if offer.usd_hour is None:
        return offer.instance_type
    return f"{offer.instance_type} ${offer.usd_hour:.3f}/h"
