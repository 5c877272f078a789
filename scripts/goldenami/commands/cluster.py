"""The command for the machines of an image: a group for each family, with what is to be seen and
paid."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from goldenami.aws.channels import channels
from goldenami.aws.session import Account, check_regions, translated
from goldenami.commands import DryRun, ImageName, Settings, settings_of
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


Region = Annotated[
    str | None,
    typer.Option("--region", metavar="REGION", help="where (default: the definition's first)"),
]
WithMachines = Annotated[
    bool,
    typer.Option("--with-machines", help="with `remove`: also where machines run, which it ends"),
]


@translated()
def cmd_cluster(
    checkout: Checkout,
    action: Annotated[
        ClusterAction, typer.Argument(help="print the template; look, make, take away")
    ],
    image: ImageName,
    *,
    region: Region = None,
    settings: Settings,
    with_machines: WithMachines = False,
    dry_run: DryRun = False,
) -> int:
    """Run an image's machines by one CloudFormation template: groups, dashboard, alarms and budget.

    `--set` names its parameters; what is not named stays as it is. `render` prints the template,
    for the AWS CLI.
    """
    check_regions([region] if region else [])
    definition, progress = checkout.definition(image), checkout.progress("cluster", image)
    if action is ClusterAction.REMOVE:
        return _remove(
            checkout.account(definition, also=[region] if region else ()),
            definition,
            region,
            progress,
            with_machines=with_machines,
            dry_run=dry_run,
        )
    account = checkout.account(definition)
    cluster = cluster_plan.render(account, definition, checkout.families, region)
    if action is ClusterAction.RENDER:
        print(cluster.template.body, end="")
        return 0
    plan = cluster_plan.prepare(account, definition, cluster, settings_of(settings))
    print("\n".join(cluster_plan.show(plan)), flush=True)
    if action is ClusterAction.APPLY and not dry_run:
        made = cluster_plan.execute(account, plan, progress)
        print(
            "\n".join(f"{name}: {value}" for name, value in sorted(made.outputs.items())),
            flush=True,
        )
        return 0
    cluster_plan.discard(account, plan)
    return 0


def _remove(
    account: Account,
    definition: Definition,
    region: str | None,
    progress: Progress,
    *,
    with_machines: bool,
    dry_run: bool,
) -> int:
    where = region or channels.publish_section(definition).regions[0]
    removal = cluster_removal.prepare(account, definition.image, where)
    print("\n".join(cluster_removal.show(removal)), flush=True)
    if not dry_run:
        cluster_removal.remove(account, removal, progress, with_machines=with_machines)
    return 0
