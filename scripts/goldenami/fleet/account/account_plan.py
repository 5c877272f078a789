"""An account set up by its stacks, and taken down again; what holds data stays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from goldenami.aws.calls import tolerate
from goldenami.aws.channels.lease import TABLE
from goldenami.aws.regions import for_each_region
from goldenami.aws.services import stacks
from goldenami.aws.services.stacks import ChangeSet, DeployedStack, StackTemplate
from goldenami.aws.session import Account, check_regions
from goldenami.core.errors import BadInput
from goldenami.core.terminal.progress import Progress

GITHUB, GITLAB = "GitHubRepository", "GitLabProject"
_HOME, _GITLAB_HOST, _BUCKET = "HomeRegion", "GitLabHost", "BucketName"
_GITHUB_HOST = "token.actions.githubusercontent.com"


TEMPLATE = Path(__file__).parents[2] / "aws/account.yml"


@cache
def template() -> StackTemplate:
    """The account's template."""
    return StackTemplate(
        "golden-ami",
        TEMPLATE.name,
        "goldenami account",
        TEMPLATE.read_text(encoding="utf-8"),
        "`golden account remove`",
    )


@dataclass(frozen=True)
class AccountPlan:
    """The change set of each region, the one of `home` first."""

    number: str
    home: str
    parameters: Mapping[str, str]
    change_sets: Mapping[str, ChangeSet]


def prepare(account: Account, regions: Sequence[str], given: Mapping[str, str]) -> AccountPlan:
    """Make a change set in each region; nothing of the account changes by that.

    `given` are parameters by name; others stay as they are. The first region is home where no stack
    says otherwise.
    """
    check_regions(regions)
    template().check(given)
    number = account.number(regions[0])
    found = for_each_region(regions, lambda region: _look(account, region)).require_all()
    homes = {stack.parameters[_HOME] for stack in found.values() if stack and not stack.is_new}
    if len(homes | {given.get(_HOME, "")} - {""}) > 1:
        raise BadInput(
            f"the stacks {template().name} have different home regions: {', '.join(sorted(homes))}",
            hint="a home cannot move: remove the stacks, then make them again",
        )
    home = next(iter(homes), given.get(_HOME, regions[0]))
    present = found[home] if home in found else _look(account, home)
    parameters = _parameters(account, home, present, given)
    names = list(dict.fromkeys([home, *regions]))
    sets = for_each_region(
        names,
        lambda region: stacks.propose(
            account.client("cloudformation", region),
            template(),
            present if region == home else found[region],
            parameters,
        ),
    )
    plan = AccountPlan(
        number, home, parameters, {name: sets.done[name] for name in names if name in sets.done}
    )
    if sets.failed:
        discard(account, plan)
    sets.require_all()
    return plan


def _look(account: Account, region: str) -> DeployedStack | None:
    return stacks.find_usable(account.client("cloudformation", region), template(), region)


def _parameters(
    account: Account, home: str, present: DeployedStack | None, given: Mapping[str, str]
) -> dict[str, str]:
    """What the template was told before, `given`, and whose the providers are."""
    former = dict(present.parameters) if present and not present.is_new else {}
    known = {**former, **given, _HOME: home}
    if not former and _BUCKET not in given:
        known[_BUCKET] = _kept_bucket(account, home)
    if not known.get(GITHUB) and not known.get(GITLAB):
        raise BadInput(
            "nobody would be allowed to publish",
            hint=f"name a repository: --set {GITHUB}=OWNER/NAME or --set {GITLAB}=GROUP/PROJECT",
        )
    listed = account.client("iam", home).list_open_id_connect_providers()
    hosts = {
        entry["Arn"].partition("oidc-provider/")[2] for entry in listed["OpenIDConnectProviderList"]
    }
    for provider, subject, host in (
        ("GitHubProvider", GITHUB, _GITHUB_HOST),
        ("GitLabProvider", GITLAB, known.get(_GITLAB_HOST, "gitlab.com")),
    ):
        made_here = former.get(subject) and former.get(provider, "create") == "create"
        if provider not in given and not made_here:
            known[provider] = "existing" if host in hosts else "create"
    return {name: value for name, value in known.items() if name in template().parameters}


def _kept_bucket(account: Account, home: str) -> str:
    """The bucket that an earlier stack left because it was not empty; BadInput for several."""
    # CloudFormation names a resource after its stack, its logical name and chance, in small letters
    # for S3.
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


def execute(account: Account, plan: AccountPlan, progress: Progress) -> DeployedStack:
    """Make the stack of `home` first, then all others at once; returns that of `home`."""
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
    finally:
        discard(account, plan, [region for region in plan.change_sets if region not in begun])
    return home


@dataclass(frozen=True)
class Removal:
    """The stacks that go, by region, and what they keep: buckets and tables, and whether these are
    empty."""

    home: str
    found: dict[str, DeployedStack]
    buckets: dict[str, bool]
    tables: dict[str, bool]


def prepare_removal(account: Account, regions: Sequence[str], home: str) -> Removal:
    """`regions` are all that may have a stack; BadInput where none has."""
    wanted = template()
    looked = for_each_region(
        regions,
        lambda region: stacks.find_ours(account.client("cloudformation", region), wanted, region),
    ).require_all()
    found = {region: stack for region, stack in looked.items() if stack}
    if not found:
        raise BadInput(
            f"there is no stack {wanted.name} in {', '.join(regions)}", hint="nothing to remove"
        )
    home = next(
        (
            stack.parameters["HomeRegion"]
            for stack in found.values()
            if "HomeRegion" in stack.parameters
        ),
        home,
    )
    kept = [
        value.removeprefix("s3://").partition("/")[0]
        for region, stack in found.items()
        if region == home
        for name, value in stack.outputs.items()
        if name == "GOLDEN_STORE_S3"
    ]
    tables = for_each_region(found, lambda region: _is_table_empty(account, region)).require_all()
    return Removal(
        home,
        found,
        {bucket: _is_bucket_empty(account, home, bucket) for bucket in kept},
        {region: empty for region, empty in tables.items() if empty is not None},
    )


def _is_table_empty(account: Account, region: str) -> bool | None:
    """None where there is no table."""
    with tolerate("ResourceNotFoundException"):
        return not account.dynamodb(region).scan(TableName=TABLE, Limit=1, Select="COUNT")["Count"]
    return None


def _is_bucket_empty(account: Account, region: str, bucket: str) -> bool:
    """Whether it holds no version of anything; a marker of something deleted is one."""
    found = account.s3(region).list_object_versions(Bucket=bucket, MaxKeys=1)
    return not found.get("Versions") and not found.get("DeleteMarkers")


def show_removal(removal: Removal) -> Iterator[str]:
    """The plan of a removal for a person."""
    for region, stack in removal.found.items():
        yield f"{region}: the stack {stack.name} goes"
    for region, empty in removal.tables.items():
        fate = "goes" if empty else "stays: it has the ledgers of images"
        yield f"{region}: the table {TABLE} {fate}"
    for bucket, empty in removal.buckets.items():
        fate = "goes" if empty else "stays: it is not empty"
        yield f"{removal.home}: the bucket {bucket} {fate}"


def remove(account: Account, removal: Removal, progress: Progress) -> None:
    """Delete the stacks, that of `home` last, then what they keep and is empty: also now, not only
    by the plan."""

    def delete(region: str) -> None:
        stacks.delete(
            account.client("cloudformation", region),
            removal.found[region],
            lambda text: progress.say(f"{region}: {text}"),
        )
        if removal.tables.get(region) and _is_table_empty(account, region):
            account.dynamodb(region).delete_table(TableName=TABLE)

    with progress.step("stacks", f"{len(removal.found)} regions"):
        others = [region for region in removal.found if region != removal.home]
        for_each_region(others, delete).require_all("not all stacks are removed", "then run again")
        if removal.home in removal.found:
            delete(removal.home)
    for bucket, empty in removal.buckets.items():
        if empty and _is_bucket_empty(account, removal.home, bucket):
            account.s3(removal.home).delete_bucket(Bucket=bucket)
