"""The record of `costs` for a person."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from goldenami.aws.pricing.billing import DOLLARS, BudgetState
from goldenami.core import units
from goldenami.core.terminal import columns
from goldenami.core.units import dollars
from goldenami.fleet.costs.costs import SOON, CostsRecord, Spending

_COLUMNS = ("image", "region", "AMIs", "stored", "a month", "retiring saves", "idle hours",
            "their price")


def show(record: CostsRecord) -> Iterator[str]:
    """Tables, then what ends soon and what could not be asked."""
    rows = [(row.image, region, str(row.amis), units.size(row.snapshot_bytes),
             dollars(row.snapshots_usd_month),
             dollars(row.retiring_saves_usd_month), f"{row.idle_hours:.1f}", dollars(row.idle_usd))
            for region, found in record.regions.items() for row in found]
    yield from columns.aligned([_COLUMNS, *sorted(rows)])
    yield ""
    yield f"billed since {record.since} (AWS is up to a day behind):"
    yield from _spent(record)
    yield from map(_budget, record.budgets)
    yield from _ends(record)
    yield from record.committed.lines()
    yield from (f"prices in {region}: {source}" for region, source in record.prices.items())
    yield from (f"unknown: {what}: {why}" for what, why in record.unknown.items())


def _spent(record: CostsRecord) -> Iterator[str]:
    if record.spent is None:
        yield "  unknown"
        return
    if not record.spent:
        yield ("  nothing that carries goldenami:image or goldenami:cluster; both have to be cost "
               "allocation tags "
               "(docs/costs.md)")
        return
    kinds = [kind.value for kind in Spending]
    yield from (f"  {line}" for line in columns.aligned([("image", *kinds), *(
        (image or "(no image)", *(dollars(row.get(kind, 0.0)) for kind in kinds))
        for image, row in sorted(record.spent.items()))]))


def _budget(state: BudgetState) -> str:
    if state.unit != DOLLARS:
        return (
            f"budget {state.name}: in {state.unit}, so it is not compared with prices in US dollars"
        )
    forecast = (
        "no forecast yet" if state.forecast is None else f"{dollars(state.forecast)} forecast"
    )
    return f"budget {state.name}: {dollars(state.spent)} of {dollars(state.limit)}, {forecast}"


def _ends(record: CostsRecord) -> Iterator[str]:
    now = datetime.fromisoformat(record.asked_at)
    for each in sorted(record.committed.held, key=lambda each: each.ends):
        left = datetime.fromisoformat(each.ends) - now
        if left <= SOON:
            yield f"{each.kind} {each.id} ({each.what}) ends on {each.ends[:10]}, in {left.days} days"
