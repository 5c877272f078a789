"""AWS's price list, with the day it was published: machines by the hour, snapshots by the GiB-month."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from goldenami.aws.calls import pages
from goldenami.aws.session import Account, Client, translate

MACHINES: Mapping[str, str] = {
    "operatingSystem": "Linux", "tenancy": "Shared", "preInstalledSw": "NA", "capacitystatus": "Used",
    "licenseModel": "No License required"}
"""Attributes of an hour of Linux on shared hardware."""
_SNAPSHOTS = {"productFamily": "Storage Snapshot"}
_STANDARD = "EBS:SnapshotUsage"
"""The end of the usage type of a snapshot in the standard tier; before it stands the region's abbreviation."""
SOURCE = "AWS's price list (pricing:GetProducts)"


@dataclass(frozen=True)
class RegionPrices:
    """US dollars in one region, on demand, without taxes and discounts.

    `published` is the price list's day. What is not listed is in no mapping, and `snapshot_gib_month` is None;
    `unknown` is why nothing could be asked for.
    """

    region: str
    published: str = ""
    machine_hour: Mapping[str, float] = field(default_factory=dict)
    snapshot_gib_month: float | None = None
    unknown: str = ""

    def of_family(self, family: str) -> dict[str, float]:
        """Dollars for an hour of each type of the family, the cheapest first."""
        found = ((usd, name) for name, usd in self.machine_hour.items() if name.partition(".")[0] == family)
        return {name: usd for usd, name in sorted(found)}

    @property
    def source(self) -> str:
        """Where these prices are from, in words."""
        return f"unknown: {self.unknown}" if self.unknown else f"{SOURCE} of {self.published}"


def ask(account: Account, region: str) -> RegionPrices:
    """The prices of a region. A price list that does not answer makes them unknown: none is worth failing for."""
    try:
        client, days = account.pricing(), set[str]()
        machines = {name: usd for name, usd in _prices(client, region, MACHINES, "instanceType", days) if usd}
        snapshots = [usd for name, usd in _prices(client, region, _SNAPSHOTS, "usagetype", days)
                     if name.endswith(_STANDARD)]
    except Exception as error:  # translate raises what is none of AWS's errors or ours
        return RegionPrices(region, unknown=translate(error).message)
    if not machines:
        return RegionPrices(region, unknown=f"the price list has no machine in {region}")
    return RegionPrices(region, max(days), machines, snapshots[0] if snapshots else None)


def _prices(
    client: Client, region: str, wanted: Mapping[str, str], attribute: str, days: set[str],
) -> Iterator[tuple[str, float]]:
    """An attribute of each product with its price; `days` takes the days on which the list was published."""
    for product in products(client, {**wanted, "regionCode": region}):
        days.add(product["publicationDate"][:10])
        for usd in on_demand(product):
            yield product["product"]["attributes"][attribute], usd


def products(pricing: Client, attributes: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """EC2's products with these attributes, as GetProducts has them."""
    for text in pages(pricing, "get_products", "PriceList", ServiceCode="AmazonEC2", Filters=[
            {"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in attributes.items()]):
        product: dict[str, Any] = json.loads(text)
        yield product


def on_demand(product: Mapping[str, Any]) -> Iterator[float]:
    """US dollars of a product's unit, on demand; nothing where it is sold in other money, as in China's regions."""
    for term in product["terms"].get("OnDemand", {}).values():
        for dimension in term["priceDimensions"].values():
            if "USD" in dimension["pricePerUnit"]:
                yield float(dimension["pricePerUnit"]["USD"])
