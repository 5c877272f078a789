"""The digest of a week: what every part of goldenami says of the account, as findings.

What one part cannot look at is a gap with its cause, and the others are told all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal

from goldenami.aws.pricing import billing
from goldenami.aws.regions import in_parallel
from goldenami.aws.session import Account
from goldenami.core import clock
from goldenami.core.records import Record
from goldenami.fleet.costs import commitments
from goldenami.fleet.costs.commitments import Commitments
from goldenami.fleet.digest import from_records, machines, weeks
from goldenami.fleet.digest.findings import DigestFinding, Gap, Kind, worst_first
from goldenami.fleet.digest.weeks import Week, WeekSpent
from goldenami.fleet.drift import fleet
from goldenami.model.builds.build_records import Utc
from goldenami.model.builds.security_records import CveRecord
from goldenami.model.supported.support import PartSupport
from goldenami.release.retire import status

DIGEST_FILE = "digest.json"
ANOMALY_DAYS = 30
"""Days of unusual costs that are asked for: AWS may name one days after it began."""
_BILL, _ANOMALIES, _COMMITTED = "spending", "unusual costs", "commitments"
_BUILDS, _DRIFT, _MACHINES = "builds", "drift", "machines in "
_OF_MACHINES = [Kind.IDLE, Kind.HELD, Kind.UNDERUSED, Kind.EMPTY_DISK]
_OF_COMMITMENTS = [Kind.ENDING, Kind.REVIEW, Kind.UNUSED_COMMITMENT]
_KINDS = {
    _BILL: [Kind.OVERSPENT],
    _ANOMALIES: [Kind.ANOMALY],
    _DRIFT: [Kind.DRIFT],
    _BUILDS: [Kind.UNUSED, Kind.ENDED, Kind.VULNERABLE],
    _COMMITTED: _OF_COMMITMENTS,
}


@dataclass(frozen=True)
class Known:
    """What is known here of builds that pointers name, by image: parts with their support, and
    vulnerabilities; `gaps` are builds of which one is not known. `keep` says how many of the newest
    builds each image's definition keeps."""

    keep: dict[str, int]
    parts: dict[str, list[PartSupport]]
    cves: dict[str, list[CveRecord]]
    gaps: list[Gap]


class DigestRecord(Record):
    """What was found of one week, the worst first; `spent` are the weeks that were billed, the
    oldest first, None where that is not known."""

    schema_version: Literal[2] = 2
    week: str
    since: Utc
    until: Utc
    asked_at: Utc
    findings: list[DigestFinding]
    gaps: list[Gap]
    spent: list[WeekSpent] | None
    committed: Commitments


def look(
    account: Account,
    images: Mapping[str, list[str]],
    known: Callable[[list[tuple[str, str]]], Known],
) -> DigestRecord:
    """`images`: by region; `known` tells of image and build of each pointer."""
    now, hasty = clock.now(), account.with_short_timeouts()
    week = Week.before(now)
    asks: dict[str, Callable[[], Any]] = {
        _BUILDS: lambda: status.look(hasty, images)[0],
        _DRIFT: lambda: fleet.look(hasty, images)[0],
        _COMMITTED: lambda: commitments.look(hasty, images, now),
        _BILL: lambda: billing.daily(
            hasty, week.back(weeks.WEEKS - 1).monday.replace(day=1), week.end.date()
        ),
        _ANOMALIES: lambda: list(
            billing.anomalies(hasty, now.date() - timedelta(days=ANOMALY_DAYS), now.date())
        ),
    }
    asks |= {
        _MACHINES + region: partial(machines.look, hasty, region, week.begin, week.end)
        for region in images
    }
    answers = in_parallel(asks)
    return _record(week, now, answers.done, answers.causes, known)


def _record(
    week: Week,
    now: datetime,
    done: Mapping[str, Any],
    failed: Mapping[str, str],
    known: Callable[[list[tuple[str, str]]], Known],
) -> DigestRecord:
    """`done` are the answers of the parts, `failed` why one has none."""
    committed: Commitments = done[_COMMITTED]
    spent = weeks.spent(week, done[_BILL]) if _BILL in done else None
    gaps = [
        Gap(what=what, why=why, kinds=_KINDS.get(what, _OF_MACHINES))
        for what, why in failed.items()
    ]
    gaps += [
        Gap(what=what, why=why, kinds=_OF_COMMITMENTS) for what, why in committed.unknown.items()
    ]
    for part in (_BUILDS, _DRIFT):
        gaps += [
            Gap(what=f"{part} in {region}", why=why, kinds=_KINDS[part])
            for region, why in (done[part].unreachable if part in done else {}).items()
        ]
    here = known(status.pointed(done[_BUILDS]) if _BUILDS in done else [])
    gaps += here.gaps
    found = [
        *(each for what, there in done.items() if what.startswith(_MACHINES) for each in there),
        *(from_records.drift(done[_DRIFT]) if _DRIFT in done else ()),
        *(from_records.unused(done[_BUILDS], here.keep, now) if _BUILDS in done else ()),
        *from_records.ended(here.parts, now.date()),
        *from_records.vulnerable(here.cves),
        *from_records.commitments(committed, now),
        *from_records.anomalies(done.get(_ANOMALIES, [])),
        *weeks.overspent(spent or []),
    ]
    once = {each.key: each for each in reversed(worst_first(found))}
    return DigestRecord(
        week=week.name,
        since=clock.stamp(week.begin),
        until=clock.stamp(week.end),
        asked_at=clock.stamp(now),
        findings=worst_first(list(once.values())),
        gaps=gaps,
        spent=spent,
        committed=committed,
    )
