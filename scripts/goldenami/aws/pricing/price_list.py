"""AWS's price list, with the day of its publication. A price that cannot be read is unknown instead
of an error, because no price is worth failing for."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from goldenami.aws.calls import pages
from goldenami.aws.session import PRICE_LIST_REGION, Account, Client, translate

MACHINES: Mapping[str, str] = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
    "licenseModel": "No License required",
}
"""The price list's attributes of an hour of Linux on shared hardware."""
EC2 = "AmazonEC2"
SOURCE = "AWS's price list (pricing:GetProducts)"


@dataclass(frozen=True)
class RegionPrices:
    """On-demand prices in one region, in US dollars without taxes and discounts.

    `published` is the day of the price list. Machines that are not listed are in no mapping;
    `snapshot_gib_month` is None if it is not listed. `unknown` is why no prices are known, or "".
    """

    region: str
    published: str = ""
    machine_hour: Mapping[str, float] = field(default_factory=dict)
    snapshot_gib_month: float | None = None
    unknown: str = ""

    def of_kind(self, kind: str) -> dict[str, float]:
        """US dollars an hour of the type `kind`, or of each of that family, the cheapest first."""
        members = (
            (usd, name)
            for name, usd in self.machine_hour.items()
            if kind in (name, name.partition(".")[0])
        )
        return {name: usd for usd, name in sorted(members)}

    @property
    def source(self) -> str:
        return _source(self.published, self.unknown)


@dataclass(frozen=True, eq=False)
class ListedUsage:
    """A product of the price list: its service, its attributes, and the suffix of its usage type,
    which may have a region's abbreviation before it. `place` is the attribute with the region."""

    service: str
    attributes: Mapping[str, str]
    usage: str
    place: str = "regionCode"


ANY_OF_EC2 = ListedUsage(EC2, {}, "")
SNAPSHOT_GIB_MONTH = ListedUsage(EC2, {"productFamily": "Storage Snapshot"}, "EBS:SnapshotUsage")
GP3_GIB_MONTH = ListedUsage(EC2, {"volumeApiName": "gp3"}, "EBS:VolumeUsage.gp3")


@dataclass(frozen=True)
class ListedPrices:
    """On-demand prices of a product's unit in US dollars, by region. `published` and `unknown` are
    as in `RegionPrices`."""

    usd: Mapping[str, float] = field(default_factory=dict)
    published: str = ""
    unknown: str = ""

    @property
    def source(self) -> str:
        return _source(self.published, self.unknown)


def _source(published: str, unknown: str) -> str:
    return f"unknown: {unknown}" if unknown else f"{SOURCE} of {published}"


def of_usage(account: Account, usage: ListedUsage, regions: Collection[str]) -> ListedPrices:
    """The price of a product in those of the regions for which it is listed. If the price list does
    not answer, all are unknown."""
    try:
        return _by_region(account.with_short_timeouts().pricing(), usage, regions)
    except Exception as error:  # translate raises an exception that is no error of AWS's or ours
        return ListedPrices(unknown=translate(error, PRICE_LIST_REGION).message)


def _by_region(pricing: Client, usage: ListedUsage, regions: Collection[str]) -> ListedPrices:
    place = {usage.place: next(iter(regions))} if len(regions) == 1 else {}
    listed, day = usd_by(pricing, usage.place, {**usage.attributes, **place}, usage)
    prices = {region: listed[region] for region in regions if region in listed}
    if not prices:
        return ListedPrices(unknown=f"the price list has no {usage.usage} in {', '.join(regions)}")
    return ListedPrices(prices, day)


def ask(account: Account, region: str) -> RegionPrices:
    """The prices of machines and snapshots in a region."""
    try:
        machines, day = usd_by(
            account.with_short_timeouts().pricing(),
            "instanceType",
            {**MACHINES, "regionCode": region},
        )
    except Exception as error:  # as in of_usage
        return RegionPrices(region, unknown=translate(error, PRICE_LIST_REGION).message)
    if not machines:
        return RegionPrices(region, unknown=f"the price list has no machine in {region}")
    return RegionPrices(
        region, day, machines, of_usage(account, SNAPSHOT_GIB_MONTH, [region]).usd.get(region)
    )


def usd_by(
    pricing: Client,
    key: str,
    attributes: Mapping[str, str],
    usage: ListedUsage = ANY_OF_EC2,
) -> tuple[dict[str, float], str]:
    """On-demand prices of a unit in US dollars, by the attribute `key` of the products with these
    `attributes`, and the day of the price list."""
    prices, day = dict[str, float](), ""
    for text in pages(
        pricing,
        "get_products",
        "PriceList",
        ServiceCode=usage.service,
        Filters=[
            {"Type": "TERM_MATCH", "Field": name, "Value": value}
            for name, value in attributes.items()
        ],
    ):
        product: dict[str, Any] = json.loads(text)
        product_attributes = product["product"]["attributes"]
        day = max(day, product["publicationDate"][:10])
        # A price of 0 is that of another offer.
        usd = next(filter(None, _on_demand(product)), None)
        if usd and product_attributes.get("usagetype", "").endswith(usage.usage):
            prices[product_attributes.get(key, "")] = usd
    return prices, day


def _on_demand(product: Mapping[str, Any]) -> Iterator[float]:
    """Yield the prices of a product's unit in US dollars, that of the first units first; none if it
    is sold in another currency, as in China's regions."""
    for term in product["terms"].get("OnDemand", {}).values():
        for dimension in sorted(
            term["priceDimensions"].values(),
            key=lambda dimension: float(dimension.get("beginRange", 0)),
        ):
            if "USD" in dimension["pricePerUnit"]:
                yield float(dimension["pricePerUnit"]["USD"])
