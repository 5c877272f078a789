"""What images cost this month, what retiring would save, and which commitments end soon."""

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
from goldenami.model.builds.build_records import Utc
from goldenami.release.retire import retention
from goldenami.release.retire.retention import RegionRetirePlan, RetentionPolicy, RetireStep

from goldenami_fleet.costs import commitments
from goldenami_fleet.costs.commitments import Commitments

SOON = timedelta(days=30)
"""Commitments that end within this time are listed."""
_NO_WAIT = {"disable_after_days": 0, "deregister_after_days": 0}
"""Waits of zero days: builds that retirement has only announced count as retired, too."""
BUDGETS = "golden-cluster-", "golden-ami"
"""How the names of budgets begin: of clusters, and of the account."""
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
    """What the money was spent on, by the tag that the resource carries."""

    SNAPSHOTS = "snapshots"
    BUILDERS = "builders"
    CLUSTER = "cluster"


class RegionCost(Record):
    """The costs of one image in one region; dollars are None if a price is unknown.
    `snapshots_usd_month` is the price of everything stored now. `retiring_saves_usd_month` is the
    part of it that `golden retire` would free in the end. Both are upper limits if a snapshot's
    size is only bounded. `idle_usd` is the on-demand price of this month's `idle_hours`."""

    image: str
    amis: int
    snapshot_bytes: int
    snapshots_usd_month: float | None
    retiring_saves_usd_month: float | None
    idle_hours: float
    idle_usd: float | None


class CostsRecord(Record):
    """The costs of all images. `spent` has this month's US dollars by image and `Spending`, as AWS
    billed them, or None if they are unknown. `unknown` has the cause of each failed question; such
    a value is never reported as 0."""

    schema_version: Literal[4] = 4
    asked_at: Utc
    since: date
    prices: dict[str, str]
    spent: dict[str, dict[str, float]] | None
    regions: dict[str, list[RegionCost]]
    budgets: list[BudgetState]
    committed: Commitments
    unknown: dict[str, str]


def read_costs(
    account: Account,
    images: Mapping[str, list[str]],
    policies: Mapping[str, RetentionPolicy],
) -> tuple[CostsRecord, dict[str, GoldenError]]:
    """Return the costs, and the errors of regions that failed. `images` has the names by region."""
    now, account = clock.now(), account.with_short_timeouts()
    # Cost Explorer's end day is exclusive: tomorrow includes today.
    since, until = now.date().replace(day=1), now.date() + timedelta(days=1)
    questions: dict[str, Callable[[], Any]] = {
        region: partial(_read_region, account, region, names, policies, now)
        for region, names in images.items()
    }
    questions |= {
        _COMMITMENTS: lambda: commitments.read_commitments(account, images, now),
        "spent": lambda: _spent_by_image(account, since, until),
        "budgets": lambda: list(billing.budgets(account, BUDGETS)),
    }
    answers = in_parallel(questions)
    results, committed = answers.done, answers.done[_COMMITMENTS]
    sources, costs_by_region = dict[str, str](), dict[str, list[RegionCost]]()
    failed = dict[str, GoldenError]()
    for region in images:
        if region in results:
            sources[region], costs_by_region[region] = results[region]
        else:
            failed[region] = answers.failed[region]
    return CostsRecord(
        asked_at=clock.stamp(now),
        since=since,
        prices=sources,
        regions=costs_by_region,
        spent=results.get("spent"),
        budgets=results.get("budgets", []),
        committed=committed,
        unknown=answers.causes | committed.unknown,
    ), failed


def _spent_by_image(account: Account, since: date, until: date) -> dict[str, dict[str, float]]:
    by_image: dict[str, dict[str, float]] = {}
    for tag in (tags.IMAGE, tags.CLUSTER):
        for (image, usage_type), usd in billing.spent(account, tag, since, until).items():
            if tag == tags.CLUSTER:
                kind = Spending.CLUSTER
            elif "Snapshot" in usage_type:
                kind = Spending.SNAPSHOTS
            else:
                kind = Spending.BUILDERS
            row = by_image.setdefault(image, {})
            row[kind.value] = row.get(kind.value, 0.0) + usd
    return by_image


def _read_region(
    account: Account,
    region: str,
    images: Sequence[str],
    policies: Mapping[str, RetentionPolicy],
    now: datetime,
) -> tuple[str, list[RegionCost]]:
    """Return the source of the prices, and the cost of each image."""
    month, (first, *others) = now.replace(day=1, hour=0, minute=0, second=0), images
    with translated(region):
        idle = list(metrics.idle_machines(account.client("cloudwatch", region), month, now))
        # Listing AMIs and snapshots once serves all images; only the ledgers differ.
        topologies = {first: inventory.read(account, region, first, tags_suffice=True)}
        for image in others:
            ledger = read_lease(account.dynamodb(region), image).ledger
            topologies[image] = replace(topologies[first], pointers=inventory.pointers(ledger))
    region_prices = price_list.ask(account, region)
    costs = list[RegionCost]()
    for image, topology in topologies.items():
        policy = policies[image].model_copy(update=_NO_WAIT)
        plan = retention.plan(topology, image, policy, now)
        costs.append(_cost(image, topology, plan, idle, region_prices))
    return region_prices.source, costs


def _cost(
    image: str,
    topology: Topology,
    plan: RegionRetirePlan,
    idle: Iterable[metrics.IdleMachine],
    region_prices: RegionPrices,
) -> RegionCost:
    amis = {ami.id for ami in topology.amis if ami.image == image}
    # RECALL only takes back sharing; the build stays.
    retired_builds = {
        action.build_id for action in plan.actions if action.step is not RetireStep.RECALL
    }
    present = {snapshot.id for snapshot in topology.snapshots}
    stored_bytes, freed_bytes = 0, 0
    for snapshot in topology.snapshots:
        if snapshot.image == image:
            size, _ = prices.stored(snapshot, present)
            stored_bytes += size
            if snapshot.build_id in retired_builds:
                freed_bytes += size
    idle_here = [machine for machine in idle if machine.ami in amis and machine.hours]
    return RegionCost(
        image=image,
        amis=len(amis),
        snapshot_bytes=stored_bytes,
        snapshots_usd_month=prices.monthly(stored_bytes, region_prices.snapshot_gib_month),
        retiring_saves_usd_month=prices.monthly(freed_bytes, region_prices.snapshot_gib_month),
        idle_hours=round(sum(machine.hours for machine in idle_here), 3),
        idle_usd=_idle_usd(idle_here, region_prices),
    )


def _idle_usd(machines: Iterable[metrics.IdleMachine], region_prices: RegionPrices) -> float | None:
    """Return the price on demand of the machines' idle hours, or None if a price is unknown."""
    if region_prices.unknown:
        return None
    usd = 0.0
    for machine in machines:
        if machine.type not in region_prices.machine_hour:
            return None
        usd += machine.hours * region_prices.machine_hour[machine.type]
    return usd


def lines(record: CostsRecord) -> Iterator[str]:
    """Lines for a terminal: the tables, the commitments that end soon, and what is unknown."""
    rows = list[tuple[str, ...]]()
    for region, costs in record.regions.items():
        rows += [_cells(region, row) for row in costs]
    yield from columns.aligned([_COLUMNS, *sorted(rows)])
    yield ""
    yield f"billed since {record.since} (AWS is up to a day behind):"
    yield from _bill_lines(record)
    yield from map(_budget_line, record.budgets)
    yield from _ending_lines(record)
    yield from record.committed.lines()
    for region, source in record.prices.items():
        yield f"prices in {region}: {source}"
    for what, why in record.unknown.items():
        yield f"unknown: {what}: {why}"


def _cells(region: str, row: RegionCost) -> tuple[str, ...]:
    return (
        row.image,
        region,
        str(row.amis),
        units.size(row.snapshot_bytes),
        dollars(row.snapshots_usd_month),
        dollars(row.retiring_saves_usd_month),
        f"{row.idle_hours:.1f}",
        dollars(row.idle_usd),
    )


def _bill_lines(record: CostsRecord) -> Iterator[str]:
    if record.spent is None:
        yield "  unknown"
        return
    if not record.spent:
        yield (
            "  nothing that carries goldenami:image or goldenami:cluster; both have to be cost "
            "allocation tags (docs/operate/costs.md)"
        )
        return
    kinds = [kind.value for kind in Spending]
    rows = [("image", *kinds)]
    for image, spent in sorted(record.spent.items()):
        rows.append((image or "(no image)", *(dollars(spent.get(kind, 0.0)) for kind in kinds)))
    for line in columns.aligned(rows):
        yield f"  {line}"


def _budget_line(state: BudgetState) -> str:
    if state.unit != DOLLARS:
        return (
            f"budget {state.name}: in {state.unit}, so it is not compared with prices in US dollars"
        )
    forecast = "no forecast yet"
    if state.forecast is not None:
        forecast = f"{dollars(state.forecast)} forecast"
    over = " (more than it)" if state.spent > state.limit else ""
    spent = f"{dollars(state.spent)} of {dollars(state.limit)}{over}"
    return f"budget {state.name}: {spent}, {forecast}"


def _ending_lines(record: CostsRecord) -> Iterator[str]:
    now = datetime.fromisoformat(record.asked_at)
    for commitment in sorted(record.committed.held, key=lambda held: held.ends):
        left = datetime.fromisoformat(commitment.ends) - now
        if left <= SOON:
            yield (
                f"{commitment.kind} {commitment.id} ({commitment.what}) ends on "
                f"{commitment.ends[:10]}, in {left.days} days"
            )
