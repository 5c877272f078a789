"""The work of the `sweep` command: removes what killed runs left in an account, once its date of
expiry has passed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from goldenami.aws.inventory import leftovers
from goldenami.aws.inventory.leftovers import Leftover, LeftoverKind
from goldenami.aws.regions import Prepared, for_each_region
from goldenami.aws.session import Account, translate
from goldenami.core import clock
from goldenami.core.errors import GoldenError
from goldenami.core.records import Record
from goldenami.model.builds.build_records import Utc


class Item(Record):
    """One leftover. `kept` is why it stays, or "" if it is removed."""

    kind: str
    id: str
    owner: str
    image: str
    expires: str
    kept: str


class SweepPlan(Record):
    """The leftovers of each region, in the order in which they are removed."""

    schema_version: Literal[1] = 1
    planned_at: Utc
    regions: dict[str, list[Item]]
    unreachable: dict[str, str]


def prepare(account: Account, regions: list[str]) -> Prepared[SweepPlan]:
    """Find the leftovers of every region, and plan which are removed."""
    account = account.with_short_timeouts()
    results = for_each_region(regions, lambda region: _items(account, region))
    return Prepared(
        SweepPlan(planned_at=clock.stamp(), unreachable=results.causes, regions=results.done),
        results.failed,
    )


def _items(account: Account, region: str) -> list[Item]:
    ec2 = account.ec2(region)
    all_leftovers = leftovers.find(ec2)
    going = {leftover.id for leftover in all_leftovers if not _why_kept(leftover, set())}
    has_snapshots = any(leftover.kind is LeftoverKind.SNAPSHOT for leftover in all_leftovers)
    used = set[str]()
    # Listing the account's AMIs costs calls, so it is done only if a snapshot was left.
    if has_snapshots:
        used = leftovers.used_snapshots(ec2, going)
    return [_item(leftover, used) for leftover in all_leftovers]


def _item(leftover: Leftover, used: set[str]) -> Item:
    expires = ""
    if leftover.expires:
        expires = clock.stamp(leftover.expires)
    return Item(
        kind=leftover.kind.value,
        id=leftover.id,
        owner=leftover.owner,
        image=leftover.image,
        kept=_why_kept(leftover, used),
        expires=expires,
    )


def _why_kept(leftover: Leftover, used: set[str]) -> str:
    if leftover.expires is None:
        return "its date of expiry is no time in UTC"
    if not leftover.is_expired:
        return f"a run may use it until {leftover.expires:%Y-%m-%d %H:%M}"
    if leftover.id in used:
        return "an AMI is made of it"
    return ""


def execute(account: Account, prepared: Prepared[SweepPlan]) -> dict[str, int]:
    """Remove what has expired, and return the number of things removed in each region. One that is
    refused does not stop the others."""
    refused: dict[str, list[GoldenError]] = {}
    items = prepared.plan.regions
    removed = for_each_region(
        items, lambda region: _remove(account, region, items[region], refused)
    ).done
    check(prepared, refused)
    return removed


def _remove(
    account: Account, region: str, items: list[Item], refused: dict[str, list[GoldenError]]
) -> int:
    count = 0
    for item in items:
        if item.kept:
            continue
        try:
            leftovers.remove(account.ec2(region), LeftoverKind(item.kind), item.id)
            count += 1
        # translate raises an exception that is no error of AWS's or ours
        except Exception as error:
            refused.setdefault(region, []).append(translate(error, region))
    return count


def check(prepared: Prepared[SweepPlan], refused: dict[str, list[GoldenError]]) -> None:
    """Raise an error if a region could not be read or a thing could not be removed."""
    prepared.check(refused, "not everything was swept", "`golden sweep` continues")


def lines(plan: SweepPlan) -> Iterator[str]:
    """The plan in lines for a person."""
    for name, items in plan.regions.items():
        for item in items:
            described = f"{item.kind} {item.id} of {item.owner or 'an unknown owner'}"
            if item.kept:
                yield f"  {name:<15} keep {described}: {item.kept}"
            else:
                yield f"  {name:<15} remove {described}: expired {item.expires}"
        if not items:
            yield f"  {name:<15} nothing is left behind"
    for name, cause in plan.unreachable.items():
        yield f"  {name:<15} unreachable: {cause}"
