"""The command for the machines of an image: a group for each family, a dashboard, alarms and a
budget."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import typer
from goldenami.aws.channels import channels
from goldenami.aws.session import check_regions, translated
from goldenami.commands import DryRun, ImageName, Settings, settings_of
from goldenami.commands.checkout import Checkout

from goldenami_fleet.cluster import cluster_plan, cluster_removal


class ClusterAction(StrEnum):
    """What `golden cluster` does."""

    RENDER = "render"
    PLAN = "plan"
    APPLY = "apply"
    REMOVE = "remove"


Region = Annotated[
    str | None,
    typer.Option("--region", metavar="REGION", help="where (default: the definition's first)"),
]
WithMachines = Annotated[
    bool,
    typer.Option("--with-machines", help="with `remove`: also where machines run, which it ends"),
]


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """The arguments and options of `golden cluster`."""

    action: Annotated[
        ClusterAction, typer.Argument(help="print the template; look, make, take away")
    ]
    image: ImageName
    region: Region = None
    settings: Settings
    with_machines: WithMachines = False
    dry_run: DryRun = False


@translated()
def cmd_cluster(checkout: Checkout, options: ClusterOptions) -> int:
    """Run an image's machines by one CloudFormation template: groups, dashboard, alarms and budget.

    `--set` names its parameters; what is not named stays as it is. `render` prints the template,
    for the AWS CLI.
    """
    if options.region:
        check_regions([options.region])
    if options.action is ClusterAction.REMOVE:
        return _remove(checkout, options)
    definition = checkout.definition(options.image)
    progress = checkout.progress("cluster", options.image)
    account = checkout.account(definition)
    cluster = cluster_plan.render(account, definition, checkout.families, options.region)
    if options.action is ClusterAction.RENDER:
        print(cluster.template.body, end="")
        return 0
    plan = cluster_plan.prepare(account, definition, cluster, settings_of(options.settings))
    print("\n".join(cluster_plan.lines(plan)), flush=True)
    if options.action is ClusterAction.APPLY and not options.dry_run:
        stack = cluster_plan.execute(account, plan, progress)
        print(
            "\n".join(f"{name}: {value}" for name, value in sorted(stack.outputs.items())),
            flush=True,
        )
        return 0
    cluster_plan.discard(account, plan)
    return 0


def _remove(checkout: Checkout, options: ClusterOptions) -> int:
    definition = checkout.definition(options.image)
    progress = checkout.progress("cluster", options.image)
    # A cluster may run in a region that is no longer allowed: it must be removable there.
    account = checkout.account(definition, also=[options.region] if options.region else ())
    region = options.region or channels.publish_section(definition).regions[0]
    removal = cluster_removal.prepare(account, options.image, region)
    print("\n".join(cluster_removal.lines(removal)), flush=True)
    if not options.dry_run:
        cluster_removal.remove(account, removal, progress, with_machines=options.with_machines)
    return 0
