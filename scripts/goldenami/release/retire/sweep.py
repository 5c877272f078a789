"""The work of the `sweep` command: removes what killed runs left in an account, once their process
on this machine has ended, or its date of expiry has passed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import Literal

from goldenami.aws import tags
from goldenami.aws.calls import wait_for
from goldenami.aws.inventory import leftovers
from goldenami.aws.inventory.leftovers import Leftover, LeftoverKind
from goldenami.aws.regions import Prepared, for_each_region
from goldenami.aws.services import selftest_leftovers
from goldenami.aws.session import Account, translate
from goldenami.core import clock
from goldenami.core.errors import GoldenError
from goldenami.core.records import Record
from goldenami.model.builds.build_records import Utc
from goldenami.model.operation.publish_section import SELFTEST_IMAGE


class Item(Record):
    """One leftover. `kept` is why it stays, or "" if it is removed. `is_selftest` is True for what
    `golden selftest` made."""

    kind: str
    id: str
    owner: str
    image: str
    expires: str
    is_selftest: bool
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
    tagged = [
        *leftovers.find(ec2, tags.EXPIRES, tags.SELFTEST),
        *selftest_leftovers.find(account, region),
    ]
    reasons = {leftover: _why_kept(leftover) for leftover in tagged}
    # Listing the account's AMIs costs calls, so it is done only if a snapshot was left.
    if any(leftover.kind is LeftoverKind.SNAPSHOT for leftover in tagged):
        going = {leftover.id for leftover, reason in reasons.items() if not reason}
        used = leftovers.used_snapshots(ec2, going)
        reasons |= {
            leftover: "an AMI is made of it" for leftover in tagged if leftover.id in going & used
        }
    untagged = list(selftest_leftovers.find_untagged(account, region))
    # Of what has no tags, only a lease that a process took has a date.
    for each in [*tagged, *untagged]:
        if each.is_selftest and each.expires and not each.is_over:
            reason = f"{each.owner or 'somebody'} may still be at work on {SELFTEST_IMAGE}"
            reasons |= dict.fromkeys(untagged, reason)
    order = list(LeftoverKind)
    return [
        _item(leftover, reasons.get(leftover, ""))
        for leftover in sorted([*tagged, *untagged], key=lambda each: order.index(each.kind))
    ]


def _item(leftover: Leftover, kept: str) -> Item:
    expires = ""
    if leftover.expires:
        expires = clock.stamp(leftover.expires)
    return Item(
        kind=leftover.kind.value,
        id=leftover.id,
        owner=leftover.owner,
        image=leftover.image,
        kept=kept,
        expires=expires,
        is_selftest=leftover.is_selftest,
    )


def _why_kept(leftover: Leftover) -> str:
    if leftover.expires is None:
        return "its date of expiry is no time in UTC"
    if not leftover.is_over:
        return f"a run may use it until {leftover.expires:%Y-%m-%d %H:%M}"
    if leftover.is_selftest and leftover.image not in ("", SELFTEST_IMAGE):
        return f"it is of {leftover.image}"
    return ""


def of_selftest(account: Account, regions: list[str]) -> Prepared[SweepPlan]:
    """Plan as `prepare` does, only for what `golden selftest` made: in this process, in one that
    has ended, or in one that was to end before now."""
    prepared = prepare(account, regions)
    items = {
        region: [item for item in found if item.is_selftest]
        for region, found in prepared.plan.regions.items()
    }
    return replace(prepared, plan=prepared.plan.model_copy(update={"regions": items}))


def left_of_selftest(account: Account, regions: list[str]) -> Prepared[SweepPlan]:
    """Plan as `of_selftest` does, after a removal: EC2 lists for a while what is gone already."""
    seen = list[Prepared[SweepPlan]]()

    def is_gone() -> bool | None:
        seen[:] = [of_selftest(account, regions)]
        items = chain.from_iterable(seen[0].plan.regions.values())
        return all(item.kept for item in items) or None

    wait_for(is_gone, what="what was removed is still listed")
    return seen[0]


def proof_lines(plan: SweepPlan) -> Iterator[str]:
    """Lines that say for each region what was asked for, and what of it is left."""
    kinds = ", ".join(kind.value for kind in LeftoverKind)
    for region, items in plan.regions.items():
        left = ", ".join(f"{item.kind} {item.id}" for item in items if not item.kept) or "nothing"
        others = sum(bool(item.kept) for item in items)
        yield (
            f"  {region:<15} asked for {len(LeftoverKind)} kinds ({kinds}): {left} is left, "
            f"and {others} things stay that other runs use"
        )
    for region, cause in plan.unreachable.items():
        yield f"  {region:<15} unreachable: {cause}"


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
            kind = LeftoverKind(item.kind)
            if item.is_selftest:
                selftest_leftovers.remove(account, region, kind, item.id)
            else:
                leftovers.remove(account.ec2(region), kind, item.id)
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
                why = "its run has ended"
                if item.expires and item.expires < plan.planned_at:
                    why = f"expired {item.expires}"
                yield f"  {name:<15} remove {described}: {why}"
        if not items:
            yield f"  {name:<15} nothing is left behind"
    for name, cause in plan.unreachable.items():
        yield f"  {name:<15} unreachable: {cause}"
