"""Which instance types a region has."""

from __future__ import annotations

from collections.abc import Iterable

from goldenami.aws.session import Client


def types(ec2: Client, families: Iterable[str]) -> set[str]:
    """The instance types of those families that the client's region offers: {"g5.xlarge", ...}."""
    wanted = [f"{family}.*" for family in families]
    pages = ec2.get_paginator("describe_instance_type_offerings").paginate(
        LocationType="region", Filters=[{"Name": "instance-type", "Values": wanted}])
    return {row["InstanceType"] for page in pages for row in page["InstanceTypeOfferings"]}


def missing_families(ec2: Client, families: Iterable[str]) -> list[str]:
    """Those of the families of which the region has no type at all."""
    names = list(families)
    offered = {name.partition(".")[0] for name in types(ec2, names)}
    return [family for family in names if family not in offered]
