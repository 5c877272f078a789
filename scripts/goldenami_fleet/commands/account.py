"""The command that sets up an AWS account for all others, and removes that again."""

from __future__ import annotations

import os
from dataclasses import replace
from enum import StrEnum
from typing import Annotated

import typer
from goldenami.aws.session import Account, check_regions, known_regions, translated
from goldenami.commands import DryRun, Regions, Settings, lead_to, settings_of
from goldenami.commands.checkout import Checkout
from goldenami.core import records
from goldenami.core.errors import BadInput
from goldenami.core.terminal.progress import Progress
from goldenami.model.definitions.definition import Definition

from goldenami_fleet.account import account_plan, organization
from goldenami_fleet.account.account_plan import AccountPlan


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
    progress, regions = checkout.progress("account", action), region or _declared_regions(checkout)
    if action is AccountAction.REMOVE:
        # A stack may be in a region that is no longer allowed: it must be removable there.
        account = checkout.account(also=region or known_regions())
        return _remove(account, region, regions[0], progress, dry_run=dry_run)
    account = replace(checkout.account(), tags=_common_tags(checkout))
    plan = account_plan.prepare(account, regions, settings_of(settings))
    print("\n".join(account_plan.lines(plan)), flush=True)
    if action is AccountAction.APPLY and not dry_run:
        _apply(account, plan, progress)
        for definition in _published(checkout)[:1]:
            lead_to("release", definition.image)
        return 0
    account_plan.discard(account, plan)
    return 0


def _apply(account: Account, plan: AccountPlan, progress: Progress) -> None:
    home_stack = account_plan.execute(account, plan, progress)
    progress.remember()
    print("variables of CI, for the places that docs/ci.md names:")
    for name, value in sorted(home_stack.outputs.items()):
        print(f"  {name} = {value}")


def _policies(checkout: Checkout) -> int:
    """Print the policies for the account that bakes, named by the first definition with an
    account."""
    sections = [
        definition.publish for definition in checkout.definitions(None) if definition.publish
    ]
    number = next((publish.account for publish in sections if publish.account), None)
    if number is None:
        raise BadInput("which account bakes?", hint="`publish: account:` of a definition says it")
    rules = [checkout.allowed(definition).rules for definition in _published(checkout)]
    regions = dict[str, None]()
    # A definition without a rule may go anywhere, so the policy may then stop no region.
    if all(rules):
        for rule in rules:
            for _, patterns in rule:
                regions |= dict.fromkeys(patterns)
    documents = [
        policy.model_dump(mode="json") for policy in organization.policies(number, [*regions])
    ]
    print(records.canonical(documents), end="")
    return 0


def _published(checkout: Checkout) -> list[Definition]:
    return [definition for definition in checkout.definitions(None) if definition.publish]


def _common_tags(checkout: Checkout) -> dict[str, str]:
    """Return the tags that every published definition demands: the account is none's own."""
    sections = [definition.publish for definition in _published(checkout) if definition.publish]
    demanded = [set(publish.tags.items()) for publish in sections]
    return dict(set.intersection(*demanded)) if demanded else {}


def _declared_regions(checkout: Checkout) -> list[str]:
    """Return the regions that definitions publish to, the environment's own first. Raises BadInput
    if there is none."""
    regions = {
        region
        for definition in checkout.definitions(None)
        if definition.publish
        for region in definition.publish.regions
    }
    if not regions:
        raise BadInput(
            "no definition is published anywhere", hint="name regions: --region REGION, home first"
        )
    default_region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return sorted(regions, key=lambda region: (region != default_region, region))


def _remove(
    account: Account, regions: list[str], home: str, progress: Progress, *, dry_run: bool
) -> int:
    """Remove the stacks of `regions`, or of every region that the account has enabled."""
    check_regions(regions)
    all_regions = regions or sorted(
        row["RegionName"] for row in account.ec2(home).describe_regions()["Regions"]
    )
    removal = account_plan.prepare_removal(account, all_regions, home)
    print("\n".join(account_plan.show_removal(removal)), flush=True)
    if not dry_run:
        account_plan.remove(account, removal, progress)
        progress.remember()
    return 0
