"""What `account apply` would make and change: parameters, a change set in each region."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from goldenami.aws import stacks
from goldenami.aws.regions import for_each_region
from goldenami.aws.session import Account, check_regions
from goldenami.aws.stacks import ChangeSet, DeployedStack, StackTemplate
from goldenami.core.errors import BadInput

GITHUB, GITLAB = "GitHubRepository", "GitLabProject"
_HOME, _GITLAB_HOST, _BUCKET = "HomeRegion", "GitLabHost", "BucketName"
_GITHUB_HOST = "token.actions.githubusercontent.com"


TEMPLATE = Path(__file__).parents[2] / "aws/account.yml"


@cache
def template() -> StackTemplate:
    """The account's template."""
    return StackTemplate("golden-ami", TEMPLATE.name, "goldenami account",
                         TEMPLATE.read_text(encoding="utf-8"),
                         "`golden account remove`")


@dataclass(frozen=True)
class AccountPlan:
    """The change set of each region, the one of `home` first. They wait to be executed or
    discarded."""

    number: str
    home: str
    parameters: Mapping[str, str]
    change_sets: Mapping[str, ChangeSet]


def prepare(account: Account, regions: Sequence[str], given: Mapping[str, str]) -> AccountPlan:
    """Look at the stacks of all regions and make a change set in each; nothing of the account
    changes by that.

    `given` are parameters by name; others stay as they are. The first region is home where no stack
    says otherwise.
    """
    check_regions(regions)
    template().check(given)
    number = account.number(regions[0])
    found = for_each_region(regions, lambda region: _look(account, region)).require_all()
    homes = {stack.parameters[_HOME] for stack in found.values() if stack and not stack.is_new}
    if len(homes | {given.get(_HOME, "")} - {""}) > 1:
        raise BadInput(f"the stacks {template().name} have different home regions: "
                       f"{', '.join(sorted(homes))}",
                       hint="a home cannot move: remove the stacks, then make them again")
    home = next(iter(homes), given.get(_HOME, regions[0]))
    present = found[home] if home in found else _look(account, home)
    parameters = _parameters(account, home, present, given)
    names = list(dict.fromkeys([home, *regions]))
    sets = for_each_region(names, lambda region: stacks.propose(
        account.client("cloudformation", region), template(),
        present if region == home else found[region], parameters))
    plan = AccountPlan(number, home, parameters,
                       {name: sets.done[name] for name in names if name in sets.done})
    if sets.failed:
        discard(account, plan)
    sets.require_all()
    return plan


def _look(account: Account, region: str) -> DeployedStack | None:
    return stacks.find_usable(account.client("cloudformation", region), template(), region)


def _parameters(
    account: Account, home: str, present: DeployedStack | None, given: Mapping[str, str]
) -> dict[str, str]:
    """All that the template needs to be told: what it was told before, `given`, and whose the
    providers are."""
    former = dict(present.parameters) if present and not present.is_new else {}
    known = {**former, **given, _HOME: home}
    if not former and _BUCKET not in given:
        known[_BUCKET] = _kept_bucket(account, home)
    if not known.get(GITHUB) and not known.get(GITLAB):
        raise BadInput(
            "nobody would be allowed to publish",
            hint=f"name a repository: --set {GITHUB}=OWNER/NAME or --set {GITLAB}=GROUP/PROJECT")
    listed = account.client("iam", home).list_open_id_connect_providers()[
        "OpenIDConnectProviderList"
    ]
    hosts = {entry["Arn"].partition("oidc-provider/")[2] for entry in listed}
    for provider, subject, host in (("GitHubProvider", GITHUB, _GITHUB_HOST),
                                    ("GitLabProvider", GITLAB,
                                     known.get(_GITLAB_HOST, "gitlab.com"))):
        made_here = former.get(subject) and former.get(provider, "create") == "create"
        if provider not in given and not made_here:
            known[provider] = "existing" if host in hosts else "create"
    return {name: value for name, value in known.items() if name in template().parameters}


def _kept_bucket(account: Account, home: str) -> str:
    """The bucket that an earlier stack left because it was not empty, or nothing. BadInput where
    there are several."""
    # CloudFormation names a resource after its stack, its logical name and chance, in small letters
    # for S3.
    names = [bucket["Name"] for bucket in account.s3(home).list_buckets()["Buckets"]
             if bucket["Name"].startswith(f"{template().name}-bucket-")]
    if len(names) > 1:
        raise BadInput(f"earlier stacks left the buckets {', '.join(names)}",
                       hint=f"--set {_BUCKET}=NAME takes one up, --set {_BUCKET}= makes a new one")
    return next(iter(names), "")


def discard(account: Account, plan: AccountPlan, regions: Iterable[str] | None = None) -> None:
    """Delete what `prepare` made, in all regions or in some."""
    for region in plan.change_sets if regions is None else regions:
        stacks.discard(account.client("cloudformation", region), plan.change_sets[region])


def show(plan: AccountPlan) -> Iterator[str]:
    """The plan for a person."""
    yield f"account {plan.number}, home {plan.home}"
    for name, value in sorted(plan.parameters.items()):
        yield f"  {name} = {value}"
    for region, change_set in plan.change_sets.items():
        yield from change_set.show(region)
