"""The digest of a week: findings of every part of goldenami about the account.

If one part cannot be read, the digest has a gap with the cause, and reports the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal

from goldenami.aws.pricing import billing
from goldenami.aws.regions import in_parallel
from goldenami.aws.session import Account
from goldenami.core import clock, records
from goldenami.core.records import Record
from goldenami.model.builds.build_records import Utc
from goldenami.model.builds.security_records import CveRecord
from goldenami.model.supported.hardware import Family
from goldenami.model.supported.support import PartSupport
from goldenami.release.retire import status

from goldenami_fleet.costs import commitments, gpu_hours
from goldenami_fleet.costs.commitments import Commitments
from goldenami_fleet.costs.gpu_hours import GpuHours
from goldenami_fleet.digest import from_records, machines, weeks
from goldenami_fleet.digest.findings import DigestFinding, Gap, Kind, worst_first
from goldenami_fleet.digest.weeks import Week, WeekSpent
from goldenami_fleet.drift import fleet

DIGEST_FILE, FOLDER = "digest.json", "digest"
ANOMALY_DAYS = 30
"""Days of unusual costs that are read: AWS may report one days after it began."""
_BILL, _ANOMALIES, _COMMITTED = "spending", "unusual costs", "commitments"
_BUILDS, _DRIFT, _MACHINES, _GPUS = "builds", "drift", "machines in ", "GPU-hours"
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
class LocalRecords:
    """What local records say about the builds that pointers name, by image: the support of parts,
    and vulnerabilities. `gaps` are builds without such a record. `keep` is how many of the newest
    builds each image's definition keeps."""

    keep: dict[str, int]
    parts: dict[str, list[PartSupport]]
    cves: dict[str, list[CveRecord]]
    gaps: list[Gap]


class DigestRecord(Record):
    """The findings of one week, the worst first. `spent` are the billed weeks, the oldest first, or
    None if the bill is unknown."""

    schema_version: Literal[3] = 3
    week: str
    since: Utc
    until: Utc
    asked_at: Utc
    findings: list[DigestFinding]
    gaps: list[Gap]
    spent: list[WeekSpent] | None
    committed: Commitments
    gpu_hours: GpuHours


def path_of(site: Path, week: str) -> Path:
    """Path of a week's record in the site's folder."""
    return site / FOLDER / week / DIGEST_FILE


def newest(site: Path) -> DigestRecord | None:
    """The digest of the last week in the site, or None if it has none."""
    last = max(site.glob(f"{FOLDER}/*/{DIGEST_FILE}"), default=None)
    return records.read_if_whole(last, DigestRecord) if last else None


def read_week(
    account: Account,
    images: Mapping[str, list[str]],
    read_local_records: Callable[[list[tuple[str, str]]], LocalRecords],
    families: Mapping[str, Family],
) -> DigestRecord:
    """Return the digest of the last whole week. `images` has the names by region;
    `read_local_records` is called with the image and build of each pointer."""
    now, quick_account = clock.now(), account.with_short_timeouts()
    week = Week.before(now)
    questions: dict[str, Callable[[], Any]] = {
        _BUILDS: lambda: status.read_status(quick_account, images)[0],
        _DRIFT: lambda: fleet.read_fleet(quick_account, images)[0],
        _GPUS: lambda: gpu_hours.read(quick_account, families, images, gpu_hours.YEAR),
        _COMMITTED: lambda: commitments.read_commitments(quick_account, images, now),
        # From a 1st on: monthly fees are billed on a 1st and are spread over its whole month.
        _BILL: lambda: billing.daily(
            quick_account, week.back(weeks.WEEKS - 1).monday.replace(day=1), week.end.date()
        ),
        _ANOMALIES: lambda: list(
            billing.anomalies(quick_account, now.date() - timedelta(days=ANOMALY_DAYS), now.date())
        ),
    }
    questions |= {
        _MACHINES + region: partial(
            machines.machine_findings, quick_account, region, week.begin, week.end
        )
        for region in images
    }
    answers = in_parallel(questions)
    return _record(week, now, answers.done, answers.causes, read_local_records)


def _record(
    week: Week,
    now: datetime,
    answers: Mapping[str, Any],
    causes: Mapping[str, str],
    read_local_records: Callable[[list[tuple[str, str]]], LocalRecords],
) -> DigestRecord:
    """Build the record. `answers` has the answer of each part, `causes` the cause of each part
    without an answer."""
    weeks_spent = weeks.spent(week, answers[_BILL]) if _BILL in answers else None
    builds = status.pointed(answers[_BUILDS]) if _BUILDS in answers else []
    local_records = read_local_records(builds)
    findings = _findings(answers, local_records, weeks_spent or [], now)
    # Reversed, so that of two findings with one key the worse is kept.
    by_key = {finding.key: finding for finding in reversed(worst_first(findings))}
    return DigestRecord(
        week=week.name,
        since=clock.stamp(week.begin),
        until=clock.stamp(week.end),
        asked_at=clock.stamp(now),
        findings=worst_first(list(by_key.values())),
        gaps=[*_gaps(answers, causes), *local_records.gaps],
        spent=weeks_spent,
        committed=answers[_COMMITTED],
        gpu_hours=answers[_GPUS],
    )


def _gaps(answers: Mapping[str, Any], causes: Mapping[str, str]) -> Iterator[Gap]:
    for part_name, cause in causes.items():
        yield Gap(what=part_name, why=cause, kinds=_KINDS.get(part_name, _OF_MACHINES))
    # Both are always answered: they collect their failures in `unknown`.
    for part, kinds in ((_COMMITTED, _OF_COMMITMENTS), (_GPUS, [])):
        for part_name, cause in answers[part].unknown.items():
            yield Gap(what=part_name, why=cause, kinds=kinds)
    for part in (_BUILDS, _DRIFT):
        if part in answers:
            for region, cause in answers[part].unreachable.items():
                yield Gap(what=f"{part} in {region}", why=cause, kinds=_KINDS[part])


def _findings(
    answers: Mapping[str, Any],
    local_records: LocalRecords,
    weeks_spent: list[WeekSpent],
    now: datetime,
) -> list[DigestFinding]:
    findings = list[DigestFinding]()
    for part, machine_findings in answers.items():
        if part.startswith(_MACHINES):
            findings += machine_findings
    if _DRIFT in answers:
        findings += from_records.drift(answers[_DRIFT])
    if _BUILDS in answers:
        findings += from_records.unused(answers[_BUILDS], local_records.keep, now)
    findings += from_records.ended(local_records.parts, now.date())
    findings += from_records.vulnerable(local_records.cves)
    findings += from_records.commitments(answers[_COMMITTED], now)
    findings += from_records.anomalies(answers.get(_ANOMALIES, []))
    findings += weeks.overspent(weeks_spent)
    return findings
