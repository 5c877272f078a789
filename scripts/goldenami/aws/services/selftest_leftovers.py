"""What `golden selftest` leaves in a region beside resources of EC2: Auto Scaling groups, stacks,
launch templates, and, without tags, the parameters, leases and ledgers of its image. The table of
leases stays: others may use it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from goldenami.aws import images, tags
from goldenami.aws.calls import pages, tolerate, wait_for
from goldenami.aws.channels import lease, pointers
from goldenami.aws.instances import instances
from goldenami.aws.inventory import leftovers
from goldenami.aws.inventory.leftovers import Leftover, LeftoverKind
from goldenami.aws.services import stacks
from goldenami.aws.session import Account, Client
from goldenami.core.errors import StageFailed
from goldenami.model.operation.publish_section import SELFTEST_IMAGE

PATH = f"{pointers.PREFIX}/{SELFTEST_IMAGE}"
CLUSTER = f"golden-cluster-{SELFTEST_IMAGE}"
"""The stack of its cluster, which `golden cluster` makes."""
_STACK = "cloudformation"


DENIED = ("UnauthorizedOperation", "AccessDenied", "AccessDeniedException")
"""Who may not look for a kind has made none: a run takes an administrator's credentials, the sweep
of a pipeline has a role."""


def find(account: Account, region: str) -> Iterator[Leftover]:
    """Yield groups, stacks and templates that carry SELFTEST, as far as the caller may look."""
    for look in (_groups, _stacks, _templates):
        with tolerate(*DENIED):
            yield from look(account, region)


_TAGGED = [{"Name": "tag-key", "Values": [tags.SELFTEST]}]


def _groups(account: Account, region: str) -> Iterator[Leftover]:
    autoscaling = account.autoscaling(region)
    for group in pages(
        autoscaling, "describe_auto_scaling_groups", "AutoScalingGroups", 100, Filters=_TAGGED
    ):
        own_tags = tags.from_list(group["Tags"])
        yield leftovers.of_tags(LeftoverKind.GROUP, group["AutoScalingGroupName"], own_tags)


def _stacks(account: Account, region: str) -> Iterator[Leftover]:
    for name, value in stacks.tagged(account.client(_STACK, region), tags.SELFTEST).items():
        yield leftovers.of_tags(LeftoverKind.STACK, name, {tags.SELFTEST: value})


def _templates(account: Account, region: str) -> Iterator[Leftover]:
    ec2 = account.ec2(region)
    for row in pages(ec2, "describe_launch_templates", "LaunchTemplates", 200, Filters=_TAGGED):
        own_tags = tags.from_list(row["Tags"])
        yield leftovers.of_tags(LeftoverKind.TEMPLATE, row["LaunchTemplateId"], own_tags)


def find_untagged(account: Account, region: str) -> Iterator[Leftover]:
    """Yield the empty stacks that a run planned, the image's parameters, records last, and its
    leases, as far as the caller may look. A lease that a process has says when it expires; the rest
    has no date."""
    for look in (_empty_stacks, _parameters, _leases):
        with tolerate(*DENIED):
            yield from look(account, region)


def _empty_stacks(account: Account, region: str) -> Iterator[Leftover]:
    """A run plans both stacks, and a kill leaves an empty one with the change set. Somebody's own
    plan of the account is none of it."""
    cloudformation = account.client(_STACK, region)
    for name in (CLUSTER, stacks.ACCOUNT):
        stack = stacks.find(cloudformation, name)
        if stack is None or not stack.is_new:
            continue
        proposed = stacks.proposed_tags(cloudformation, stack)
        if all(tags.SELFTEST in own_tags for own_tags in proposed):
            yield _untagged(LeftoverKind.STACK, name)


def _parameters(account: Account, region: str) -> Iterator[Leftover]:
    within = [{"Key": "Path", "Option": "Recursive", "Values": [PATH]}]
    rows = pages(account.ssm(region), "describe_parameters", "Parameters", ParameterFilters=within)
    names = [row["Name"] for row in rows if row["Name"].startswith(f"{PATH}/")]
    channels = pointers.channel_names(SELFTEST_IMAGE).values()
    # A build's record is what other commands find the parameters beside it by.
    for name in sorted(names, key=lambda name: (-name.count("/"), name not in channels, name)):
        yield _untagged(LeftoverKind.PARAMETER, name)


def _leases(account: Account, region: str) -> Iterator[Leftover]:
    dynamodb = account.dynamodb(region)
    for item in lease.items_of(dynamodb, SELFTEST_IMAGE):
        state = lease.read_lease(dynamodb, item)
        expires = datetime.fromtimestamp(state.expires, UTC) if state.expires else None
        yield _untagged(LeftoverKind.LEASE, item, state.owner, expires)


def _untagged(
    kind: LeftoverKind, name: str, owner: str = "", expires: datetime | None = None
) -> Leftover:
    return Leftover(kind, name, owner, SELFTEST_IMAGE, expires, is_selftest=True)


def remove(account: Account, region: str, kind: LeftoverKind, name: str) -> None:
    """Remove one thing by its name, if it exists, and wait until it is gone."""
    if kind is LeftoverKind.GROUP:
        _remove_group(account.autoscaling(region), name)
    elif kind is LeftoverKind.STACK:
        _remove_stack(account, region, name)
    elif kind is LeftoverKind.TEMPLATE:
        with tolerate(".NotFound"):
            account.ec2(region).delete_launch_template(LaunchTemplateId=name)
    elif kind is LeftoverKind.PARAMETER:
        account.ssm(region).delete_parameters(Names=[name])
    elif kind is LeftoverKind.LEASE:
        lease.remove_item(account.dynamodb(region), name)
    else:
        if kind is LeftoverKind.IMAGE:
            images.unprotect(account.ec2(region), name)
        leftovers.remove(account.ec2(region), kind, name)


def _remove_stack(account: Account, region: str, name: str) -> None:
    cloudformation = account.client(_STACK, region)
    stack = stacks.find(cloudformation, name)
    if stack is None:
        return
    # CloudFormation alone waits for machines that are protected from scaling in.
    for group in stacks.groups(cloudformation, stack):
        _remove_group(account.autoscaling(region), group)
    stacks.delete(cloudformation, stack, lambda _text: None)


def _remove_group(autoscaling: Client, name: str) -> None:
    """Remove a group with its machines, and wait until they are terminated."""
    group = _group(autoscaling, name)
    # EC2 Auto Scaling refuses to delete a group that it deletes already, as its status says.
    if group and not group.get("Status"):
        autoscaling.delete_auto_scaling_group(AutoScalingGroupName=name, ForceDelete=True)
    if not wait_for(
        lambda: _group(autoscaling, name) is None or None,
        limit_s=instances.LIMIT_S,
        pauses=instances.POLL_S,
        what=f"the machines of {name} end",
    ):
        raise StageFailed(
            f"the group {name} is still there {instances.LIMIT_S:.0f} s after it was deleted",
            hint="run again; look at its activity in the console",
        )


def _group(autoscaling: Client, name: str) -> dict[str, Any] | None:
    answer = autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[name])
    return next(iter(answer["AutoScalingGroups"]), None)
