"""What others launch an image by, as text for their own tools."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from goldenami.aws.channels import group_policy
from goldenami.aws.channels.group_policy import FOLLOWING, GroupWishes
from goldenami.commands import ImageName
from goldenami.commands.checkout import Checkout


def cmd_mixed_policy(
    checkout: Checkout, image: ImageName, *,
    fleet: Annotated[bool, typer.Option(
        "--fleet", help="the launch template configs of an EC2 Fleet instead of a group's policy")] = False,
    spot: Annotated[int, typer.Option(
        "--spot", metavar="PERCENT", min=0, max=100, help="how much of the group is on Spot")] = 0,
    vcpus: Annotated[int, typer.Option("--vcpus", metavar="N", min=1, help="vCPUs that a type has at least")] = 1,
    memory_gib: Annotated[int, typer.Option(
        "--memory-gib", metavar="N", min=1, help="memory that a type has at least")] = 1,
    version: Annotated[str, typer.Option(
        "--version", metavar="V", help="of the template: a number, $Latest or $Default")] = FOLLOWING,
) -> int:
    """Print the mixed instances policy by which an Auto Scaling group launches the declared families."""
    definition = checkout.definition(image)
    group_policy.check_version(definition, version)
    wishes = GroupWishes(vcpus=vcpus, memory_gib=memory_gib, spot_percent=spot, version=version)
    made = group_policy.fleet_configs(definition, wishes) if fleet else \
        group_policy.mixed_instances_policy(definition, wishes)
    print(json.dumps(made, indent=2))
    return 0
