"""The page of a run: its steps, and each deviation with request and answer."""

from __future__ import annotations

from pathlib import Path

from goldenami.core import records
from goldenami.image.report.report import template

from goldenami_fleet.selftest.selftest_records import SelftestRecord


def write(path: Path, record: SelftestRecord) -> None:
    """Write the page."""
    calls = [
        records.canonical(deviation.call.model_dump(mode="json")) if deviation.call else ""
        for deviation in record.deviations
    ]
    records.write_text(path, template("selftest.html.j2").render(record=record, calls=calls))
