"""The `sweep` command's work: what killed runs left in an account, and may go because its date of expiry has passed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from goldenami.aws import regions
from goldenami.aws.inventory import leftovers
from goldenami.aws.inventory.leftovers import Leftover, LeftoverKind
from goldenami.aws.session import Account, translate
from goldenami.core import clock
from goldenami.core.errors import GoldenError
from goldenami.core.records import Record
from goldenami.model.build_records import Utc


class Item(Record):
    """One leftover. `kept` is why it stays, empty where it goes."""

    kind: str
    id: str
    owner: str
    image: str
    expires: str
    kept: str


class SweepPlan(Record):
    """What is removed and what is not, by region, in order. `unreachable`: regions that could not be read, and why."""

    schema_version: Literal[1] = 1
    planned_at: Utc
    regions: dict[str, list[Item]]
    unreachable: dict[str, str]


@dataclass(frozen=True)
class Prepared:
    """A plan, what it is about, and why other regions could not be read."""

    plan: SweepPlan
    found: dict[str, list[Leftover]]
    unreachable: dict[str, GoldenError]


def prepare(account: Account, names: list[str]) -> Prepared:
    """Find the leftovers of every region."""
    found = regions.each(names, lambda region: _look(account, region))
    return Prepared(
        plan=SweepPlan(planned_at=clock.stamp(), unreachable={name: str(error) for name, error in found.failed.items()},
                       regions={name: [_item(each, why) for each, why in rows] for name, rows in found.done.items()}),
        found={name: [each for each, why in rows if not why] for name, rows in found.done.items()},
        unreachable=found.failed)


def _look(account: Account, region: str) -> list[tuple[Leftover, str]]:
    ec2 = account.ec2(region)
    found = leftovers.find(ec2)
    going = {each.id for each in found if not _why_kept(each, set())}
    asks = any(each.kind is LeftoverKind.SNAPSHOT for each in found)
    used = set(leftovers.used_snapshots(ec2, going)) if asks else set()
    return [(each, _why_kept(each, used)) for each in found]


def _why_kept(found: Leftover, used: set[str]) -> str:
    if found.expires is None:
        return "its date of expiry is no time in UTC"
    if clock.now() <= found.expires:
        return f"a run may use it until {found.expires:%Y-%m-%d %H:%M}"
    return "an AMI is made of it" if found.id in used else ""


def _item(found: Leftover, why: str) -> Item:
    return Item(kind=found.kind.value, id=found.id, owner=found.owner, image=found.image, kept=why,
                expires=f"{found.expires:%Y-%m-%dT%H:%M:%SZ}" if found.expires else "")


def execute(account: Account, prepared: Prepared) -> dict[str, int]:
    """Remove what has expired; returns how many things in each region. One that is refused does not stop the others."""
    failed: dict[str, list[GoldenError]] = {}
    done = regions.each(prepared.found, lambda region: _sweep(account, region, prepared.found[region], failed)).done
    check(prepared, failed)
    return done


def _sweep(account: Account, region: str, found: list[Leftover], failed: dict[str, list[GoldenError]]) -> int:
    count = 0
    for each in found:
        try:
            leftovers.remove(account.ec2(region), each)
            count += 1
        except Exception as error:  # translate raises what is none of AWS's errors or ours
            failed.setdefault(region, []).append(translate(error, region))
    return count


def check(prepared: Prepared, failed: dict[str, list[GoldenError]]) -> None:
    """One error for regions that could not be read and things that could not be removed, where there are any."""
    first = {**prepared.unreachable, **{name: errors[0] for name, errors in failed.items()}}
    if first:
        more = {f"{name}+{number}": str(error) for name, errors in failed.items()
                for number, error in enumerate(errors[1:], 1)}
        raise regions.failure(first, "not everything was swept", "`golden sweep` continues", more)


def show(plan: SweepPlan) -> Iterator[str]:
    """The plan for a person."""
    for name, items in plan.regions.items():
        for item in items:
            what = f"{item.kind} {item.id} of {item.owner or 'an unknown owner'}"
            yield f"  {name:<15} " + (f"keep {what}: {item.kept}" if item.kept else f"remove {what}: expired "
                                      f"{item.expires}")
        if not items:
            yield f"  {name:<15} nothing is left behind"
    for name, cause in plan.unreachable.items():
        yield f"  {name:<15} unreachable: {cause}"
