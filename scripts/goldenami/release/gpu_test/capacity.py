"""The instances on which a candidate can be tested: declared types by class and price, in the order
in which they are tried."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from goldenami.core import units
from goldenami.core.errors import BadInput
from goldenami.model.supported import gpu_classes
from goldenami.model.supported.gpu_classes import class_of
from goldenami.model.supported.hardware import Family, GpuType, gpu_type

MOST_TYPES = 4
"""Most types that are tried for a class, the cheapest first. Further ones have more GPUs
and cost a multiple."""


@dataclass(frozen=True)
class Offer:
    """An instance to request from EC2. `usd_hour` is the on-demand price, which Spot's never
    exceeds, `usd_spot` the current Spot price in the zone; None if not known."""

    gpu_class: str
    region: str
    zone: str
    kind: GpuType
    spot: bool
    usd_hour: float | None
    usd_spot: float | None = None

    @property
    def market(self) -> str:
        if self.spot:
            return "Spot"
        return "on demand"

    @property
    def path(self) -> tuple[str, ...]:
        """Region, market, type and zone: the scopes of a refusal, from the widest to the
        narrowest."""
        return self.region, self.market, self.kind.type, self.zone

    def __str__(self) -> str:
        price = "price unknown"
        if self.usd_hour is not None:
            price = f"at most ${self.usd_hour:.3f}/h"
        if self.usd_spot is not None:
            price += f" (now ${self.usd_spot:.3f})"
        return f"{self.kind.type} in {self.zone} {self.market}, {price}"


@dataclass(frozen=True)
class RegionTypes:
    """A region's instance types: rows of DescribeInstanceTypes by type, zones by type, and Spot
    prices in dollars an hour by type and zone."""

    described: Mapping[str, Mapping[str, Any]]
    zones: Mapping[str, Sequence[str]]
    usd_spot: Mapping[tuple[str, str], float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Kind:
    """A type that can be tested on, and its number of virtual CPUs."""

    kind: GpuType
    vcpus: int


Priced = Mapping[str, Mapping[str, float]]
"""On-demand prices in dollars an hour, by type and region."""


def offers(
    family_table: Mapping[str, Family],
    families: Collection[str],
    classes: Iterable[str],
    regions: Mapping[str, RegionTypes],
    priced: Priced,
) -> dict[str, list[Offer]]:
    """The offers of the families for each class, in the order in which to try them. Raises BadInput
    for a class that no region has.

    Spot comes before on demand, by its price in each zone. On demand, and where Spot prices are
    unknown or equal, a cheaper type comes first, then the definition's first region.
    """
    kinds = _kinds({name: family_table[name] for name in families}, regions)
    offers_by_class: dict[str, list[Offer]] = {}
    for gpu_class in classes:
        names = _cheapest(kinds.get(gpu_class, {}), regions, priced)
        choices = list(_every_offer(gpu_class, names, regions, priced))
        # The sort is stable, so the order of markets and types decides between equal prices.
        choices.sort(
            key=lambda offer: (not offer.spot, offer.usd_spot is None, offer.usd_spot or 0.0)
        )
        if not choices:
            raise BadInput(
                f"no region of the definition offers a machine of class {gpu_class} "
                f"({gpu_classes.words(gpu_class)}) of {', '.join(families)}",
                hint="`golden regions --family NAME` shows which do; add one to "
                "`publish: regions:`",
            )
        offers_by_class[gpu_class] = choices
    return offers_by_class


def _kinds(
    families: Mapping[str, Family], regions: Mapping[str, RegionTypes]
) -> dict[str, dict[str, _Kind]]:
    """The regions' types of the families by class and name."""
    kinds = defaultdict[str, dict[str, _Kind]](dict)
    for types in regions.values():
        for name, row in types.described.items():
            family_name, _, size = name.partition(".")
            family = families.get(family_name)
            # Not sizes that packer/hardware.yml lacks: the record of a test there would not count.
            if family is None or row.get("BareMetal") or not family.gpus_of(size):
                continue
            if row["GpuInfo"]["Gpus"][0]["Count"]:
                kind = gpu_type(families, row)
                vcpus = int(row["VCpuInfo"]["DefaultVCpus"])
                kinds[class_of(family, kind.gpus)][name] = _Kind(kind, vcpus)
    return kinds


def _every_offer(
    gpu_class: str,
    kinds: Iterable[GpuType],
    regions: Mapping[str, RegionTypes],
    priced: Priced,
) -> Iterator[Offer]:
    """Yield the types in both markets, in each zone that has them."""
    for spot in (True, False):
        for kind in kinds:
            usd_hour = priced.get(kind.type, {})
            for region, types in regions.items():
                for zone in types.zones.get(kind.type, ()):
                    if kind.type in types.described:
                        offer = Offer(gpu_class, region, zone, kind, spot, usd_hour.get(region))
                        yield _with_spot_price(offer, types)


def _with_spot_price(offer: Offer, types: RegionTypes) -> Offer:
    if not offer.spot:
        return offer
    return replace(offer, usd_spot=types.usd_spot.get((offer.kind.type, offer.zone)))


def _cheapest(
    kinds: Mapping[str, _Kind], regions: Mapping[str, RegionTypes], priced: Priced
) -> list[GpuType]:
    """The cheapest types first. Types without a known price come last, by size."""

    def rank(name: str) -> tuple[float, int, str]:
        usd = [usd for region, usd in priced.get(name, {}).items() if region in regions]
        return min(usd, default=float("inf")), kinds[name].vcpus, name

    return [kinds[name].kind for name in sorted(kinds, key=rank)[:MOST_TYPES]]


def cheapest_usd(offers_by_class: Mapping[str, Sequence[Offer]], hours: float) -> float | None:
    """The least that the test can be billed for if each class takes all its hours, or None
    if that is not known."""
    least = units.total(_least_usd(choices) for choices in offers_by_class.values())
    if least is None:
        return None
    return least * hours


def _costs_at_most(offer: Offer, hours: float, usd: float) -> bool:
    return offer.usd_hour is not None and offer.usd_hour * hours <= usd


def _least_usd(choices: Iterable[Offer]) -> float | None:
    return min((offer.usd_hour for offer in choices if offer.usd_hour is not None), default=None)


def affordable(
    offers_by_class: Mapping[str, list[Offer]],
    hours: float,
    most_usd: float | None,
) -> dict[str, list[Offer]]:
    """The offers for each class that cost no more than its share of `most_usd`. Raises
    BadInput if none is left for one. With a limit, offers without a known price are left out."""
    if most_usd is None:
        return dict(offers_by_class)
    share = most_usd / len(offers_by_class)
    kept = dict[str, list[Offer]]()
    for gpu_class, choices in offers_by_class.items():
        kept[gpu_class] = [offer for offer in choices if _costs_at_most(offer, hours, share)]
    for gpu_class, choices in kept.items():
        if not choices:
            least = cheapest_usd(offers_by_class, hours)
            needs = "its prices are not known"
            if least is not None:
                needs = f"the whole test needs at most ${least:.2f}"
            raise BadInput(
                f"${most_usd:.2f} do not pay {hours:g} h on a machine of class {gpu_class}; "
                f"{needs}",
                hint="give more by --max-usd, or fewer hours by --hours",
            )
    return kept
