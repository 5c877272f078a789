"""Which instance types a region offers: moto's table, with the wildcards and the pages that EC2 has.

https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstanceTypeOfferings.html and, for the wildcards,
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Filtering.html#Filtering_Resources_CLI.
"""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.responses._base_response import EC2BaseResponse

from goldenami.emulator import answers


def _value(offer: dict[str, Any], name: str) -> list[str]:
    known = {"instance-type": "InstanceType", "location": "Location"}
    if name not in known:
        raise answers.wrong(f"The filter '{name}' is invalid")
    return [offer[known[name]]]


class Offers(EC2BaseResponse):
    """The call that lists them."""

    def describe_instance_type_offerings(self) -> ActionResult:
        """DescribeInstanceTypeOfferings."""
        location = self._get_param("LocationType") or "region"
        offers = answers.select(self.ec2_backend.describe_instance_type_offerings(location, {}),
                                self._filters_from_querystring(), _value)
        limit = self._get_param("MaxResults")
        shown, more = answers.page(offers, int(limit) if limit else None, self._get_param("NextToken"), least=5)
        return ActionResult({"InstanceTypeOfferings": shown, "NextToken": more})
