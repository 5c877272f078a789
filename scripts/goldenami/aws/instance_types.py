"""What EC2 says of instance types."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from goldenami.aws.session import Client

FILTER_VALUES = 200
"""Values that one filter may have (EC2 API reference, "Filtering using the API")."""


def describe(ec2: Client, families: Iterable[str]) -> list[dict[str, Any]]:
    """DescribeInstanceTypes for all sizes of the families that the client's region offers."""
    wanted = [f"{family}.*" for family in families]
    found: list[dict[str, Any]] = []
    for start in range(0, len(wanted), FILTER_VALUES):
        some = {"Name": "instance-type", "Values": wanted[start:start + FILTER_VALUES]}
        for page in ec2.get_paginator("describe_instance_types").paginate(Filters=[some]):
            found += page["InstanceTypes"]
    return found
