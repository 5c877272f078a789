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
BUDGETS = "golden-cluster-"
"""Prefix of the names of the clusters' budgets."""
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
    """Return the costs, and the errors of regions that failed. `images` has the names by region."""
    now, account = clock.now(), account.with_short_timeouts()
    # Cost Explorer's end day is exclusive: tomorrow includes today.
    since, until = now.date().replace(day=1), now.date() + timedelta(days=1)
    questions: dict[str, Callable[[], Any]] = {
        region: partial(_read_region, account, region, names, policies, now)
        for region, names in images.items()
    }
    questions |= {
        _COMMITMENTS: lambda: commitments.look(account, images, now),
        "spent": lambda: _spent_by_image(account, since, until),
        "budgets": lambda: list(billing.budgets(account, BUDGETS)),
    }
    answers = in_parallel(questions)
    results, committed = answers.done, answers.done[_COMMITMENTS]
    by_region = {region: results[region] for region in images if region in results}
    return CostsRecord(
        asked_at=clock.stamp(now),
        since=since,
        prices={region: source for region, (source, _) in by_region.items()},
        regions={region: costs for region, (_, costs) in by_region.items()},
        spent=results.get("spent"),
        budgets=results.get("budgets", []),
        committed=committed,
        unknown=answers.causes | committed.unknown,
    ), {region: answers.failed[region] for region in images if region in answers.failed}


def _spent_by_image(account: Account, since: date, until: date) -> dict[str, dict[str, float]]:
    by_image: dict[str, dict[str, float]] = {}
    for tag in (tags.IMAGE, tags.CLUSTER):
        for (image, usage_type), usd in billing.spent(account, tag, since, until).items():
            kind = Spending.SNAPSHOTS if "Snapshot" in usage_type else Spending.BUILDERS
            if tag == tags.CLUSTER:
                kind = Spending.CLUSTER
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
    plans = {
        image: retention.plan(topology, image, policies[image].model_copy(update=_NO_WAIT), now)
        for image, topology in topologies.items()
    }
    return region_prices.source, [
        _cost(image, topology, plans[image], idle, region_prices)
        for image, topology in topologies.items()
    ]


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
    own_snapshots = [snapshot for snapshot in topology.snapshots if snapshot.image == image]
    sizes = {snapshot.id: prices.stored(snapshot, present)[0] for snapshot in own_snapshots}
    idle_here = [machine for machine in idle if machine.ami in amis and machine.hours]
    return RegionCost(
        image=image,
        amis=len(amis),
        snapshot_bytes=sum(sizes.values()),
        snapshots_usd_month=prices.monthly(sum(sizes.values()), region_prices.snapshot_gib_month),
        retiring_saves_usd_month=prices.monthly(
            sum(
                sizes[snapshot.id]
                for snapshot in own_snapshots
                if snapshot.build_id in retired_builds
            ),
            region_prices.snapshot_gib_month,
        ),
        idle_hours=round(sum(machine.hours for machine in idle_here), 3),
        idle_usd=None
        if region_prices.unknown
        else units.total(
            None
            if (usd := region_prices.machine_hour.get(machine.type)) is None
            else machine.hours * usd
            for machine in idle_here
        ),
    )


def show(record: CostsRecord) -> Iterator[str]:
    """Lines for a terminal: the tables, the commitments that end soon, and what is unknown."""
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
        for region, costs in record.regions.items()
        for row in costs
    ]
    yield from columns.aligned([_COLUMNS, *sorted(rows)])
    yield ""
    yield f"billed since {record.since} (AWS is up to a day behind):"
    yield from _bill_lines(record)
    yield from map(_budget_line, record.budgets)
    yield from _ending_lines(record)
    yield from record.committed.lines()
    yield from (f"prices in {region}: {source}" for region, source in record.prices.items())
    yield from (f"unknown: {what}: {why}" for what, why in record.unknown.items())


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


def _budget_line(state: BudgetState) -> str:
    if state.unit != DOLLARS:
        return (
            f"budget {state.name}: in {state.unit}, so it is not compared with prices in US dollars"
        )
    has_forecast = state.forecast is not None
    forecast = f"{dollars(state.forecast)} forecast" if has_forecast else "no forecast yet"
    return f"budget {state.name}: {dollars(state.spent)} of {dollars(state.limit)}, {forecast}"


def _ending_lines(record: CostsRecord) -> Iterator[str]:
    now = datetime.fromisoformat(record.asked_at)
    for commitment in sorted(record.committed.held, key=lambda held: held.ends):
        left = datetime.fromisoformat(commitment.ends) - now
        if left <= SOON:
            yield (
                f"{commitment.kind} {commitment.id} ({commitment.what}) ends on "
                f"{commitment.ends[:10]}, in {left.days} days"
            )
