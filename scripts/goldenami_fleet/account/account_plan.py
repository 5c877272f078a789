"""Set an account up by its stacks, and remove them again; buckets and tables with data stay."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import goldenami
from goldenami.aws.calls import tolerate
from goldenami.aws.channels.lease import TABLE
from goldenami.aws.pricing import billing
from goldenami.aws.regions import for_each_region
from goldenami.aws.services import stacks
from goldenami.aws.services.stacks import ChangeSet, DeployedStack, StackTemplate
from goldenami.aws.session import Account, check_regions
from goldenami.core.errors import BadInput
from goldenami.core.terminal.progress import Progress

GITHUB, GITLAB = "GitHubRepository", "GitLabProject"
_HOME, _GITLAB_HOST, _BUCKET, _KEEP = "HomeRegion", "GitLabHost", "BucketName", "KeepBucket"
_BUDGET = "MonthlyBudget"
_GITHUB_HOST = "token.actions.githubusercontent.com"


TEMPLATE = Path(goldenami.__file__).parent / "aws/account.yml"


@cache
def template() -> StackTemplate:
    """The account's CloudFormation template."""
    return StackTemplate(
        stacks.ACCOUNT,
        TEMPLATE.name,
        "goldenami account",
        TEMPLATE.read_text(encoding="utf-8"),
        "`golden account remove`",
    )


@dataclass(frozen=True)
class AccountPlan:
    """The account's number, its home region, the stacks' parameters, and the change set of each
    region, that of `home` first."""

    number: str
    home: str
    parameters: Mapping[str, str]
    change_sets: Mapping[str, ChangeSet]


def prepare(account: Account, regions: Sequence[str], overrides: Mapping[str, str]) -> AccountPlan:
    """Make a change set in each region, which changes nothing in the account yet.

    `overrides` are parameters by name; the others keep their values. `home` is the region that
    existing stacks name, else the one in `overrides`, else the first region. Raises BadInput if
    existing stacks disagree about it.
    """
    check_regions(regions)
    template().check(overrides)
    if (budget := overrides.get(_BUDGET, "0")) != "0":
        billing.refuse_spent(account, budget)
    number = account.number(regions[0])
    stacks_found = for_each_region(
        regions, lambda region: _find_stack(account, region)
    ).require_all()
    homes = {
        stack.parameters[_HOME] for stack in stacks_found.values() if stack and not stack.is_new
    }
    if len(homes | {overrides.get(_HOME, "")} - {""}) > 1:
        raise BadInput(
            f"the stacks {template().name} have different home regions: {', '.join(sorted(homes))}",
            hint="a home cannot move: remove the stacks, then make them again",
        )
    home = next(iter(homes), overrides.get(_HOME, regions[0]))
    if home not in stacks_found:
        stacks_found[home] = _find_stack(account, home)
    home_stack = stacks_found[home]
    parameters = _parameters(account, home, home_stack, overrides)
    plan_regions = list(dict.fromkeys([home, *regions]))
    results = for_each_region(
        plan_regions,
        lambda region: stacks.propose(
            account.client("cloudformation", region),
            template(),
            stacks_found[region],
            parameters,
        ),
    )
    plan = AccountPlan(
        number,
        home,
        parameters,
        {name: results.done[name] for name in plan_regions if name in results.done},
    )
    # Else the change sets of the other regions would stay in the account.
    if results.failed:
        discard(account, plan)
    results.require_all()
    return plan


def _find_stack(account: Account, region: str) -> DeployedStack | None:
    return stacks.find_usable(account.client("cloudformation", region), template(), region)


def _parameters(
    account: Account, home: str, home_stack: DeployedStack | None, overrides: Mapping[str, str]
) -> dict[str, str]:
    """Return the template's parameters: those of the present stack, overridden by `overrides`, and
    whether each identity provider exists already. Raises BadInput if they name no repository."""
    former = dict(home_stack.parameters) if home_stack and not home_stack.is_new else {}
    parameters = {**former, **overrides, _HOME: home}
    if not former and _BUCKET not in overrides:
        parameters[_BUCKET] = _kept_bucket(account, home)
    if not parameters.get(GITHUB) and not parameters.get(GITLAB):
        raise BadInput(
            "nobody would be allowed to publish",
            hint=f"name a repository: --set {GITHUB}=OWNER/NAME or --set {GITLAB}=GROUP/PROJECT",
        )
    provider_list = account.client("iam", home).list_open_id_connect_providers()
    hosts = {
        entry["Arn"].partition("oidc-provider/")[2]
        for entry in provider_list["OpenIDConnectProviderList"]
    }
    for provider, subject, host in (
        ("GitHubProvider", GITHUB, _GITHUB_HOST),
        ("GitLabProvider", GITLAB, parameters.get(_GITLAB_HOST, "gitlab.com")),
    ):
        # A provider that this stack made must stay `create`: with `existing` the stack deletes it.
        made_here = former.get(subject) and former.get(provider, "create") == "create"
        if provider not in overrides and not made_here:
            parameters[provider] = "create"
            if host in hosts:
                parameters[provider] = "existing"
    return {name: value for name, value in parameters.items() if name in template().parameters}


def _kept_bucket(account: Account, home: str) -> str:
    """Return the bucket that an earlier stack left because it was not empty, or "". Raises BadInput
    for several."""
    # CloudFormation names a bucket after its stack, its logical name and a random part, in lower
    # case.
    names = [
        bucket["Name"]
        for bucket in account.s3(home).list_buckets()["Buckets"]
        if bucket["Name"].startswith(f"{template().name}-bucket-")
    ]
    if len(names) > 1:
        raise BadInput(
            f"earlier stacks left the buckets {', '.join(names)}",
            hint=f"--set {_BUCKET}=NAME takes one up, --set {_BUCKET}= makes a new one",
        )
    return next(iter(names), "")


def discard(account: Account, plan: AccountPlan, regions: Iterable[str] | None = None) -> None:
    """Delete the plan's change sets, in all regions or only in `regions`."""
    for region in plan.change_sets if regions is None else regions:
        stacks.discard(account.client("cloudformation", region), plan.change_sets[region])


def lines(plan: AccountPlan) -> Iterator[str]:
    """Lines for a terminal."""
    yield f"account {plan.number}, home {plan.home}"
    for name, value in sorted(plan.parameters.items()):
        yield f"  {name} = {value}"
    for region, change_set in plan.change_sets.items():
        yield from change_set.show(region)


def execute(account: Account, plan: AccountPlan, progress: Progress) -> DeployedStack:
    """Make the stack of `home` first, then all others at once; return that of `home`."""
    begun = set[str]()

    def make(region: str) -> DeployedStack:
        begun.add(region)
        return stacks.execute(
            account.client("cloudformation", region),
            plan.change_sets[region],
            lambda text: progress.say(f"{region}: {text}"),
        )

    try:
        with progress.step("stacks", f"{len(plan.change_sets)} regions"):
            home = make(plan.home)
            for_each_region(
                [region for region in plan.change_sets if region != plan.home], make
            ).require_all(f"the stack of {plan.home} is made", "then run again: it continues")
    # An executed change set goes by itself; those of regions that were not reached would stay.
    finally:
        discard(account, plan, [region for region in plan.change_sets if region not in begun])
    return home


@dataclass(frozen=True)
class Removal:
    """The stacks to delete by region, and the buckets and tables (by region) that stay when their
    stack is deleted, with True for an empty one."""

    home: str
    stacks: dict[str, DeployedStack]
    buckets: dict[str, bool]
    tables: dict[str, bool]


def prepare_removal(account: Account, regions: Sequence[str], home: str) -> Removal:
    """Plan the removal of the stacks in `regions`. Raises BadInput if no region has one."""
    account_template = template()
    stacks_by_region = for_each_region(
        regions,
        lambda region: stacks.find_ours(
            account.client("cloudformation", region), account_template, region
        ),
    ).require_all()
    present_stacks = {region: stack for region, stack in stacks_by_region.items() if stack}
    if not present_stacks:
        raise BadInput(
            f"there is no stack {account_template.name} in {', '.join(regions)}",
            hint="nothing to remove",
        )
    home = next(
        (
            stack.parameters["HomeRegion"]
            for stack in present_stacks.values()
            if "HomeRegion" in stack.parameters
        ),
        home,
    )
    tables = for_each_region(
        present_stacks, lambda region: _is_table_empty(account, region)
    ).require_all()
    removal = Removal(
        home,
        present_stacks,
        {},
        {region: empty for region, empty in tables.items() if empty is not None},
    )
    if home in present_stacks and "GOLDEN_STORE_S3" in present_stacks[home].outputs:
        address = present_stacks[home].outputs["GOLDEN_STORE_S3"]
        bucket = address.removeprefix("s3://").partition("/")[0]
        users_bucket = present_stacks[home].parameters.get(_KEEP)
        for name in filter(None, (bucket, users_bucket)):
            removal.buckets[name] = _is_bucket_empty(account, home, name)
    return removal


def _is_table_empty(account: Account, region: str) -> bool | None:
    """Whether the region's table of leases is empty, or None if there is no table."""
    with tolerate("ResourceNotFoundException"):
        return not account.dynamodb(region).scan(TableName=TABLE, Limit=1, Select="COUNT")["Count"]
    return None


def _is_bucket_empty(account: Account, region: str, bucket: str) -> bool:
    """Whether the bucket holds no version of any object. A delete marker counts as a version."""
    listing = account.s3(region).list_object_versions(Bucket=bucket, MaxKeys=1)
    return not listing.get("Versions") and not listing.get("DeleteMarkers")


def show_removal(removal: Removal) -> Iterator[str]:
    """Lines for a terminal."""
    for region, stack in removal.stacks.items():
        yield f"{region}: the stack {stack.name} goes"
    for region, empty in removal.tables.items():
        yield f"{region}: the table {TABLE} {_fate(empty, 'it has the ledgers of images')}"
    for bucket, empty in removal.buckets.items():
        yield f"{removal.home}: the bucket {bucket} {_fate(empty, 'it is not empty')}"


def _fate(empty: bool, why_not: str) -> str:
    return "goes" if empty else f"stays: {why_not}"


def remove(account: Account, removal: Removal, progress: Progress) -> None:
    """Delete the stacks, that of `home` last, then the kept buckets and tables that are empty."""

    def delete(region: str) -> None:
        stacks.delete(
            account.client("cloudformation", region),
            removal.stacks[region],
            lambda text: progress.say(f"{region}: {text}"),
        )
        # Asked again: since the plan was shown, somebody may have published an image.
        if removal.tables.get(region) and _is_table_empty(account, region):
            account.dynamodb(region).delete_table(TableName=TABLE)

    with progress.step("stacks", f"{len(removal.stacks)} regions"):
        others = [region for region in removal.stacks if region != removal.home]
        for_each_region(others, delete).require_all("not all stacks are removed", "then run again")
        if removal.home in removal.stacks:
            delete(removal.home)
    for bucket, empty in removal.buckets.items():
        if empty and _is_bucket_empty(account, removal.home, bucket):
            account.s3(removal.home).delete_bucket(Bucket=bucket)
