"""Remove a cluster: first its groups with their machines, then the stack."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from goldenami.aws.calls import pages
from goldenami.aws.services import stacks
from goldenami.aws.services.stacks import DeployedStack
from goldenami.aws.session import Account
from goldenami.core.errors import BadInput
from goldenami.core.terminal.progress import Progress

from goldenami_fleet.cluster import cluster_template


@dataclass(frozen=True)
class ClusterRemoval:
    """The stack to delete. `groups` has, by name, a flag for each machine: whether it is protected
    from scaling in, as busy and new ones are."""

    region: str
    stack: DeployedStack
    groups: Mapping[str, list[bool]]


def prepare(account: Account, image: str, region: str) -> ClusterRemoval:
    """Plan the removal. Raises BadInput if there is no stack, or if it is somebody else's."""
    cloudformation, identity = (
        account.client("cloudformation", region),
        cluster_template.identity(image),
    )
    stack = stacks.find_ours(cloudformation, identity, region)
    if stack is None:
        raise BadInput(
            f"there is no stack {identity.name} in {region}",
            hint="nothing to remove; --region names another region",
        )
    names = stacks.groups(cloudformation, stack)
    groups = dict[str, list[bool]]()
    # Without names, the call would return all groups of the region.
    if names:
        for group in pages(
            account.autoscaling(region),
            "describe_auto_scaling_groups",
            "AutoScalingGroups",
            AutoScalingGroupNames=names,
        ):
            groups[group["AutoScalingGroupName"]] = [
                machine["ProtectedFromScaleIn"] for machine in group["Instances"]
            ]
    return ClusterRemoval(region, stack, groups)


def lines(removal: ClusterRemoval) -> Iterator[str]:
    """Lines for a terminal."""
    yield f"{removal.region}: the stack {removal.stack.name} goes"
    for name, machines in removal.groups.items():
        line = f"  {name}: {len(machines)} machines"
        if any(machines):
            line += f", {sum(machines)} of them protected"
        yield line


def remove(
    account: Account, removal: ClusterRemoval, progress: Progress, *, with_machines: bool
) -> None:
    """Delete the groups with their machines, then the stack. Raises BadInput if machines run and
    `with_machines` is False."""
    count = sum(map(len, removal.groups.values()))
    if count and not with_machines:
        raise BadInput(
            f"{count} machines of {removal.stack.name} run",
            hint="--with-machines ends them, also those that are busy",
        )
    autoscaling = account.autoscaling(removal.region)
    with progress.step("stack", removal.stack.name):
        # CloudFormation alone would scale a group in, and wait for machines that are protected from
        # that ("Use instance scale-in protection"); ForceDelete does not wait.
        for name in removal.groups:
            autoscaling.delete_auto_scaling_group(AutoScalingGroupName=name, ForceDelete=True)
        stacks.delete(
            account.client("cloudformation", removal.region),
            removal.stack,
            lambda text: progress.say(f"{removal.region}: {text}"),
        )
