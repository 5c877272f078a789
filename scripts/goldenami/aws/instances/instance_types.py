"""The instance types that a region offers, and their descriptions by EC2."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from goldenami.aws.calls import batches, pages
from goldenami.aws.session import Client


def describe(ec2: Client, families: Iterable[str]) -> list[dict[str, Any]]:
    """Describe all sizes of these families that the client's region offers."""
    sizes = list[dict[str, Any]]()
    for patterns in batches(_patterns(families)):
        type_filter = _type_filter(patterns)
        sizes += pages(ec2, "describe_instance_types", "InstanceTypes", Filters=[type_filter])
    return sizes


def offered(ec2: Client, families: Iterable[str]) -> set[str]:
    """The instance types of these families that the client's region offers: {"g5.xlarge", ...}."""
    return {
        row["InstanceType"]
        for row in pages(
            ec2,
            "describe_instance_type_offerings",
            "InstanceTypeOfferings",
            LocationType="region",
            Filters=[_type_filter(_patterns(families))],
        )
    }


def zones(ec2: Client, families: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield each instance type of these families with each zone of the region that offers it."""
    for row in pages(
        ec2,
        "describe_instance_type_offerings",
        "InstanceTypeOfferings",
        LocationType="availability-zone",
        Filters=[_type_filter(_patterns(families))],
    ):
        yield row["InstanceType"], row["Location"]


def missing_families(ec2: Client, families: Iterable[str]) -> list[str]:
    """Those of the families of which the region offers no type at all."""
    names = list(families)
    present = {name.partition(".")[0] for name in offered(ec2, names)}
    return [family for family in names if family not in present]


def _patterns(families: Iterable[str]) -> list[str]:
    return [f"{family}.*" for family in families]


def _type_filter(patterns: list[str]) -> dict[str, Any]:
    return {"Name": "instance-type", "Values": patterns}
