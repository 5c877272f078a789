"""The review of a quarter: bills by account, region, type and owner, against as many months
before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from goldenami.aws import tags
from goldenami.aws.pricing import billing
from goldenami.aws.session import Account, translated
from goldenami.core import clock, records, units
from goldenami.core.errors import BadInput
from goldenami.core.records import Record
from goldenami.core.yaml_lines import nearest
from goldenami.image.report import charts
from goldenami.model.builds.build_records import Utc

REVIEW_FILE, FOLDER = "review.json", "costs"
QUARTER = 3
"""Months of a review, unless another number is asked for."""
KEPT = 13
"""Months before this one that Cost Explorer keeps, unless it is told to keep more."""
SHOWN = 30
"""Rows of each table on the page; the record has all rows."""


class By(StrEnum):
    """How a bill can be split."""

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
"""Cost Explorer's groups (GetCostAndUsage, `GroupBy`). The owner's tag has to be a cost allocation
tag."""


class ReviewRow(Record):
    """US dollars by month. `before` is the sum of as many earlier months, or None if it was not
    billed then, or if any of all these months has no bill."""

    name: str
    months: dict[str, float]
    before: float | None = None

    @property
    def usd(self) -> float:
        return sum(self.months.values())

    @property
    def change(self) -> str:
        """The change against the months before, in words."""
        return units.change(self.usd, self.before)


class CostReview(Record):
    """The bills of the whole months from `since` to before `until`; `parts` has the rows of each
    split, the most expensive first."""

    schema_version: Literal[2] = 2
    asked_at: Utc
    since: date
    until: date
    months: list[str]
    parts: dict[str, list[ReviewRow]]

    @property
    def has_before(self) -> bool:
        """Whether these months and as many before each have a bill."""
        return any(row.before is not None for rows in self.parts.values() for row in rows)


def parts(text: str) -> list[By]:
    """Parse the text of --by, such as `account,region`. Raises BadInput for any other word."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in set(By):
            raise BadInput(
                f"--by {text}: a bill is not parted by `{name}`; "
                f"{nearest(name, [part.value for part in By])}",
                hint="--by account,region,type,owner, or some of these",
            )
    return [By(name) for name in dict.fromkeys(names)]


def months_before(start: date, months: int) -> date:
    """The 1st of the month that is so many months before that of `start`."""
    month_number = start.year * 12 + start.month - 1 - months
    return date(month_number // 12, month_number % 12 + 1, 1)


def read_review(account: Account, by: Sequence[By], months: int) -> CostReview:
    """Ask Cost Explorer for the last whole months and, where it keeps them, as many before."""
    until = _this_month()
    since = months_before(until, months)
    first = months_before(since, months if 2 * months <= KEPT else 0)
    # One request for each split has both periods: Cost Explorer charges for each request.
    with translated():
        bills_by_part = {part: billing.monthly(account, GROUPS[part], first, until) for part in by}
    return CostReview(
        asked_at=clock.stamp(),
        since=since,
        until=until,
        months=[str(months_before(until, number))[:7] for number in range(months, 0, -1)],
        parts={part.value: _rows(rows, since, 2 * months) for part, rows in bills_by_part.items()},
    )


def _rows(bills: dict[str, dict[date, float]], since: date, months: int) -> list[ReviewRow]:
    # Sums of unequal numbers of months are not compared.
    is_whole = len({month for row in bills.values() for month in row}) == months
    rows = list[ReviewRow]()
    for name, row in bills.items():
        before = [usd for month, usd in row.items() if month < since]
        in_time = {f"{month:%Y-%m}": usd for month, usd in row.items() if month >= since}
        total_before = sum(before) if before and is_whole else None
        rows.append(ReviewRow(name=name, before=total_before, months=in_time))
    return sorted(rows, key=lambda row: (-row.usd, row.name))


def saved(account: Account, site: Path, by: Sequence[By], months: int) -> tuple[CostReview, Path]:
    """Write the record into the site's folder; return the review and the record's path."""
    review, path = read_review(account, by, months), path_of(site, by, months)
    records.write(path, review)
    return review, path


def path_of(site: Path, by: Iterable[By], months: int) -> Path:
    """Path of the record of `months` months up to this month, whether it exists or not."""
    # The name has the end, the length and the splits, so that no review replaces another one.
    name = "-".join([str(_this_month()), f"{months}m", *(part for part in By if part in by)])
    return site / FOLDER / name / REVIEW_FILE


def is_due(site: Path) -> bool:
    """Whether a quarter has ended whose review is not in the site."""
    # In January, April, July and October: a quarter has just ended.
    return _this_month().month % QUARTER == 1 and not path_of(site, By, QUARTER).exists()


def _this_month() -> date:
    return clock.now().date().replace(day=1)


def lines(review: CostReview) -> Iterator[str]:
    """Lines for a terminal: the most expensive rows of each split."""
    for part, rows in review.parts.items():
        yield f"by {part}, {review.since} to {review.until}:"
        for row in rows[:SHOWN]:
            line = f"  {row.name or 'none'}: {units.dollars(row.usd)}"
            if review.has_before:
                line += f" ({row.change})"
            yield line


def part_of_site(site: Path) -> dict[str, Any] | None:
    """What the site shows of the review that was asked for last, or None if it has none."""
    # Records have whole seconds: of two of one second, the file that was written last is the newer.
    paths = sorted(
        site.glob(f"{FOLDER}/*/{REVIEW_FILE}"), key=lambda path: -path.stat().st_mtime_ns
    )
    reviews = [review for path in paths if (review := records.read_if_whole(path, CostReview))]
    newest = max(reviews, key=lambda review: review.asked_at, default=None)
    return view(newest) if newest else None


def view(review: CostReview) -> dict[str, Any]:
    """What the template of the site's costs takes."""
    charts_by_part = {
        part: charts.shares(
            f"US dollars by {part}",
            part,
            [(row.name or "none", row.usd) for row in rows[:SHOWN] if row.usd > 0],
            units.dollars,
        )
        for part, rows in review.parts.items()
    }
    return {"review": review, "charts": charts_by_part, "shown": SHOWN}
