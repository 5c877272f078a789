"""AWS's price list and the history of Spot prices, from `EmulatorSettings`.

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
"""Products in a page, and the upper bound of MaxResults (API_pricing_GetProducts)."""
EVERYWHERE = "*"
"""The key in the settings for the prices of all regions that have none of their own."""
REGIONS = ("us-east-1", "us-east-2", "us-west-2", "eu-west-1", "eu-central-1")
UNREACHED, USD_GB = "us-west-2", {"us-east-2": 0.01}
"""A region to which the list has no price of a GB, and the price of one from a region."""
PUBLISHED = "2024-12-02T18:00:00Z"
BY_USAGE = (
    ("AmazonEC2", "EBS:SnapshotUsage", 0.05, "GB-Mo", "productFamily", "Storage Snapshot"),
    ("AmazonEC2", "EBS:VolumeUsage.gp3", 0.08, "GB-Mo", "volumeApiName", "gp3"),
    ("AmazonCloudWatch", "CW:MetricMonitorUsage", 0.30, "Metrics", "group", "Metric"),
)
"""Products sold by usage, at one price in all regions: (service, usage type, USD, unit, attribute,
its value)."""
SPOT_SHARE = 0.4
"""The Spot price as a share of the on-demand price if the settings name none: about what GPUs
cost."""


def usd_hour(region: str) -> dict[str, float]:
    """Return the on-demand price (US dollars an hour) of each type that has one in a region."""
    return {
        **STATE.settings.usd_hour.get(EVERYWHERE, {}),
        **STATE.settings.usd_hour.get(region, {}),
    }


def _products() -> Iterator[dict[str, Any]]:
    priced_regions = STATE.settings.usd_hour.keys() - {EVERYWHERE}
    for region in sorted(priced_regions | set(REGIONS)):
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
        for place in REGIONS:
            way = {"fromRegionCode": region, "toRegionCode": place}
            way |= {"transferType": "InterRegion Outbound", "usagetype": "X-Y-AWS-Out-Bytes"}
            if place not in (region, UNREACHED):
                yield _product("AWSDataTransfer", USD_GB.get(region, 0.02), "GB", way)
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
        # AWS's keys of terms and dimensions are opaque; a product here has one of each.
        "terms": {"OnDemand": {"T": {"priceDimensions": {"D": rate}}}},
        "product": {"attributes": attributes},
    }


def get_products(request: dict[str, Any]) -> dict[str, Any]:
    """Return a page of the products that match every filter, each as JSON in a string."""
    required = {filter_["Field"]: filter_["Value"] for filter_ in request.get("Filters", ())}
    matching = [
        json.dumps(product)
        for product in _products()
        if request["ServiceCode"] == product["serviceCode"]
        and all(
            product["product"]["attributes"].get(field) == value
            for field, value in required.items()
        )
    ]
    page, token = listing.paginate(
        matching, request.get("MaxResults"), request.get("NextToken"), most=PAGE
    )
    return {
        "FormatVersion": "aws_v1",
        "PriceList": list(page),
        **({"NextToken": token} if token else {}),
    }


class SpotPriceApi(EC2BaseResponse):
    """The handlers."""

    def describe_spot_price_history(self) -> ActionResult:
        """Return a Spot price for each type in each of its zones, as a share of the region's
        on-demand price."""
        prices, shares = usd_hour(self.region), STATE.settings.usd_spot
        types = self._get_param("InstanceTypes", []) or prices
        zones = self.ec2_backend.describe_instance_type_offerings("availability-zone", {})
        history = [
            {
                "InstanceType": offering["InstanceType"],
                "AvailabilityZone": offering["Location"],
                "ProductDescription": "Linux/UNIX",
                "Timestamp": STATE.now(),
                "SpotPrice": format(
                    shares.get(offering["Location"], SPOT_SHARE) * prices[offering["InstanceType"]],
                    ".6f",
                ),
            }
            for offering in zones
            if offering["InstanceType"] in prices and offering["InstanceType"] in types
        ]
        return listing.answer(self, "SpotPriceHistory", history)
