"""The page of a digest: all findings, new ones first, and the charts of what was spent. Pure."""

from __future__ import annotations

from goldenami.fleet.costs.commitments import GUIDANCE, START_WITH
from goldenami.fleet.digest import digest_message
from goldenami.fleet.digest.digest import DigestRecord
from goldenami.fleet.digest.memory import News
from goldenami.image.report import charts
from goldenami.image.report.charts import Chart
from goldenami.image.report.report import template

SERVICES = 12
"""Services of the chart: the others are small."""


def render(record: DigestRecord, said: News) -> str:
    """The page, which needs no script and no network."""
    return template("digest.html.j2").render(
        record=record, said=said, headline=digest_message.headline(record, said),
        charts=_charts(record), guidance=GUIDANCE, start=f"{100 * START_WITH:.0f}",
        usd=digest_message.usd)


def _charts(record: DigestRecord) -> list[Chart]:
    if not record.spent:
        return []
    by_kind: dict[str, float] = {}
    for one in record.findings:
        by_kind[one.kind.value] = by_kind.get(one.kind.value, 0.0) + (one.usd_week or 0.0)
    services = sorted(record.spent[-1].services.items(), key=lambda row: -row[1])[:SERVICES]
    drawn = (
        charts.history("US dollars of each week", [(each.week, each.usd) for each in record.spent],
                       digest_message.usd, noun="week"),
        charts.shares(f"US dollars of {record.week} by service", "service", services,
                      digest_message.usd),
        charts.shares("Dollars a week that findings are about", "finding",
                      sorted(((kind, usd) for kind, usd in by_kind.items() if usd),
                             key=lambda row: -row[1]), digest_message.usd))
    return [chart for chart in drawn if chart]
