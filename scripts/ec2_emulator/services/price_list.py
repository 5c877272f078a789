"""AWS's price list and the history of Spot prices, from `EmulatorSettings`: what machines and
storage cost.

moto has no price list at all, and one Spot price for everything.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.responses._base_response import EC2BaseResponse

from ec2_emulator import listing
from ec2_emulator.state import STATE

PAGE = 100
"""Products of a page, and the most that MaxResults may be (API_pricing_GetProducts)."""
EVERYWHERE = "*"
"""In the settings: a price in all regions that have none of their own."""
REGIONS = ("us-east-1", "us-east-2", "us-west-2", "eu-west-1", "eu-central-1")
PUBLISHED = "2024-12-02T18:00:00Z"
BY_USAGE = (
    ("AmazonEC2", "EBS:SnapshotUsage", 0.05, "GB-Mo", "productFamily", "Storage Snapshot"),
    ("AmazonEC2", "EBS:VolumeUsage.gp3", 0.08, "GB-Mo", "volumeApiName", "gp3"),
    ("AmazonCloudWatch", "CW:MetricMonitorUsage", 0.30, "Metrics", "group", "Metric"),
)
"""What is sold by usage, alike in all regions."""
SPOT_SHARE = 0.4
"""Of the price on demand, where the settings name no Spot price: about what GPUs cost."""


def usd_hour(region: str) -> dict[str, float]:
    """Dollars for an hour on demand of each type that has a price in a region."""
    return {
        **STATE.settings.usd_hour.get(EVERYWHERE, {}),
        **STATE.settings.usd_hour.get(region, {}),
    }


def _products() -> Iterator[dict[str, Any]]:
    named = STATE.settings.usd_hour.keys() - {EVERYWHERE}
    for region in sorted(named | set(REGIONS)):
        for name, usd in sorted(usd_hour(region).items()):
            yield _product(
                "AmazonEC2",
                usd,
                "Hrs",
                {
                    "instanceType": name,
                    "regionCode": region,
                    "operatingSystem": "Linux",
                    "tenancy": "Shared",
                    "preInstalledSw": "NA",
                    "capacitystatus": "Used",
                    "licenseModel": "No License required",
                    "usagetype": f"BoxUsage:{name}",
                },
            )
        for service, usage, usd, unit, attribute, value in BY_USAGE:
            yield _product(
                service, usd, unit, {"regionCode": region, "usagetype": usage, attribute: value}
            )


def _product(service: str, usd: float, unit: str, attributes: dict[str, str]) -> dict[str, Any]:
    rate = {"pricePerUnit": {"USD": f"{usd:.10f}"}, "unit": unit, "beginRange": "0"}
    return {
        "serviceCode": service,
        "publicationDate": PUBLISHED,
        "version": "1",
        "terms": {"OnDemand": {"T": {"priceDimensions": {"D": rate}}}},
        "product": {"attributes": attributes},
    }


def get_products(asked: dict[str, Any]) -> dict[str, Any]:
    """The price list has the products that match every filter, each as JSON in a string, a hundred
    in a page."""
    wanted = {each["Field"]: each["Value"] for each in asked.get("Filters", ())}
    found = [
        json.dumps(product)
        for product in _products()
        if asked["ServiceCode"] == product["serviceCode"]
        and all(
            product["product"]["attributes"].get(field) == value for field, value in wanted.items()
        )
    ]
    page, token = listing.paginate(
        found, asked.get("MaxResults"), asked.get("NextToken"), most=PAGE
    )
    return {
        "FormatVersion": "aws_v1",
        "PriceList": list(page),
        **({"NextToken": token} if token else {}),
    }


class SpotPriceApi(EC2BaseResponse):
    """The handlers."""

    def describe_spot_price_history(self) -> ActionResult:
        """Each type has a Spot price in each of its zones, which the region's price on demand
        bounds."""
        prices, shares = usd_hour(self.region), STATE.settings.usd_spot
        wanted = self._get_param("InstanceTypes", []) or prices
        zones = self.ec2_backend.describe_instance_type_offerings("availability-zone", {})
        history = [
            {
                "InstanceType": each["InstanceType"],
                "AvailabilityZone": each["Location"],
                "ProductDescription": "Linux/UNIX",
                "Timestamp": STATE.now(),
                "SpotPrice": format(
                    shares.get(each["Location"], SPOT_SHARE) * prices[each["InstanceType"]], ".6f"
                ),
            }
            for each in zones
            if each["InstanceType"] in prices and each["InstanceType"] in wanted
        ]
        return listing.answer(self, "SpotPriceHistory", history)
