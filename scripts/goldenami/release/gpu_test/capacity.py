"""The instances on which a candidate can be tested: declared types by architecture and price, in
the order in which they are tried."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from goldenami.core import units
from goldenami.core.errors import BadInput
from goldenami.model.supported.hardware import Family, GpuType, gpu_type

MOST_TYPES = 4
"""Most types that are tried for an architecture, the cheapest first. Further ones have more GPUs
and cost a multiple."""


@dataclass(frozen=True)
class Offer:
    """An instance to request from EC2. `usd_hour` is the on-demand price, which Spot's never
    exceeds, `usd_spot` the current Spot price in the zone; None if not known."""

    sm: str
    region: str
    zone: str
    kind: GpuType
    spot: bool
    usd_hour: float | None
    usd_spot: float | None = None

    @property
    def market(self) -> str:
        return "Spot" if self.spot else "on demand"

    @property
    def path(self) -> tuple[str, ...]:
        """Region, market, type and zone: the scopes of a refusal, from the widest to the
        narrowest."""
        return self.region, self.market, self.kind.type, self.zone

    def __str__(self) -> str:
        price = "price unknown" if self.usd_hour is None else f"at most ${self.usd_hour:.3f}/h"
        now = "" if self.usd_spot is None else f" (now ${self.usd_spot:.3f})"
        return f"{self.kind.type} in {self.zone} {self.market}, {price}{now}"


@dataclass(frozen=True)
class RegionTypes:
    """A region's instance types: rows of DescribeInstanceTypes by type, zones by type, and Spot
    prices in dollars an hour by type and zone."""

    described: Mapping[str, Mapping[str, Any]]
    zones: Mapping[str, Sequence[str]]
    usd_spot: Mapping[tuple[str, str], float] = field(default_factory=dict)


Priced = Mapping[str, Mapping[str, float]]
"""On-demand prices in dollars an hour, by type and region."""


def offers(
    family_table: Mapping[str, Family],
    families: Iterable[str],
    regions: Mapping[str, RegionTypes],
    priced: Priced,
) -> dict[str, list[Offer]]:
    """The offers for each declared architecture, in the order in which to try them. Raises BadInput
    for an architecture that no region has.

    Spot comes before on demand, by its price in each zone. On demand, and where Spot prices are
    unknown or equal, a cheaper type comes first, then the definition's first region.
    """
    declared = {family: sm for family in families if (sm := family_table[family].sm)}
    offers_by_sm: dict[str, list[Offer]] = {}
    for sm in sorted(set(declared.values()), key=int):
        names = _cheapest(
            [family for family, family_sm in declared.items() if family_sm == sm], regions, priced
        )
        offers_by_sm[sm] = [
            Offer(
                sm,
                region,
                zone,
                gpu_type(family_table, types.described[name]),
                market,
                priced.get(name, {}).get(region),
                types.usd_spot.get((name, zone)) if market else None,
            )
            for market in (True, False)
            for name in names
            # Not sizes that packer/hardware.yml lacks: the record of a test there would not count.
            if family_table[name.partition(".")[0]].gpus_of(name.partition(".")[2])
            for region, types in regions.items()
            if name in types.described
            for zone in types.zones.get(name, ())
        ]
        # The sort is stable, so the order above decides between offers of the same price.
        offers_by_sm[sm].sort(
            key=lambda offer: (not offer.spot, offer.usd_spot is None, offer.usd_spot or 0.0)
        )
        if not offers_by_sm[sm]:
            lacking = ", ".join(family for family, family_sm in declared.items() if family_sm == sm)
            raise BadInput(
                f"no region of the definition offers a GPU of architecture {sm} ({lacking})",
                hint="`golden regions --family NAME` shows which do; add one to "
                "`publish: regions:`",
            )
    return offers_by_sm


def _cheapest(
    families: Sequence[str], regions: Mapping[str, RegionTypes], priced: Priced
) -> list[str]:
    """The families' types, the cheapest first. Types without a known price come last, by size."""
    rows = {
        name: row
        for types in regions.values()
        for name, row in types.described.items()
        if name.partition(".")[0] in families
        and row["GpuInfo"]["Gpus"][0]["Count"]
        and not row.get("BareMetal")
    }
    prices = {
        name: min(
            (usd for region, usd in priced.get(name, {}).items() if region in regions),
            default=float("inf"),
        )
        for name in rows
    }
    return sorted(
        rows, key=lambda name: (prices[name], rows[name]["VCpuInfo"]["DefaultVCpus"], name)
    )[:MOST_TYPES]


def cheapest_usd(offers_by_sm: Mapping[str, Sequence[Offer]], hours: float) -> float | None:
    """The least that the test can be billed for if each architecture takes all its hours, or None
    if that is not known."""
    least = units.total(
        min((offer.usd_hour for offer in choices if offer.usd_hour is not None), default=None)
        for choices in offers_by_sm.values()
    )
    return None if least is None else least * hours


def affordable(
    offers_by_sm: Mapping[str, list[Offer]],
    hours: float,
    most_usd: float | None,
) -> dict[str, list[Offer]]:
    """The offers for each architecture that cost no more than its share of `most_usd`. Raises
    BadInput if none is left for one. With a limit, offers without a known price are left out."""
    if most_usd is None:
        return dict(offers_by_sm)
    share = most_usd / len(offers_by_sm)
    kept = {
        sm: [
            offer
            for offer in choices
            if offer.usd_hour is not None and offer.usd_hour * hours <= share
        ]
        for sm, choices in offers_by_sm.items()
    }
    if unaffordable := [sm for sm, choices in kept.items() if not choices]:
        least = cheapest_usd(offers_by_sm, hours)
        raise BadInput(
            f"${most_usd:.2f} do not pay {hours:g} h on a GPU of architecture {unaffordable[0]}"
            + (
                "; its prices are not known"
                if least is None
                else f"; the whole test needs at most ${least:.2f}"
            ),
            hint="give more by --max-usd, or fewer hours by --hours",
        )
    return kept
