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
from ec2_emulator.errors import ApiError
from ec2_emulator.rules import EC2_API, rule
from ec2_emulator.state import STATE

PRICING_API = "https://docs.aws.amazon.com/aws-cost-management/latest/APIReference/"
PAGE = 100
"""Products of a page, and the most that MaxResults may be (API_pricing_GetProducts)."""
EVERYWHERE = "*"
"""In the settings: a price in all regions that have none of their own."""
REGIONS = ("us-east-1", "us-east-2", "us-west-2", "eu-west-1", "eu-central-1")
NEAR = {"us-east-1", "us-east-2"}
TABLES, PER_REQUEST = "AmazonDynamoDB", "Amazon DynamoDB PayPerRequest Throughput"
SPOT_SHARE = 0.4
"""Of the price on demand, where the settings name no Spot price: about what GPUs cost."""


def usd_hour(region: str) -> dict[str, float]:
    """Dollars for an hour on demand of each type that has a price in a region."""
    return {**STATE.settings.usd_hour.get(EVERYWHERE, {}),
            **STATE.settings.usd_hour.get(region, {})}


def _products() -> Iterator[dict[str, Any]]:
    named = STATE.settings.usd_hour.keys() - {EVERYWHERE}
    for region in sorted(named | set(REGIONS)):
        for name, usd in sorted(usd_hour(region).items()):
            yield _product(usd, "Hrs", {
                "productFamily": "Compute Instance", "instanceType": name, "regionCode": region,
                "operatingSystem": "Linux", "tenancy": "Shared", "preInstalledSw": "NA",
                "capacitystatus": "Used",
                "licenseModel": "No License required", "usagetype": f"BoxUsage:{name}"})
        yield from _of_region(region)
        for other in set(REGIONS) - {region} if STATE.settings.usd_transfer_gb else ():
            share = 0.5 if {region, other} == NEAR else 1
            yield _product(STATE.settings.usd_transfer_gb * share, "GB", {
                "productFamily": "Data Transfer", "transferType": "InterRegion Outbound",
                "fromRegionCode": region,
                "toRegionCode": other, "usagetype": f"{region}-{other}-AWS-Out-Bytes"},
                           "AWSDataTransfer")


def _of_region(region: str) -> Iterator[dict[str, Any]]:
    """What is sold by usage; the price of the first units, and of a class that nobody here uses."""
    for usd, unit, service, family, usage, more in (
            (STATE.settings.usd_snapshot_gib, "GB-Mo", "AmazonEC2", "Storage Snapshot",
             "EBS:SnapshotUsage", {}),
            (0.023, "GB-Mo", "AmazonS3", "Storage", "TimedStorage-ByteHrs",
             {"volumeType": "Standard"}),
            (0.625e-6, "WriteRequestUnits", TABLES, PER_REQUEST, "WriteRequestUnits",
             {"group": "DDB-WriteUnits"}),
            (0.78e-6, "WriteRequestUnits", TABLES, PER_REQUEST, "IA-WriteRequestUnits",
             {"group": "DDB-WriteUnits"}),
            (0.125e-6, "ReadRequestUnits", TABLES, PER_REQUEST, "ReadRequestUnits",
             {"group": "DDB-ReadUnits"})):
        if usd:
            yield _product(usd, unit, {
                "productFamily": family, "regionCode": region, "usagetype": usage, **more}, service)


def _product(
    usd: float, unit: str, attributes: dict[str, str], service: str = "AmazonEC2"
) -> dict[str, Any]:
    rate = {"pricePerUnit": {"USD": f"{usd:.10f}"}, "unit": unit, "beginRange": "0"}
    return {"serviceCode": service, "terms": {"OnDemand": {"T": {"priceDimensions": {"D": rate}}}},
            "publicationDate": STATE.settings.prices_published, "version": "1",
            "product": {"productFamily": attributes["productFamily"], "attributes": attributes}}


@rule(PRICING_API + "API_pricing_GetProducts.html")
def get_products(asked: dict[str, Any]) -> dict[str, Any]:
    """The price list has the products that match every filter, each as JSON in a string, a hundred
    in a page."""
    wanted = {each["Field"]: each["Value"] for each in asked.get("Filters", ())}
    found = [json.dumps(product) for product in _products() if asked["ServiceCode"]
             == product["serviceCode"] and all(
                 product["product"]["attributes"].get(field) == value
                 for field, value in wanted.items())]
    page, token = listing.paginate(
        found, asked.get("MaxResults"), asked.get("NextToken"), most=PAGE,
        bad_token=lambda text: ApiError("InvalidNextTokenException", text))
    return {"FormatVersion": "aws_v1", "PriceList": list(page),
            **({"NextToken": token} if token else {})}


class SpotPriceApi(EC2BaseResponse):
    """The handlers."""

    @rule(EC2_API + "API_DescribeSpotPriceHistory.html")
    def describe_spot_price_history(self) -> ActionResult:
        """Each type has a Spot price in each of its zones, which the region's price on demand
        bounds."""
        prices, shares = usd_hour(self.region), STATE.settings.usd_spot
        wanted = self._get_param("InstanceTypes", []) or prices
        zones = self.ec2_backend.describe_instance_type_offerings("availability-zone", {})
        history = [{
            "InstanceType": each["InstanceType"], "AvailabilityZone": each["Location"],
            "ProductDescription": "Linux/UNIX", "Timestamp": STATE.now(),
            "SpotPrice": f"{shares.get(each['Location'], SPOT_SHARE) * prices[each['InstanceType']]:.6f}",
        } for each in zones if each["InstanceType"] in prices and each["InstanceType"] in wanted]
        page, token = listing.paginate(history, self._get_param("MaxResults"),
                                       self._get_param("NextToken"))
        return ActionResult({"SpotPriceHistory": page, "NextToken": token})
