"""Whether SSH from outside reaches an instance in a region's default network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from goldenami.aws.calls import pages
from goldenami.aws.session import Account

from goldenami_fleet.selftest.preflight_findings import AccountFact, Subject

Row = dict[str, Any]


def default_network(account: Account, subject: Subject) -> Iterator[AccountFact]:
    """Whether SSH reaches a subnet of the default VPC."""
    ec2, region = account.ec2(subject.region), f"--region {subject.region}"
    default = [{"Name": "is-default", "Values": ["true"]}]
    vpcs = [row["VpcId"] for row in pages(ec2, "describe_vpcs", "Vpcs", Filters=default)]
    tables = list(pages(ec2, "describe_route_tables", "RouteTables"))
    lacks = {
        (row["VpcId"], row["SubnetId"]): list(_lacks(row, tables, region))
        for row in pages(ec2, "describe_subnets", "Subnets")
    }
    own = [lack for (vpc, _), lack in lacks.items() if vpc in vpcs]
    if not vpcs:
        usable = [subnet for (_, subnet), lack in lacks.items() if not lack]
        other = f"`publish: {{subnets: [{', '.join(usable)}]}}`, or " if usable else ""
        yield subject.says(
            "stops", "there is no default VPC", f"{other}`aws ec2 create-default-vpc {region}`"
        )
    elif not own:
        zone = f"--availability-zone {subject.region}a"
        mend = f"`aws ec2 create-default-subnet {region} {zone}`"
        yield subject.says("stops", "the default VPC has no subnet", mend)
    elif all(own):
        # The subnet that lacks least is mended soonest.
        for text, mend in min(own, key=len):
            yield subject.says("stops", text, mend)
    else:
        yield subject.says("fits", f"SSH reaches {own.count([])} of {len(own)} default subnets")


def _lacks(subnet: Row, tables: Sequence[Row], region: str) -> Iterator[tuple[str, str]]:
    """Yield what SSH from outside lacks in a subnet, and the line that mends it."""
    name = subnet["SubnetId"]
    if not subnet["MapPublicIpOnLaunch"]:
        yield (
            f"{name} gives no public address, and a runner outside reaches no private one",
            f"`aws ec2 modify-subnet-attribute {region} --subnet-id {name} "
            "--map-public-ip-on-launch`, or a runner in the VPC",
        )
    if not subnet["AvailableIpAddressCount"]:
        yield f"{name} has no free address", "name another subnet: `publish: subnets:`"
    mains = [table for table in tables if table["VpcId"] == subnet["VpcId"]]
    own = [table for table in mains if _has(table, "SubnetId", name)]
    # A subnet without a table of its own has the VPC's main one.
    for table in (own or [each for each in mains if _has(each, "Main", True)])[:1]:
        if not any(_leads_outside(route) for route in table["Routes"]):
            yield (
                f"{name} has no route to an internet gateway",
                f"`aws ec2 create-route {region} --route-table-id {table['RouteTableId']} "
                "--destination-cidr-block 0.0.0.0/0 --gateway-id ID`, with the id that `aws ec2 "
                f"describe-internet-gateways {region}` shows",
            )


def _has(table: Row, key: str, value: object) -> bool:
    return any(each.get(key) == value for each in table["Associations"])


def _leads_outside(route: Row) -> bool:
    to = route.get("DestinationCidrBlock"), route.get("State")
    return to == ("0.0.0.0/0", "active") and route.get("GatewayId", "").startswith("igw-")
