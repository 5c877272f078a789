"""On what a candidate can be tested: declared types by architecture and price, and what to try when
one is taken."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from goldenami.core import units
from goldenami.core.errors import BadInput
from goldenami.model.supported.hardware import Family, GpuType, gpu_type

MOST_TYPES = 4
"""Types that are tried for an architecture, cheapest first: the next ones have more GPUs and cost a
multiple."""


@dataclass(frozen=True)
class Offer:
    """One thing to ask EC2 for. `usd_hour` is the on-demand price, which bounds Spot's, `usd_spot`
    the zone's now; None: not known."""

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
        """What it is about, from what is widest to what is narrowest."""
        return self.region, self.market, self.kind.type, self.zone

    def __str__(self) -> str:
        price = "price unknown" if self.usd_hour is None else f"at most ${self.usd_hour:.3f}/h"
        now = "" if self.usd_spot is None else f" (now ${self.usd_spot:.3f})"
        return f"{self.kind.type} in {self.zone} {self.market}, {price}{now}"


@dataclass(frozen=True)
class RegionTypes:
    """What a region has: rows of DescribeInstanceTypes and zones by type, dollars an hour of Spot
    by type and zone."""

    described: Mapping[str, Mapping[str, Any]]
    zones: Mapping[str, Sequence[str]]
    usd_spot: Mapping[tuple[str, str], float] = field(default_factory=dict)


Priced = Mapping[str, Mapping[str, float]]
"""Dollars an hour on demand, by type and region."""


def offers(
    known: Mapping[str, Family],
    families: Iterable[str],
    regions: Mapping[str, RegionTypes],
    priced: Priced,
) -> dict[str, list[Offer]]:
    """For each declared architecture what to ask for, in this order; BadInput for one that no
    region has.

    Spot goes before on demand, by its price in each zone; where that is not known or the same, and
    on demand, a cheaper type goes before a dearer one, the definition's first region before the
    others.
    """
    declared = {family: sm for family in families if (sm := known[family].sm)}
    found: dict[str, list[Offer]] = {}
    for sm in sorted(set(declared.values()), key=int):
        names = _cheapest(
            [family for family, its in declared.items() if its == sm], regions, priced
        )
        found[sm] = [
            Offer(
                sm,
                region,
                zone,
                gpu_type(known, types.described[name]),
                market,
                priced.get(name, {}).get(region),
                types.usd_spot.get((name, zone)) if market else None,
            )
            for market in (True, False)
            for name in names
            # The record of a size that packer/hardware.yml lacks would not count.
            if known[name.partition(".")[0]].gpus_of(name.partition(".")[2])
            for region, types in regions.items()
            if name in types.described
            for zone in types.zones.get(name, ())
        ]
        found[sm].sort(
            key=lambda offer: (not offer.spot, offer.usd_spot is None, offer.usd_spot or 0.0)
        )
        if not found[sm]:
            lacking = ", ".join(family for family, its in declared.items() if its == sm)
            raise BadInput(
                f"no region of the definition offers a GPU of architecture {sm} ({lacking})",
                hint="`golden regions --family NAME` shows which do; add one to "
                "`publish: regions:`",
            )
    return found


def _cheapest(
    families: Sequence[str], regions: Mapping[str, RegionTypes], priced: Priced
) -> list[str]:
    """Types of the families, the cheapest first; one without a known price counts by its size."""
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


def cheapest_usd(found: Mapping[str, Sequence[Offer]], hours: float) -> float | None:
    """The least that the whole test can be billed for, if each architecture takes all its hours;
    None: unknown."""
    least = units.total(
        min((offer.usd_hour for offer in each if offer.usd_hour is not None), default=None)
        for each in found.values()
    )
    return None if least is None else least * hours


def affordable(
    found: Mapping[str, list[Offer]],
    hours: float,
    most_usd: float | None,
) -> dict[str, list[Offer]]:
    """The offers that the limit of money leaves to each architecture; BadInput where it leaves one
    none.

    With a limit, what has no known price is left out.
    """
    if most_usd is None:
        return dict(found)
    share = most_usd / len(found)
    kept = {
        sm: [
            offer
            for offer in each
            if offer.usd_hour is not None and offer.usd_hour * hours <= share
        ]
        for sm, each in found.items()
    }
    if poor := [sm for sm, each in kept.items() if not each]:
        least = cheapest_usd(found, hours)
        raise BadInput(
            f"${most_usd:.2f} do not pay {hours:g} h on a GPU of architecture {poor[0]}"
            + (
                "; its prices are not known"
                if least is None
                else f"; the whole test needs at most ${least:.2f}"
            ),
            hint="give more by --max-usd, or fewer hours by --hours",
        )
    return kept
