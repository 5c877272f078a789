"""What `cluster apply` would create and change in a region: the template, the change set, and the
price of a machine an hour."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

from goldenami.aws.channels import channels, pointers
from goldenami.aws.instances import instance_types
from goldenami.aws.pricing import price_list
from goldenami.aws.pricing.price_list import RegionPrices
from goldenami.aws.services import stacks
from goldenami.aws.services.stacks import ChangeSet, DeployedStack, StackTemplate
from goldenami.aws.session import Account
from goldenami.core.errors import BadInput
from goldenami.core.terminal.progress import Progress
from goldenami.model.definitions.definition import Definition
from goldenami.model.operation.cluster_section import ClusterSection
from goldenami.model.supported.hardware import Family

from goldenami_fleet.cluster import cluster_costs, cluster_template, launches
from goldenami_fleet.cluster.cluster_costs import MachinePrices
from goldenami_fleet.cluster.cluster_template import MachineGroup
from goldenami_fleet.cluster.launches import Launches

_SUBNETS, _VERSION, _LEAST, _MOST = "Subnets", "TemplateVersion", "MinInstances", "MaxInstances"
_TARGET = "GpuTargetPercent"


@dataclass(frozen=True)
class RenderedCluster:
    """A cluster's template for one region. `absent` are families or types that the region does not
    have; `ahead` are the prices of machines that wait for users, by group's kind."""

    region: str
    template: StackTemplate
    groups: tuple[MachineGroup, ...]
    absent: tuple[str, ...]
    prices: RegionPrices
    section: ClusterSection | None
    ahead: Mapping[str, MachinePrices]


@dataclass(frozen=True)
class ClusterPlan:
    """A change set that waits to be executed or discarded, its parameters, and the last week's
    launches."""

    cluster: RenderedCluster
    parameters: Mapping[str, str]
    change_set: ChangeSet
    launches: Launches


def render(
    account: Account,
    definition: Definition,
    families: Mapping[str, Family],
    region: str | None,
) -> RenderedCluster:
    """Return the template for `region`, or for the first region that the definition publishes to.
    Raises BadInput if the region has no machine of any group, or if the image is not published
    there."""
    publish = channels.publish_section(definition)
    where = region or publish.regions[0]
    if where not in publish.regions:
        raise BadInput(
            f"{definition.image} is not published to {where}",
            hint=f"its definition names {', '.join(publish.regions)}",
        )
    types = instance_types.offered(account.ec2(where), definition.hardware)
    offered, wanted = (
        types | {name.partition(".")[0] for name in types},
        cluster_template.kinds(definition),
    )
    if offered.isdisjoint(wanted):
        raise BadInput(
            f"{where} has no {', '.join(wanted)}",
            hint="choose another region, or declare a family or type that it has",
        )
    prices = price_list.ask(account, where)
    groups = tuple(cluster_template.groups_of(definition, families, offered, prices))
    return RenderedCluster(
        where,
        cluster_template.render(definition, groups, prices),
        groups,
        tuple(kind for kind in wanted if kind not in offered),
        prices,
        definition.cluster,
        cluster_costs.ask(account, definition, where, groups),
    )


def prepare(
    account: Account,
    definition: Definition,
    cluster: RenderedCluster,
    overrides: Mapping[str, str],
) -> ClusterPlan:
    """Make a change set, which changes nothing in the account yet.

    `overrides` are parameters by name; the others keep their values. Only the launch template's
    version becomes the template's default one, to which an instance refresh takes a group. Raises
    BadInput for an impossible parameter, if subnets are missing, and if the image's launch template
    is not in the region yet.
    """
    template, region = cluster.template, cluster.region
    account.expect(channels.publish_section(definition).account, region)
    if _TARGET in overrides and _TARGET not in template.parameters:
        raise BadInput(
            f"{definition.image} has no GPU to scale by", hint="leave GpuTargetPercent out"
        )
    template.check(overrides)
    cloudformation = account.client("cloudformation", region)
    stack = stacks.find_usable(cloudformation, template, region)
    former = {} if stack is None or stack.is_new else stack.parameters
    values = {**former, **overrides}
    _check(cluster, values)
    # Not the stack's former version but today's default, to which an instance refresh takes a
    # group.
    values |= {_VERSION: overrides.get(_VERSION) or _default_version(account, definition, region)}
    parameters = {name: value for name, value in values.items() if name in template.parameters}
    return ClusterPlan(
        cluster,
        parameters,
        stacks.propose(cloudformation, template, stack, parameters),
        launches.read(account, region, [group.kind for group in cluster.groups]),
    )


def _effective_values(cluster: RenderedCluster, parameters: Mapping[str, str]) -> dict[str, str]:
    declared = cluster.template.parameters
    return {
        name: str(parameter["Default"])
        for name, parameter in declared.items()
        if "Default" in parameter
    } | dict(parameters)


def _check(cluster: RenderedCluster, parameters: Mapping[str, str]) -> None:
    values = _effective_values(cluster, parameters)
    if _SUBNETS not in values:
        raise BadInput(
            "where shall machines start?",
            hint="name subnets: --set Subnets=subnet-0a1b2c3d,subnet-4e5f6a7b",
        )
    if int(values[_LEAST]) > int(values[_MOST]):
        raise BadInput(
            f"a group cannot have {values[_LEAST]} machines at least and {values[_MOST]} at most",
            hint="correct MinInstances or MaxInstances",
        )
    for group in cluster.groups:
        hours, least, most = group.ahead.working_hours, int(values[_LEAST]), int(values[_MOST])
        if hours and not least < hours <= most:
            raise BadInput(
                f"{hours} machines of {group.kind} in working hours are not between "
                f"{least}, which run always, and {most}",
                hint="correct MinInstances or MaxInstances, or the definition's `cluster`",
            )
        if group.ahead.spare > most:
            raise BadInput(
                f"{group.ahead.spare} spare machines of {group.kind} are more than {most}",
                hint="raise MaxInstances: --set MaxInstances=4",
            )


def _default_version(account: Account, definition: Definition, region: str) -> str:
    template = pointers.template_name(definition.image)
    version = pointers.default_version(account.ec2(region), template)
    if version is None:
        raise BadInput(
            f"there is no launch template {template} in {region}",
            hint=f"`golden publish {definition.image}` makes it",
        )
    return str(version.number)


def discard(account: Account, plan: ClusterPlan) -> None:
    """Delete the plan's change set."""
    stacks.discard(account.client("cloudformation", plan.cluster.region), plan.change_set)


def execute(account: Account, plan: ClusterPlan, progress: Progress) -> DeployedStack:
    """Execute the change set; return the stack after it."""
    region = plan.cluster.region
    with progress.step("stack", plan.change_set.name):
        return stacks.execute(
            account.client("cloudformation", region),
            plan.change_set,
            lambda text: progress.say(f"{region}: {text}"),
        )


def lines(plan: ClusterPlan) -> Iterator[str]:
    """Lines for a terminal."""
    cluster = plan.cluster
    for kind in cluster.absent:
        yield f"{kind}: not in {cluster.region}, so it has no group"
    for name, value in sorted(plan.parameters.items()):
        yield f"  {name} = {value}"
    yield from plan.change_set.show(cluster.region)
    yield f"a machine an hour, on demand ({cluster.prices.source}):"
    for group in cluster.groups:
        type_prices = [f"{name} ${usd:.3f}" for name, usd in group.prices.items()]
        yield f"  {group.kind:<8} " + (", ".join(type_prices) or "unknown")
    yield from cluster_costs.lines(cluster.section, cluster.groups, cluster.ahead)
    yield from _waits(plan)


def _waits(plan: ClusterPlan) -> Iterator[str]:
    """Who waited for the groups that the definition has machines for, or else for the first."""
    cluster = plan.cluster
    if plan.launches.cause:
        yield f"who waited is not known: {plan.launches.cause}"
        return
    boot = timedelta(seconds=int(_effective_values(cluster, plan.parameters)["WarmUpSeconds"]))
    chosen = [
        group
        for group in cluster.groups
        if cluster.section and group.kind in cluster.section.machines
    ]
    for group in chosen or cluster.groups[:1]:
        yield from launches.lines(plan.launches, group.kind, boot, cluster.ahead[group.kind])
