"""The digest as a message, which has the new findings, and as a part of the site, which has all of
them and charts. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from goldenami.core import units
from goldenami.core.units import dollars
from goldenami.image.report import charts
from goldenami.image.report.charts import Chart

from goldenami_fleet.digest.digest import DigestRecord
from goldenami_fleet.digest.findings import DigestFinding, saving
from goldenami_fleet.digest.memory import News
from goldenami_fleet.digest.weeks import BEFORE

MOST_LINES, MOST_SETTLED, MOST_SERVICES, MOST_MONTHS = 40, 10, 12, 2
"""How many findings, settled subjects and months a message names, and how many services the chart
has."""


def headline(record: DigestRecord, news: News) -> str:
    """One line: how many findings are new, how many remain, and what was spent."""
    parts = [
        f"digest of {record.week}: {len(news.new) or 'nothing'} new",
        f"{len(news.standing)} stand",
    ]
    return "; ".join([*parts, *_facts(record)])


def _facts(record: DigestRecord) -> Iterator[str]:
    if record.gaps:
        yield f"{len(record.gaps)} could not be looked at"
    if savings := saving(record.findings):
        yield f"up to {dollars(savings)} a week could be saved"
    if record.spent:
        now = record.spent[-1]
        spent = f"{dollars(now.usd)} spent"
        if len(record.spent) > BEFORE:
            earlier = record.spent[-1 - BEFORE]
            spent += f", {units.change(now.usd, earlier.usd)} on {earlier.week}"
        yield spent


def text(record: DigestRecord, news: News, link: str = "") -> str:
    """The message below the headline; `link` is the address of the site."""
    return "\n".join(_lines(record, news, link)) + "\n"


def _lines(record: DigestRecord, news: News, link: str) -> Iterator[str]:
    for urgency, findings in groupby(
        news.new[:MOST_LINES], key=lambda finding: finding.kind.urgency
    ):
        yield f"{urgency.words}:"
        for finding in findings:
            yield f"- {line(finding)}"
            yield f"  {finding.todo}"
    if len(news.new) > MOST_LINES:
        yield f"and {len(news.new) - MOST_LINES} more new ones"
    if news.standing:
        week = dollars(saving(news.standing))
        yield f"Told before and still so: {len(news.standing)}; up to {week} a week could be saved."
    if news.settled:
        yield f"Settled: {units.some(news.settled, MOST_SETTLED)}"
    for gap in record.gaps:
        yield plain(f"Could not look at {gap.what}: {gap.why}")
    yield from record.committed.lines()
    yield from record.gpu_hours.totals(MOST_MONTHS)
    if link:
        yield f"All of it: {link}"


def line(finding: DigestFinding) -> str:
    """Describe a finding in one line."""
    description = f"{finding.kind.value}: {finding.subject}"
    if finding.owner:
        description += f" ({finding.owner})"
    description += f": {finding.what}"
    if finding.usd_week is not None:
        description += f"; {dollars(finding.usd_week)} a week"
    return plain(description)


def plain(text: str) -> str:
    """Return `text`, which may come from AWS or a user's tag, on one line."""
    return " ".join(text.split())


def part_of_site(record: DigestRecord | None) -> dict[str, Any] | None:
    """What the template of the site's digest takes, or None without a digest."""
    if record is None:
        return None
    return {
        "record": record,
        "facts": list(_facts(record)),
        "charts": _charts(record),
        "usd": dollars,
    }


def _charts(record: DigestRecord) -> list[Chart]:
    if not record.spent:
        return []
    by_kind: dict[str, float] = {}
    for finding in record.findings:
        if finding.usd_week:
            usd = by_kind.get(finding.kind.value, 0.0)
            by_kind[finding.kind.value] = usd + finding.usd_week
    services = sorted(record.spent[-1].services.items(), key=lambda entry: -entry[1])[
        :MOST_SERVICES
    ]
    all_charts = (
        charts.history(
            "US dollars of each week",
            [(week.week, week.usd) for week in record.spent],
            dollars,
            noun="week",
        ),
        charts.shares(f"US dollars of {record.week} by service", "service", services, dollars),
        charts.shares(
            "Dollars a week that findings are about",
            "finding",
            sorted(by_kind.items(), key=lambda entry: -entry[1]),
            dollars,
        ),
    )
    return [chart for chart in all_charts if chart]
