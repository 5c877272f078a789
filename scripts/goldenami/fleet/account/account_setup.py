"""An account set up by its stacks, and taken down again; what holds data stays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from goldenami.aws import stacks
from goldenami.aws.calls import tolerate
from goldenami.aws.channels.lease import TABLE
from goldenami.aws.regions import for_each_region
from goldenami.aws.session import Account
from goldenami.aws.stacks import DeployedStack
from goldenami.core.errors import BadInput
from goldenami.core.terminal.progress import Progress
from goldenami.fleet.account import account_plan
from goldenami.fleet.account.account_plan import AccountPlan


def execute(account: Account, plan: AccountPlan, progress: Progress) -> DeployedStack:
    """Make what the plan says, at home first, then in all other regions at once; returns the stack
    of `home`."""
    begun = set[str]()

    def make(region: str) -> None:
        begun.add(region)
        stacks.execute(account.client("cloudformation", region), plan.change_sets[region],
                       lambda text: progress.say(f"{region}: {text}"))

    try:
        with progress.step("stacks", f"{len(plan.change_sets)} regions"):
            make(plan.home)
            for_each_region(
                [region for region in plan.change_sets if region != plan.home], make
            ).require_all(f"the stack of {plan.home} is made", "then run again: it continues")
    finally:
        account_plan.discard(account, plan,
                             [region for region in plan.change_sets if region not in begun])
    home = stacks.find(account.client("cloudformation", plan.home),
                       plan.change_sets[plan.home].name)
    assert home is not None
    return home


@dataclass(frozen=True)
class Removal:
    """The stacks that go, by region, and what they keep: buckets and tables, with whether these are
    empty."""

    home: str
    found: dict[str, DeployedStack]
    buckets: dict[str, bool]
    tables: dict[str, bool]


def prepare_removal(account: Account, regions: Sequence[str], home: str) -> Removal:
    """What goes and what stays. `regions` are all that may have a stack; BadInput where none
    has."""
    template = account_plan.template()

    looked = for_each_region(regions, lambda region: stacks.find_ours(
        account.client("cloudformation", region), template, region)).require_all()
    found = {region: stack for region, stack in looked.items() if stack}
    if not found:
        raise BadInput(f"there is no stack {template.name} in {', '.join(regions)}",
                       hint="nothing to remove")
    home = next((stack.parameters["HomeRegion"] for stack in found.values()
                 if "HomeRegion" in stack.parameters), home)
    kept = [value.removeprefix("s3://").partition("/")[0] for region, stack in found.items()
            if region == home
            for name, value in stack.outputs.items() if name == "GOLDEN_STORE_S3"]
    tables = for_each_region(found, lambda region: _is_table_empty(account, region)).require_all()
    return Removal(home, found,
                   {bucket: _is_bucket_empty(account, home, bucket) for bucket in kept},
                   {region: empty for region, empty in tables.items() if empty is not None})


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
        yield f"{region}: the table {TABLE} " + ("goes" if empty
                                                 else "stays: it has the ledgers of images")
    for bucket, empty in removal.buckets.items():
        yield f"{removal.home}: the bucket {bucket} " + (
            "goes" if empty else "stays: it is not empty"
        )


def remove(account: Account, removal: Removal, progress: Progress) -> None:
    """Delete the stacks, that of `home` last, then what they keep and is empty: also now, not only
    by the plan."""
    def delete(region: str) -> None:
        stacks.delete(account.client("cloudformation", region), removal.found[region],
                      lambda text: progress.say(f"{region}: {text}"))
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
