"""What was billed over months by account, region, type and owner, against as many months before:
for the deep look of a quarter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Literal

from goldenami.aws import tags
from goldenami.aws.pricing import billing
from goldenami.aws.session import Account, translated
from goldenami.core import clock, records, units
from goldenami.core.errors import BadInput
from goldenami.core.records import Record
from goldenami.core.yaml_lines import nearest
from goldenami.image.report import charts
from goldenami.image.report.report import template
from goldenami.model.builds.build_records import Utc

REVIEW_FILE, FOLDER = "review.json", "costs"
QUARTER = 3
"""Months."""
SHOWN = 30
"""Rows of each table of the page; the record has all."""


class By(StrEnum):
    """What a bill is parted by."""

    ACCOUNT = "account"
    REGION = "region"
    TYPE = "type"
    OWNER = "owner"


GROUPS = {
    By.ACCOUNT: {"Type": "DIMENSION", "Key": "LINKED_ACCOUNT"},
    By.REGION: {"Type": "DIMENSION", "Key": "REGION"},
    By.TYPE: {"Type": "DIMENSION", "Key": "INSTANCE_TYPE"},
    By.OWNER: {"Type": "TAG", "Key": tags.PERSON},
}
"""How Cost Explorer names them; the tag has to be a cost allocation tag."""


class ReviewRow(Record):
    """US dollars by month, and `before` in all of as many months before; None where there were
    none."""

    name: str
    months: dict[str, float]
    before: float | None = None

    @property
    def usd(self) -> float:
        return sum(self.months.values())

    @property
    def change(self) -> str:
        """Against the months before, in words."""
        return units.change(self.usd, self.before)


class CostReview(Record):
    """The whole months from `since` to before `until`, and by each part the rows, the dearest
    first."""

    schema_version: Literal[2] = 2
    asked_at: Utc
    since: date
    until: date
    months: list[str]
    parts: dict[str, list[ReviewRow]]

    @property
    def has_before(self) -> bool:
        """Whether anything was billed in the months before."""
        return any(row.before is not None for rows in self.parts.values() for row in rows)


def parts(text: str) -> list[By]:
    """`account,region` as parts; BadInput for another one."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in set(By):
            raise BadInput(
                f"--by {text}: a bill is not parted by `{name}`; "
                f"{nearest(name, [each.value for each in By])}",
                hint="--by account,region,type,owner, or some of these",
            )
    return [By(name) for name in dict.fromkeys(names)]


def _back(month: date, months: int) -> date:
    number = month.year * 12 + month.month - 1 - months
    return date(number // 12, number % 12 + 1, 1)


def look(account: Account, by: Sequence[By], months: int) -> CostReview:
    """Ask for the last whole months and as many before: one request for each part."""
    until = _until()
    since = _back(until, months)
    with translated():
        found = {
            part: billing.monthly(account, GROUPS[part], _back(since, months), until) for part in by
        }
    return CostReview(
        asked_at=clock.stamp(),
        since=since,
        until=until,
        months=[str(_back(until, number))[:7] for number in range(months, 0, -1)],
        parts={part.value: _rows(rows, since) for part, rows in found.items()},
    )


def _rows(found: dict[str, dict[date, float]], since: date) -> list[ReviewRow]:
    rows = list[ReviewRow]()
    for name, billed in found.items():
        before = [usd for day, usd in billed.items() if day < since]
        rows.append(
            ReviewRow(
                name=name,
                before=sum(before) if before else None,
                months={day.isoformat()[:7]: usd for day, usd in billed.items() if day >= since},
            )
        )
    return sorted(rows, key=lambda row: (-row.usd, row.name))


def saved(account: Account, site: Path, by: Sequence[By], months: int) -> tuple[CostReview, Path]:
    """Keep record and page in the site's folder; returns the page's path."""
    review = look(account, by, months)
    page = page_of(site, by, months)
    records.write(page.with_name(REVIEW_FILE), review)
    records.write_text(page, render(review))
    return review, page


def page_of(site: Path, by: Iterable[By], months: int) -> Path:
    """Where the page of so many months up to this one is, or will be: no look replaces another."""
    name = "-".join([str(_until()), f"{months}m", *(part for part in By if part in by)])
    return site / FOLDER / name / "index.html"


def is_due(site: Path) -> bool:
    """Whether a quarter is over, and no review of it is kept."""
    kept = page_of(site, By, QUARTER).with_name(REVIEW_FILE)
    return _until().month % QUARTER == 1 and not kept.exists()


def _until() -> date:
    return clock.now().date().replace(day=1)


def show(review: CostReview) -> Iterator[str]:
    """For a terminal: the dearest of each part."""
    for part, rows in review.parts.items():
        yield f"by {part}, {review.since} to {review.until}:"
        for row in rows[:SHOWN]:
            change = f" ({row.change})" if review.has_before else ""
            yield f"  {row.name or 'none'}: {units.dollars(row.usd)}{change}"


def render(review: CostReview) -> str:
    """The page, which needs no script and no network."""
    drawn = {
        part: charts.shares(
            f"US dollars by {part}",
            part,
            [(row.name or "none", row.usd) for row in rows[:SHOWN] if row.usd > 0],
            units.dollars,
        )
        for part, rows in review.parts.items()
    }
    return template("cost_review.html.j2").render(review=review, charts=drawn, shown=SHOWN)
