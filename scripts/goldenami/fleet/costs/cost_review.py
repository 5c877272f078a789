"""What was billed over months by account, region, type and owner, against the review before: for
the deep look of a quarter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
SHOWN = 30
"""Rows of each table of the page; the record has all."""


class By(StrEnum):
    """What a bill is parted by."""

    ACCOUNT = "account"
    REGION = "region"
    TYPE = "type"
    OWNER = "owner"


GROUPS = {By.ACCOUNT: {"Type": "DIMENSION", "Key": "LINKED_ACCOUNT"},
          By.REGION: {"Type": "DIMENSION", "Key": "REGION"},
          By.TYPE: {"Type": "DIMENSION", "Key": "INSTANCE_TYPE"},
          By.OWNER: {"Type": "TAG", "Key": tags.PERSON}}
"""How Cost Explorer names them; the tag has to be a cost allocation tag."""


class ReviewRow(Record):
    """US dollars by month, and in all of the review before; None where that did not have it."""

    name: str
    months: dict[str, float]
    before: float | None = None

    @property
    def usd(self) -> float:
        return sum(self.months.values())

    @property
    def change(self) -> str:
        """Against the review before, in words."""
        return units.change(self.usd, self.before)


class CostReview(Record):
    """Whole months before `until`, and by each part the rows, the dearest first. `against` is where
    the review before ends, "" where there was none."""

    schema_version: Literal[1] = 1
    asked_at: Utc
    since: date
    until: date
    against: str
    parts: dict[str, list[ReviewRow]]

    @property
    def months(self) -> list[str]:
        return sorted({month for rows in self.parts.values() for row in rows
                       for month in row.months})


def parts(text: str) -> list[By]:
    """`account,region` as parts; BadInput for another one."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in set(By):
            raise BadInput(f"--by {text}: a bill is not parted by `{name}`; "
                           f"{nearest(name, [each.value for each in By])}",
                           hint="--by account,region,type,owner, or some of these")
    return [By(name) for name in dict.fromkeys(names)]


def look(account: Account, by: Sequence[By], months: int, before: CostReview | None) -> CostReview:
    """Ask for the last whole months: one request for each part."""
    until = _until()
    number = until.year * 12 + until.month - 1 - months
    since = date(number // 12, number % 12 + 1, 1)
    with translated():
        found = {part: billing.monthly(account, GROUPS[part], since, until) for part in by}
    return CostReview(
        asked_at=clock.stamp(), since=since, until=until,
        against=str(before.until) if before else "",
        parts={part.value: _rows(rows, before.parts.get(part.value, []) if before else None)
               for part, rows in found.items()})


def _rows(
    found: dict[str, dict[date, float]], before: Sequence[ReviewRow] | None
) -> list[ReviewRow]:
    earlier = {row.name: row.usd for row in before or ()}
    names = {**dict.fromkeys(found), **dict.fromkeys(earlier)}
    rows = [ReviewRow(name=name, before=earlier.get(name), months={
        day.isoformat()[:7]: usd for day, usd in found.get(name, {}).items()}) for name in names]
    return sorted(rows, key=lambda row: (-row.usd, row.name))


def saved(
    account: Account, site: Path, by: Sequence[By], months: int
) -> tuple[CostReview, Path]:
    """Keep record and page in the site's folder; returns the page's path."""
    review = look(account, by, months, _newest_before(site / FOLDER, _until()))
    page = page_of(site)
    records.write(page.with_name(REVIEW_FILE), review)
    records.write_text(page, render(review))
    return review, page


def page_of(site: Path) -> Path:
    """Where the page of the months up to this one is, or will be."""
    return site / FOLDER / str(_until()) / "index.html"


def is_due(site: Path) -> bool:
    """Whether a quarter is over, and no review of it is kept."""
    return _until().month % 3 == 1 and not page_of(site).with_name(REVIEW_FILE).exists()


def _until() -> date:
    return clock.now().date().replace(day=1)


def _newest_before(folder: Path, until: date) -> CostReview | None:
    """The last saved review that ends earlier; one that is damaged is passed over."""
    paths = sorted(path for path in folder.glob(f"*/{REVIEW_FILE}")
                   if path.parent.name < until.isoformat())
    saved = (records.read_if_whole(path, CostReview) for path in reversed(paths))
    return next((each for each in saved if each), None)


def show(review: CostReview) -> Iterator[str]:
    """For a terminal: the dearest of each part."""
    for part, rows in review.parts.items():
        yield f"by {part}, {review.since} to {review.until}:"
        for row in rows[:SHOWN]:
            yield f"  {row.name or 'none'}: {units.dollars(row.usd)} ({row.change})"


def render(review: CostReview) -> str:
    """The page, which needs no script and no network."""
    drawn = {part: charts.shares(f"US dollars by {part}", part, [
        (row.name or "none", row.usd) for row in rows[:SHOWN] if row.usd > 0],
        units.dollars) for part, rows in review.parts.items()}
    return template("cost_review.html.j2").render(
        review=review, charts=drawn, shown=SHOWN)
