"""What `account apply` would make and change: parameters, a change set in each region, what each thing costs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from goldenami.aws import account_prices, stacks
from goldenami.aws.regions import for_each_region
from goldenami.aws.session import Account, check_regions
from goldenami.aws.stacks import AccountStack, ChangeSet
from goldenami.core.errors import BadInput
from goldenami.core.yaml_lines import nearest

GITHUB, GITLAB = "GitHubRepository", "GitLabProject"
_HOME, _GITLAB_HOST = "HomeRegion", "GitLabHost"
_GITHUB_HOST = "token.actions.githubusercontent.com"


class _Loader(yaml.SafeLoader):
    """Reads a template; CloudFormation's functions, which parameters have none of, become nothing."""


_Loader.add_multi_constructor("!", lambda _loader, _suffix, _node: None)


@dataclass(frozen=True)
class AccountPlan:
    """The change set of each region, the one of `home` first. They wait to be executed or discarded."""

    number: str
    home: str
    parameters: Mapping[str, str]
    change_sets: Mapping[str, ChangeSet]


def template_parameters() -> dict[str, Any]:
    """The parameters of the template by name, as it declares them."""
    declared: dict[str, Any] = yaml.load(stacks.TEMPLATE.read_text(encoding="utf-8"), _Loader)["Parameters"]  # noqa: S506 - a SafeLoader
    return declared


def check_parameters(given: Mapping[str, str]) -> None:
    """BadInput for a parameter that the template has not, or does not allow the value of."""
    declared = template_parameters()
    for name, value in given.items():
        if name not in declared:
            raise BadInput(f"{stacks.TEMPLATE.name} has no parameter `{name}`: {nearest(name, declared)}",
                           hint="its head lists them")
        pattern, allowed = declared[name].get("AllowedPattern", ".*"), declared[name].get("AllowedValues", [value])
        if not re.fullmatch(pattern, value) or value not in allowed:
            raise BadInput(f"{name} cannot be `{value}`", hint=" ".join(declared[name]["Description"].split()))


def prepare(account: Account, regions: Sequence[str], given: Mapping[str, str]) -> AccountPlan:
    """Look at the stacks of all regions and make a change set in each; nothing of the account changes by that.

    `given` are parameters by name; others stay as they are. The first region is home where no stack says otherwise.
    """
    check_regions(regions)
    check_parameters(given)
    number = account.number(regions[0])
    found = for_each_region(regions, lambda region: _look(account, region)).require_all()
    homes = {stack.parameters[_HOME] for stack in found.values() if stack and not stack.is_new}
    if len(homes | {given.get(_HOME, "")} - {""}) > 1:
        raise BadInput(f"the stacks {stacks.NAME} have different home regions: {', '.join(sorted(homes))}",
                       hint="a home cannot move: remove the stacks, then make them again")
    home = next(iter(homes), given.get(_HOME, regions[0]))
    present = found[home] if home in found else _look(account, home)
    parameters = _parameters(account, home, present, given)
    names = list(dict.fromkeys([home, *regions]))
    sets = for_each_region(names, lambda region: stacks.propose(
        account.client("cloudformation", region), present if region == home else found[region], parameters))
    plan = AccountPlan(number, home, parameters, {name: sets.done[name] for name in names if name in sets.done})
    if sets.failed:
        discard(account, plan)
    sets.require_all()
    return plan


def _look(account: Account, region: str) -> AccountStack | None:
    stack = stacks.find(account.client("cloudformation", region))
    if stack:
        stacks.check_usable(stack, region)
    return stack


def _parameters(account: Account, home: str, present: AccountStack | None, given: Mapping[str, str]) -> dict[str, str]:
    """All that the template needs to be told: what it was told before, `given`, and whose the providers are."""
    former = dict(present.parameters) if present and not present.is_new else {}
    known = {**former, **given, _HOME: home}
    if not known.get(GITHUB) and not known.get(GITLAB):
        raise BadInput("nobody would be allowed to publish", hint="name a repository: --github OWNER/NAME or "
                                                                  "--gitlab GROUP/PROJECT")
    listed = account.client("iam", home).list_open_id_connect_providers()["OpenIDConnectProviderList"]
    hosts = {entry["Arn"].partition("oidc-provider/")[2] for entry in listed}
    for provider, subject, host in (("GitHubProvider", GITHUB, _GITHUB_HOST),
                                    ("GitLabProvider", GITLAB, known.get(_GITLAB_HOST, "gitlab.com"))):
        made_here = former.get(subject) and former.get(provider, "create") == "create"
        if provider not in given and not made_here:
            known[provider] = "existing" if host in hosts else "create"
    declared = template_parameters()
    return {name: value for name, value in known.items() if name in declared}


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
        verb = "a new stack" if change_set.is_first else "changes of the stack"
        yield f"{region}: {verb} {stacks.NAME}" if change_set.changes else f"{region}: nothing to do"
        for change in change_set.changes:
            replaced = ", replaced" if change.replaces else ""
            yield f"  {change.action.lower():<7}{change.kind:<26} {change.name}{replaced}"
    yield from _costs(plan)


def _costs(plan: AccountPlan) -> Iterator[str]:
    """What each kind of new thing costs, a line for each region where that differs."""
    costs = dict.fromkeys((change.kind, account_prices.of_kind(change.kind, region) or "unknown")
                          for region, change_set in plan.change_sets.items() for change in change_set.changes
                          if change.action == "Add")
    if costs:
        yield "a month:"
        yield from (f"  {kind:<26} {cost}" for kind, cost in costs)
