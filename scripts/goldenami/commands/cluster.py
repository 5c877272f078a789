"""The command for the machines of an image: a group for each family, with what is to be seen and paid."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from goldenami.aws.channels import channels
from goldenami.aws.session import Account, check_regions, translated
from goldenami.commands import DryRun, ImageName, Settings, setting
from goldenami.commands.checkout import Checkout
from goldenami.core.terminal.progress import Progress
from goldenami.fleet.cluster import cluster_plan, cluster_removal
from goldenami.model.definitions.definition import Definition


class ClusterAction(StrEnum):
    """What `golden cluster` does."""

    RENDER = "render"
    PLAN = "plan"
    APPLY = "apply"
    REMOVE = "remove"


Region = Annotated[str | None, typer.Option(
    "--region", metavar="REGION", help="where (default: the definition's first)")]
Subnets = Annotated[str | None, typer.Option(
    "--subnets", metavar="ID,...", help="where machines start, one in each zone")]
Least = Annotated[int | None, typer.Option("--min", metavar="N", min=0, help="machines of each group at least")]
Most = Annotated[int | None, typer.Option("--max", metavar="N", min=0, help="machines of each group at most")]
Spot = Annotated[int | None, typer.Option(
    "--spot", metavar="PERCENT", min=0, max=100, help="how much of each group is on Spot")]
GpuTarget = Annotated[int | None, typer.Option(
    "--gpu-target", metavar="PERCENT", min=0, max=100, help="use of GPUs that groups keep; 0: they do not scale")]
Email = Annotated[str | None, typer.Option("--email", metavar="ADDRESS", help="told of alarms and budget")]
Budget = Annotated[str | None, typer.Option("--budget", metavar="DOLLARS", help="the month's, in US dollars; 0: none")]
WithMachines = Annotated[bool, typer.Option(
    "--with-machines", help="with `remove`: also where machines run, which it ends")]


@translated()
def cmd_cluster(
    checkout: Checkout,
    action: Annotated[ClusterAction, typer.Argument(help="print the template; look, make, take away")],
    image: ImageName, *,
    region: Region = None, subnets: Subnets = None, least: Least = None, most: Most = None, spot: Spot = None,
    gpu_target: GpuTarget = None, email: Email = None, budget: Budget = None, settings: Settings,
    with_machines: WithMachines = False, dry_run: DryRun = False,
) -> int:
    """Run an image's machines by one CloudFormation template: groups, dashboard, alarms and budget.

    What is not named stays as it is. `render` prints the template, for the AWS CLI.
    """
    check_regions([region] if region else [])
    account, definition, progress = Account(), checkout.definition(image), checkout.progress("cluster", image)
    if action is ClusterAction.REMOVE:
        return _remove(account, definition, region, progress, with_machines=with_machines, dry_run=dry_run)
    cluster = cluster_plan.render(account, definition, checkout.families, region)
    if action is ClusterAction.RENDER:
        print(cluster.template.body, end="")
        return 0
    numbers = {"MinInstances": least, "MaxInstances": most, "OnDemandPercent": None if spot is None else 100 - spot,
               "GpuTargetPercent": gpu_target, "Subnets": subnets, "Email": email, "MonthlyBudget": budget}
    given = dict(setting(text) for text in settings)
    given |= {name: str(value) for name, value in numbers.items() if value is not None}
    plan = cluster_plan.prepare(account, definition, cluster, given)
    print("\n".join(cluster_plan.show(plan)), flush=True)
    if action is ClusterAction.APPLY and not dry_run:
        made = cluster_plan.execute(account, plan, progress)
        print("\n".join(f"{name}: {value}" for name, value in sorted(made.outputs.items())), flush=True)
        return 0
    cluster_plan.discard(account, plan)
    return 0


def _remove(
    account: Account, definition: Definition, region: str | None, progress: Progress, *, with_machines: bool,
    dry_run: bool,
) -> int:
    where = region or channels.publish_section(definition).regions[0]
    removal = cluster_removal.prepare(account, definition.image, where)
    print("\n".join(cluster_removal.show(removal)), flush=True)
    if not dry_run:
        cluster_removal.remove(account, removal, progress, with_machines=with_machines)
    return 0
