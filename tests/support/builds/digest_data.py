"""A digest and a review of costs, of an account that has some of everything, and the site with
them."""

from __future__ import annotations

from datetime import date

from goldenami.aws.pricing.billing import CommitmentUse, PurchaseAdvice
from goldenami.image.report import site
from goldenami_fleet.costs import cost_review
from goldenami_fleet.costs.commitments import Commitments
from goldenami_fleet.costs.cost_review import By, CostReview, ReviewRow
from goldenami_fleet.costs.gpu_hours import GpuHours, GpuMonth
from goldenami_fleet.digest import digest_views
from goldenami_fleet.digest.digest import DigestRecord
from goldenami_fleet.digest.findings import DigestFinding, Gap, Kind, worst_first
from goldenami_fleet.digest.memory import News
from goldenami_fleet.digest.weeks import WeekSpent

from support.builds.tools import ROOT

WEEKS = [
    WeekSpent(
        week=f"2026-W{number}",
        services={
            "Amazon Elastic Compute Cloud - Compute": 4000.0 + 90 * number,
            "Amazon S3": 41.0,
        },
    )
    for number in range(36, 49)
]


def week(bad: str = "") -> tuple[DigestRecord, News]:
    """`bad` stands in whatever others write."""
    findings = worst_first(
        [
            DigestFinding(
                kind=kind,
                subject=f"us-east-1 i-0123456789abcde{number:02}{bad}",
                owner=f"ann{bad}",
                what=f"g5.12xlarge was so for {number} of 168 hours {bad}",
                todo="look at it",
                usd_week=137.25 * number if number % 3 else None,
            )
            for number, kind in enumerate(Kind)
        ]
    )
    record = DigestRecord(
        week="2026-W48",
        since="2026-11-23T00:00:00Z",
        until="2026-11-30T00:00:00Z",
        asked_at="2026-12-01T06:23:00Z",
        findings=findings,
        spent=WEEKS,
        gaps=[Gap(what="drift in eu-west-1", why=f"AWS did not answer {bad}", kinds=[])],
        gpu_hours=GpuHours(
            rows=[
                GpuMonth(
                    owner=f"ann{bad}", month="2026-11", paid=900.0, measured=300.0, used=120.5
                ),
                GpuMonth(owner="(all)", month="2026-11", paid=None, measured=0.0, used=0.0),
            ],
            unknown={},
        ),
        committed=Commitments(
            held=[],
            utilization={"reservation": CommitmentUse(percent=71.0, saved_usd=-12.5)},
            coverage={"reservation": 44.0},
            unknown={},
            advice=[
                PurchaseAdvice(kind="savings plan", what="$1.500 an hour", saves_usd_month=75.0)
            ],
        ),
    )
    return record, News(
        new=findings[:8], standing=findings[8:], settled=[f"drift: us-east-1 i-9{bad}"]
    )


def page(bad: str = "") -> str:
    """The site with both."""
    parts = {
        "costs": cost_review.view(review(bad)),
        "digest": digest_views.part_of_site(week(bad)[0]),
    }
    return site.render(ROOT, [], {}, "2026-12-01T06:23:00Z", parts)


def text() -> str:
    """The message of it."""
    return f"{digest_views.headline(*week())}\n{digest_views.text(*week())}"


def review(bad: str = "") -> CostReview:
    months = [f"2026-{number:02}" for number in range(7, 13)]
    rows = [
        ReviewRow(
            name=f"{name}{bad}",
            months=dict.fromkeys(months, 1234.5 * share),
            before=9000.0 if share > 1 else None,
        )
        for name, share in (("g5.12xlarge", 9.0), ("", 1.5), ("c7i.large", 0.2))
    ]
    return CostReview(
        asked_at="2027-01-05T06:23:00Z",
        since=date(2026, 7, 1),
        until=date(2027, 1, 1),
        months=months,
        parts={part.value: rows for part in By},
    )
