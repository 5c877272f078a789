"""The digest as one message, with what is new, and as one page, with all of it and charts. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from goldenami.core import units
from goldenami.core.units import dollars
from goldenami.fleet.digest.digest import DigestRecord
from goldenami.fleet.digest.findings import DigestFinding, saving
from goldenami.fleet.digest.memory import News
from goldenami.fleet.digest.weeks import BEFORE
from goldenami.image.report import charts
from goldenami.image.report.charts import Chart
from goldenami.image.report.report import template

MOST_LINES, MOST_SETTLED, MOST_SERVICES = 40, 10, 12
"""Findings and settled things of a message, and services of the chart, that are named."""


def headline(record: DigestRecord, said: News) -> str:
    """One line: how much is new, how much stands, and what was spent."""
    parts = [
        f"digest of {record.week}: {len(said.new)} new"
        if said.new
        else f"digest of {record.week}: nothing new",
        f"{len(said.standing)} stand",
    ]
    if record.gaps:
        parts.append(f"{len(record.gaps)} could not be looked at")
    if could := saving(record.findings):
        parts.append(f"up to {dollars(could)} a week could be saved")
    return "; ".join([*parts, *_spent(record)])


def _spent(record: DigestRecord) -> Iterator[str]:
    if record.spent:
        now = record.spent[-1]
        earlier = record.spent[-1 - BEFORE] if len(record.spent) > BEFORE else None
        held = f", {units.change(now.usd, earlier.usd)} on {earlier.week}" if earlier else ""
        yield f"{dollars(now.usd)} spent{held}"


def text(record: DigestRecord, said: News, link: str = "") -> str:
    """The message below the headline; `link` is where the page is."""
    return "\n".join(_lines(record, said, link)) + "\n"


def _lines(record: DigestRecord, said: News, link: str) -> Iterator[str]:
    for urgency, of in groupby(said.new[:MOST_LINES], key=lambda one: one.kind.urgency):
        yield f"{urgency.words}:"
        for one in of:
            yield f"- {line(one)}"
            yield f"  {one.todo}"
    if more := len(said.new) - MOST_LINES:
        yield from [f"and {more} more new ones"] if more > 0 else []
    if said.standing:
        week = dollars(saving(said.standing))
        yield f"Told before and still so: {len(said.standing)}; up to {week} a week could be saved."
    if said.settled:
        yield f"Settled: {units.some(said.settled, MOST_SETTLED)}"
    for gap in record.gaps:
        yield plain(f"Could not look at {gap.what}: {gap.why}")
    yield from record.committed.lines()
    if link:
        yield f"All of it: {link}"


def line(one: DigestFinding) -> str:
    """A finding in one line."""
    owner = f" ({one.owner})" if one.owner else ""
    week = "" if one.usd_week is None else f"; {dollars(one.usd_week)} a week"
    return plain(f"{one.kind.value}: {one.subject}{owner}: {one.what}{week}")


def plain(text: str) -> str:
    """`text` of strangers on one line."""
    return " ".join(text.split())


def page(record: DigestRecord, said: News) -> str:
    """The page, which needs no script and no network."""
    return template("digest.html.j2").render(
        record=record,
        said=said,
        headline=headline(record, said),
        charts=_charts(record),
        usd=dollars,
    )


def _charts(record: DigestRecord) -> list[Chart]:
    if not record.spent:
        return []
    by_kind: dict[str, float] = {}
    for one in record.findings:
        by_kind[one.kind.value] = by_kind.get(one.kind.value, 0.0) + (one.usd_week or 0.0)
    services = sorted(record.spent[-1].services.items(), key=lambda row: -row[1])[:MOST_SERVICES]
    drawn = (
        charts.history(
            "US dollars of each week",
            [(each.week, each.usd) for each in record.spent],
            dollars,
            noun="week",
        ),
        charts.shares(f"US dollars of {record.week} by service", "service", services, dollars),
        charts.shares(
            "Dollars a week that findings are about",
            "finding",
            sorted(((kind, usd) for kind, usd in by_kind.items() if usd), key=lambda row: -row[1]),
            dollars,
        ),
    )
    return [chart for chart in drawn if chart]
