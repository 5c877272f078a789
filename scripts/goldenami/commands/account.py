"""The command that sets an AWS account up for all others, and takes that away again."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import Annotated

import typer

from goldenami.aws.session import Account, check_regions, known_regions, translated
from goldenami.commands import DryRun, Regions, Settings, lead_to, settings_of
from goldenami.commands.checkout import Checkout
from goldenami.core import records
from goldenami.core.errors import BadInput
from goldenami.core.terminal.progress import Progress
from goldenami.fleet.account import account_plan, organization
from goldenami.fleet.account.account_plan import AccountPlan


class AccountAction(StrEnum):
    """What `golden account` does."""

    PLAN = "plan"
    APPLY = "apply"
    REMOVE = "remove"
    POLICIES = "policies"


@translated()
def cmd_account(
    checkout: Checkout,
    action: Annotated[
        AccountAction, typer.Argument(help="look, make, take away; or print organisation policies")
    ],
    *,
    settings: Settings,
    region: Regions,
    dry_run: DryRun = False,
) -> int:
    """Set an AWS account up by one CloudFormation template (roles, bucket, tables), or take it
    away.

    `policies` prints what an organisation attaches so that nothing else is launched, with what each
    does not stop.
    """
    if action is AccountAction.POLICIES:
        return _policies(checkout)
    progress, names = checkout.progress("account", action), region or _declared(checkout)
    if action is AccountAction.REMOVE:
        account = checkout.account(also=region or known_regions())
        return _remove(account, region, names[0], progress, dry_run=dry_run)
    account = checkout.account()
    plan = account_plan.prepare(account, names, settings_of(settings))
    print("\n".join(account_plan.show(plan)), flush=True)
    if action is AccountAction.APPLY and not dry_run:
        _apply(account, plan, progress)
        for name in [each.image for each in checkout.definitions(None) if each.publish][:1]:
            lead_to("release", name)
        return 0
    account_plan.discard(account, plan)
    return 0


def _apply(account: Account, plan: AccountPlan, progress: Progress) -> None:
    home = account_plan.execute(account, plan, progress)
    progress.remember()
    print("variables of CI, for the places that docs/ci.md names:")
    print("\n".join(f"  {name} = {value}" for name, value in sorted(home.outputs.items())))


def _policies(checkout: Checkout) -> int:
    """Print the policies for the account that bakes, by the first definition that names it."""
    published = [each.publish for each in checkout.definitions(None) if each.publish]
    number = next((publish.account for publish in published if publish.account), None)
    if number is None:
        raise BadInput("which account bakes?", hint="`publish: account:` of a definition says it")
    rules = [checkout.allowed(each).rules for each in checkout.definitions(None) if each.publish]
    # One definition without a rule may go anywhere.
    regions = (
        dict.fromkeys(pattern for rule in rules for _, patterns in rule for pattern in patterns)
        if all(rules)
        else ()
    )
    shown = [policy.model_dump(mode="json") for policy in organization.policies(number, [*regions])]
    print(records.canonical(shown), end="")
    return 0


def _declared(checkout: Checkout) -> list[str]:
    """All regions that definitions publish to, the environment's own first; BadInput where there is
    none."""
    found = {
        region
        for definition in checkout.definitions(None)
        if definition.publish
        for region in definition.publish.regions
    }
    if not found:
        raise BadInput(
            "no definition is published anywhere", hint="name regions: --region REGION, home first"
        )
    own = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return sorted(found, key=lambda region: (region != own, region))


def _remove(
    account: Account, regions: list[str], home: str, progress: Progress, *, dry_run: bool
) -> int:
    """Take the stacks of `regions` away; without any, those of every region that the account has
    enabled."""
    check_regions(regions)
    names = regions or sorted(
        row["RegionName"] for row in account.ec2(home).describe_regions()["Regions"]
    )
    removal = account_plan.prepare_removal(account, names, home)
    print("\n".join(account_plan.show_removal(removal)), flush=True)
    if not dry_run:
        account_plan.remove(account, removal, progress)
        progress.remember()
    return 0
