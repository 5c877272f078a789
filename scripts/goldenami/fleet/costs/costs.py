"""The `costs` command's work: what an image costs this month, what retiring would save, what is
committed and ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Any, Literal

from goldenami.aws import tags
from goldenami.aws.channels.lease import read_lease
from goldenami.aws.inventory import inventory
from goldenami.aws.inventory.topology import Topology
from goldenami.aws.pricing import billing, price_list, prices
from goldenami.aws.pricing.billing import DOLLARS, BudgetState
from goldenami.aws.pricing.price_list import RegionPrices
from goldenami.aws.regions import in_parallel
from goldenami.aws.services import metrics
from goldenami.aws.session import Account, translated
from goldenami.core import clock, units
from goldenami.core.errors import GoldenError
from goldenami.core.records import Record
from goldenami.core.terminal import columns
from goldenami.core.units import dollars
from goldenami.fleet.costs import commitments
from goldenami.fleet.costs.commitments import Commitments
from goldenami.model.builds.build_records import Utc
from goldenami.release.retire import retention
from goldenami.release.retire.retention import RegionRetirePlan, RetentionPolicy, RetireStep

SOON = timedelta(days=30)
"""Commitments that end before are named."""
_NO_WAIT = {"disable_after_days": 0, "deregister_after_days": 0}
"""What retirement has only announced would go, too."""
BUDGETS = "golden-cluster-"
"""How the budgets of clusters begin."""
_COMMITMENTS = "commitments"
_COLUMNS = (
    "image",
    "region",
    "AMIs",
    "stored",
    "a month",
    "retiring saves",
    "idle hours",
    "their price",
)


class Spending(StrEnum):
    """What money goes to, of what carries one of our tags."""

    SNAPSHOTS = "snapshots"
    BUILDERS = "builders"
    CLUSTER = "cluster"


class RegionCost(Record):
    """What one image holds and wastes in one region. Dollars are None where the price is not known.

    `snapshots_usd_month` is for what is stored now, `retiring_saves_usd_month` of that what `golden
    retire` would take in the end; both at most, where a snapshot's size is only bounded. `idle_usd`
    is the price of this month's `idle_hours`, on demand.
    """

    image: str
    amis: int
    snapshot_bytes: int
    snapshots_usd_month: float | None
    retiring_saves_usd_month: float | None
    idle_hours: float
    idle_usd: float | None


class CostsRecord(Record):
    """All images. `spent` are this month's US dollars by image, as AWS bills them; None where that
    is not known.

    `unknown` says of each thing that could not be asked why: nothing in here is 0 for that reason.
    """

    schema_version: Literal[3] = 3
    asked_at: Utc
    since: date
    prices: dict[str, str]
    spent: dict[str, dict[str, float]] | None
    regions: dict[str, list[RegionCost]]
    budgets: list[BudgetState]
    committed: Commitments
    unknown: dict[str, str]


def look(
    account: Account,
    images: Mapping[str, list[str]],
    policies: Mapping[str, RetentionPolicy],
) -> tuple[CostsRecord, dict[str, GoldenError]]:
    """`images`: by region."""
    now, account = clock.now(), account.with_short_timeouts()
    since, until = now.date().replace(day=1), now.date() + timedelta(days=1)
    asks: dict[str, Callable[[], Any]] = {
        region: partial(_region, account, region, there, policies, now)
        for region, there in images.items()
    }
    asks |= {
        _COMMITMENTS: lambda: commitments.look(account, images, now),
        "spent": lambda: _spent(account, since, until),
        "budgets": lambda: list(billing.budgets(account, BUDGETS)),
    }
    answers = in_parallel(asks)
    done, committed = answers.done, answers.done[_COMMITMENTS]
    found = {region: done[region] for region in images if region in done}
    return CostsRecord(
        asked_at=clock.stamp(now),
        since=since,
        prices={region: source for region, (source, _) in found.items()},
        regions={region: costs for region, (_, costs) in found.items()},
        spent=done.get("spent"),
        budgets=done.get("budgets", []),
        committed=committed,
        unknown=answers.causes | committed.unknown,
    ), {region: answers.failed[region] for region in images if region in answers.failed}


def _spent(account: Account, since: date, until: date) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for tag in (tags.IMAGE, tags.CLUSTER):
        for (image, usage), usd in billing.spent(account, tag, since, until).items():
            kind = (
                Spending.CLUSTER
                if tag == tags.CLUSTER
                else (Spending.SNAPSHOTS if "Snapshot" in usage else Spending.BUILDERS)
            )
            row = found.setdefault(image, {})
            row[kind.value] = row.get(kind.value, 0.0) + usd
    return found


def _region(
    account: Account,
    region: str,
    images: Sequence[str],
    policies: Mapping[str, RetentionPolicy],
    now: datetime,
) -> tuple[str, list[RegionCost]]:
    """Where the prices are from, and what each image costs: one look for all, of which each has a
    ledger."""
    month, (first, *others) = now.replace(day=1, hour=0, minute=0, second=0), images
    with translated(region):
        idle = list(metrics.idle_machines(account.client("cloudwatch", region), month, now))
        looked = {first: inventory.read(account, region, first, tags_suffice=True)}
        for image in others:
            ledger = read_lease(account.dynamodb(region), image).ledger
            looked[image] = replace(looked[first], pointers=inventory.pointers(ledger))
    listed = price_list.ask(account, region)
    plans = {
        image: retention.plan(there, image, policies[image].model_copy(update=_NO_WAIT), now)
        for image, there in looked.items()
    }
    return listed.source, [
        _cost(image, there, plans[image], idle, listed) for image, there in looked.items()
    ]


def _cost(
    image: str,
    topology: Topology,
    plan: RegionRetirePlan,
    idle: Iterable[metrics.IdleMachine],
    listed: RegionPrices,
) -> RegionCost:
    amis = {ami.id for ami in topology.amis if ami.image == image}
    going = {action.build_id for action in plan.actions if action.step is not RetireStep.RECALL}
    present = {snapshot.id for snapshot in topology.snapshots}
    mine = [snapshot for snapshot in topology.snapshots if snapshot.image == image]
    sizes = {snapshot.id: prices.stored(snapshot, present)[0] for snapshot in mine}
    wasted = [machine for machine in idle if machine.ami in amis and machine.hours]
    return RegionCost(
        image=image,
        amis=len(amis),
        snapshot_bytes=sum(sizes.values()),
        snapshots_usd_month=prices.monthly(sum(sizes.values()), listed.snapshot_gib_month),
        retiring_saves_usd_month=prices.monthly(
            sum(sizes[snapshot.id] for snapshot in mine if snapshot.build_id in going),
            listed.snapshot_gib_month,
        ),
        idle_hours=round(sum(machine.hours for machine in wasted), 3),
        idle_usd=None
        if listed.unknown
        else units.total(
            None if (usd := listed.machine_hour.get(machine.type)) is None else machine.hours * usd
            for machine in wasted
        ),
    )


def show(record: CostsRecord) -> Iterator[str]:
    """Tables, then what ends soon and what could not be asked."""
    rows = [
        (
            row.image,
            region,
            str(row.amis),
            units.size(row.snapshot_bytes),
            dollars(row.snapshots_usd_month),
            dollars(row.retiring_saves_usd_month),
            f"{row.idle_hours:.1f}",
            dollars(row.idle_usd),
        )
        for region, found in record.regions.items()
        for row in found
    ]
    yield from columns.aligned([_COLUMNS, *sorted(rows)])
    yield ""
    yield f"billed since {record.since} (AWS is up to a day behind):"
    yield from _billed(record)
    yield from map(_budget, record.budgets)
    yield from _ends(record)
    yield from record.committed.lines()
    yield from (f"prices in {region}: {source}" for region, source in record.prices.items())
    yield from (f"unknown: {what}: {why}" for what, why in record.unknown.items())


def _billed(record: CostsRecord) -> Iterator[str]:
    if record.spent is None:
        yield "  unknown"
        return
    if not record.spent:
        yield (
            "  nothing that carries goldenami:image or goldenami:cluster; both have to be cost "
            "allocation tags (docs/costs.md)"
        )
        return
    kinds = [kind.value for kind in Spending]
    yield from (
        f"  {line}"
        for line in columns.aligned(
            [
                ("image", *kinds),
                *(
                    (image or "(no image)", *(dollars(row.get(kind, 0.0)) for kind in kinds))
                    for image, row in sorted(record.spent.items())
                ),
            ]
        )
    )


def _budget(state: BudgetState) -> str:
    if state.unit != DOLLARS:
        return (
            f"budget {state.name}: in {state.unit}, so it is not compared with prices in US dollars"
        )
    known = state.forecast is not None
    forecast = f"{dollars(state.forecast)} forecast" if known else "no forecast yet"
    return f"budget {state.name}: {dollars(state.spent)} of {dollars(state.limit)}, {forecast}"


def _ends(record: CostsRecord) -> Iterator[str]:
    now = datetime.fromisoformat(record.asked_at)
    for each in sorted(record.committed.held, key=lambda each: each.ends):
        left = datetime.fromisoformat(each.ends) - now
        if left <= SOON:
            yield (
                f"{each.kind} {each.id} ({each.what}) ends on {each.ends[:10]}, in {left.days} days"
            )
