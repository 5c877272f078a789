"""The `costs` command's work: what an image costs this month, what retiring would save, what is committed and ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Literal, TypeVar

from goldenami.aws import billing, idle_hours, price_list, prices, tags
from goldenami.aws.billing import BudgetState, Commitment, PurchaseAdvice
from goldenami.aws.inventory import inventory
from goldenami.aws.inventory.topology import AccountSnapshot
from goldenami.aws.price_list import RegionPrices
from goldenami.aws.regions import for_each_region
from goldenami.aws.session import Account, translate, translated
from goldenami.core import clock, units
from goldenami.core.errors import GoldenError
from goldenami.core.records import Record
from goldenami.lifecycle import retention
from goldenami.lifecycle.retention import RetentionPolicy, RetireStep
from goldenami.model.build_records import Utc

T = TypeVar("T")
SOON = timedelta(days=30)
"""Commitments that end before are named."""
_NO_WAIT = {"disable_after_days": 0, "deregister_after_days": 0}
"""What retirement has only announced would go, too."""
BUDGETS = "golden-cluster-"
"""How the budgets of clusters begin."""
GUIDANCE = ("one year and no upfront payment; convertible for GPUs, whose generations change; start with part of what "
            "runs day and night, and buy more later")


class Spending(StrEnum):
    """What money goes to, of what carries one of our tags."""

    SNAPSHOTS = "snapshots"
    BUILDERS = "builders"
    CLUSTER = "cluster"


class RegionCost(Record):
    """What one image holds and wastes in one region. Dollars are None where the price is not known.

    `snapshots_usd_month` is for what is stored now, `retiring_saves_usd_month` of that what `golden retire` would take
    in the end; both at most, where a snapshot's size is only bounded. `idle_usd` is the price of this month's
    `idle_hours`, on demand.
    """

    image: str
    amis: int
    snapshot_bytes: int
    snapshots_usd_month: float | None
    retiring_saves_usd_month: float | None
    idle_hours: float
    idle_usd: float | None


class CostsRecord(Record):
    """All images. `spent` are this month's US dollars by image, as AWS bills them; None where that is not known.

    `unknown` says of each thing that could not be asked why: nothing in here is 0 for that reason.
    """

    schema_version: Literal[1] = 1
    asked_at: Utc
    since: date
    prices: dict[str, str]
    spent: dict[str, dict[str, float]] | None
    regions: dict[str, list[RegionCost]]
    budgets: list[BudgetState]
    commitments: list[Commitment]
    utilization: dict[str, float]
    advice: list[PurchaseAdvice]
    guidance: str = GUIDANCE
    unknown: dict[str, str]


def look(
    account: Account, images: Mapping[str, list[str]], policies: Mapping[str, RetentionPolicy],
) -> tuple[CostsRecord, dict[str, GoldenError]]:
    """Ask every region for the images that belong there (`images`: by region), and the account for the rest."""
    now, unknown = clock.now(), dict[str, str]()

    def known(what: str, ask: Callable[[], T], otherwise: T) -> T:
        try:
            return ask()
        except Exception as error:  # translate raises what is none of AWS's errors or ours
            unknown[what] = translate(error).message
            return otherwise

    since, until = now.date().replace(day=1), now.date() + timedelta(days=1)
    listed = {region: price_list.ask(account, region) for region in images}
    asked = for_each_region(
        images, lambda region: _region(account, region, images[region], policies, listed[region], now),
        listening=account)
    held = for_each_region(images, lambda region: list(billing.reservations(account.ec2(region))))
    unknown |= {f"reservations in {region}": why for region, why in held.causes.items()}
    commitments = [each for found in held.done.values() for each in found]
    commitments += known("savings plans", lambda: list(billing.savings_plans(account)), [])
    return CostsRecord(
        asked_at=clock.stamp(now), since=since, prices={region: each.source for region, each in listed.items()},
        spent=known("spent", lambda: _spent(account, since, until), None), regions=asked.done,
        budgets=known("budgets", lambda: list(billing.budgets(account, BUDGETS)), []), commitments=commitments,
        utilization=known("utilization", lambda: billing.utilization(account, since, until), {}) if commitments else {},
        advice=known("advice", lambda: list(billing.advice(account)), []), unknown=unknown | asked.causes), asked.failed


def _spent(account: Account, since: date, until: date) -> dict[str, dict[str, float]]:
    """By image and `Spending`."""
    found: dict[str, dict[str, float]] = {}
    for tag in (tags.IMAGE, tags.CLUSTER):
        for (image, usage), usd in billing.spent(account, tag, since, until).items():
            kind = Spending.CLUSTER if tag == tags.CLUSTER else (
                Spending.SNAPSHOTS if "Snapshot" in usage else Spending.BUILDERS)
            row = found.setdefault(image, {})
            row[kind.value] = row.get(kind.value, 0.0) + usd
    return found


def _region(
    account: Account, region: str, images: Iterable[str], policies: Mapping[str, RetentionPolicy],
    listed: RegionPrices, now: datetime,
) -> list[RegionCost]:
    month = now.replace(day=1, hour=0, minute=0, second=0)
    with translated(region):
        idle = list(idle_hours.idle_machines(account.client("cloudwatch", region), month, now))
        rows = []
        for image in images:
            topology = inventory.read(account, region, image)
            amis = [ami for ami in topology.amis if ami.image == image]
            plan = retention.plan(topology, image, policies[image].model_copy(update=_NO_WAIT), now)
            going = {action.build_id for action in plan.actions if action.step is not RetireStep.RECALL}
            mine = [snapshot for snapshot in topology.snapshots if snapshot.image == image]
            sizes = _sizes(mine, topology.snapshots)
            wasted = [machine for machine in idle if machine.ami in {ami.id for ami in amis} and machine.hours]
            rows.append(RegionCost(
                image=image, amis=len(amis), snapshot_bytes=sum(sizes.values()),
                snapshots_usd_month=prices.monthly(sum(sizes.values()), listed.snapshot_gib_month),
                retiring_saves_usd_month=prices.monthly(
                    sum(sizes[snapshot.id] for snapshot in mine if snapshot.build_id in going),
                    listed.snapshot_gib_month),
                idle_hours=round(sum(machine.hours for machine in wasted), 3),
                idle_usd=None if listed.unknown else units.total(
                    None if (usd := listed.machine_hour.get(machine.type)) is None else machine.hours * usd
                    for machine in wasted)))
    return rows


def _sizes(mine: Iterable[AccountSnapshot], every: Iterable[AccountSnapshot]) -> dict[str, int]:
    present = {snapshot.id for snapshot in every}
    return {snapshot.id: prices.stored(snapshot, present)[0] for snapshot in mine}
