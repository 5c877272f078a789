"""Findings from the records of other commands. Pure."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta

from goldenami.aws.pricing.billing import Commitment, CostAnomaly
from goldenami.core import units
from goldenami.model.builds.security_records import CveRecord, Vulnerability
from goldenami.model.supported.scales import Rating
from goldenami.model.supported.support import PartSupport, SupportState
from goldenami.release.retire.status import StatusRecord

from goldenami_fleet.costs.commitments import Commitments, saved
from goldenami_fleet.digest.findings import WEEKS_OF_MONTH, DigestFinding, Kind
from goldenami_fleet.drift.fleet_records import FleetDrift, FleetRecord, GroupRow

UNUSED_DAYS = 30
"""Age in days from which an unused build is reported; a younger one may be on its way."""
ENDS_DAYS = (7, 30, 90)
"""Days before a commitment's end at which it is reported, once each."""
REVIEW_DAYS = (30, 60)
"""Days after a commitment's start between which its first month counts as just over."""
USED_PERCENT = 80.0
"""Percent of use below which commitments are reported, as are those that save nothing."""
MOST_IDS = 3
"""How many vulnerabilities of a package are named, the newest first."""
_BY_BUILD = frozenset({FleetDrift.OTHER, FleetDrift.VERSION})
"""Kinds of drift that many machines have after each release: reported once for each image."""


def drift(record: FleetRecord) -> Iterator[DigestFinding]:
    """Yield each machine that is foreign or changed, and for each image how many machines do not
    run `latest`."""
    behind = defaultdict[tuple[str, str, str], set[str]](set)
    for region, fleet, row, difference in record.rows():
        name = f"group {row.name}" if isinstance(row, GroupRow) else row.id
        if difference.kind in _BY_BUILD:
            behind[region, fleet.image, fleet.latest].add(name)
            continue
        todo = "find out who did it"
        if difference.kind is not FleetDrift.AMI:
            todo = f"replace {name}: `golden drift {fleet.image}` says how; or {todo}"
        yield DigestFinding(
            kind=Kind.DRIFT,
            subject=f"{region} {name}",
            stage=difference.kind.value,
            what=f"{fleet.image}: {difference.kind.value}: {difference.what}",
            todo=todo,
        )
    for (region, image, latest), names in sorted(behind.items()):
        yield DigestFinding(
            kind=Kind.DRIFT,
            subject=f"{region} {image}",
            stage=f"behind {latest}",
            what=f"{len(names)} machines or groups run or launch another build than `latest`, "
            f"{latest}",
            todo=f"`golden drift {image}` names them",
        )


def unused(record: StatusRecord, keep: Mapping[str, int], now: datetime) -> Iterator[DigestFinding]:
    """Yield builds that no pointer names and no machine runs in any region, a month after they were
    made. The newest ones that a definition keeps (`keep`, by image) are left out."""
    # By build, not by AMI: a build that is used in one region is kept in all.
    used, usd_by_build = (
        set[tuple[str, str]](),
        defaultdict[tuple[str, str], list[float | None]](list),
    )
    for image in (image for images in record.regions.values() for image in images):
        for pointer in (image.latest, image.candidate, image.template):
            if pointer:
                used.add((image.image, pointer.build_id))
        for number, ami in enumerate(image.amis):
            is_used = ami.instances or number < keep.get(image.image, 0)
            if is_used or now - datetime.fromisoformat(ami.created) < timedelta(days=UNUSED_DAYS):
                used.add((image.image, ami.build_id))
            usd_by_build[image.image, ami.build_id].append(ami.usd_month)
    for name, build_id in sorted(usd_by_build.keys() - used):
        usd_months = usd_by_build[name, build_id]
        month = units.total(usd_months)
        yield DigestFinding(
            kind=Kind.UNUSED,
            subject=f"{name} {build_id}",
            what=f"{len(usd_months)} AMIs, no machine and no pointer",
            todo=f"`golden retire {name} --dry-run` says when it goes",
            usd_week=None if month is None else round(month / WEEKS_OF_MONTH, 2),
        )


def ended(parts: Mapping[str, list[PartSupport]], day: date) -> Iterator[DigestFinding]:
    """Yield the parts of images whose support has ended or ends soon."""
    for image, image_parts in parts.items():
        for part in image_parts:
            state = part.state(day)
            if state in (SupportState.ENDED, SupportState.ENDING):
                yield DigestFinding(
                    kind=Kind.ENDED,
                    subject=f"{image} {part.part} {part.branch}",
                    stage=state.value,
                    what=f"{part.part} {part.version} {part.words(day)}",
                    todo=f"move {image} to another branch ({part.source})",
                )


def vulnerable(records: Mapping[str, list[CveRecord]]) -> Iterator[DigestFinding]:
    """Yield a finding for each package and fix: vulnerabilities that are rated high, are used in
    attacks, or stop the image by its own rule."""
    groups = defaultdict[tuple[str, str, str], list[Vulnerability]](list)
    for image, cve_records in records.items():
        for record in cve_records:
            for known in record.findings:
                is_reported = known.exploited or known.stops or known.rating.at_least(Rating.HIGH)
                if is_reported and not known.waived:
                    groups[image, known.part, known.fix].append(known)
    for key, vulnerabilities in groups.items():
        yield _package_finding(*key, vulnerabilities)


def _package_finding(
    image: str, part: str, fix: str, vulnerabilities: list[Vulnerability]
) -> DigestFinding:
    """Describe one package. A newer vulnerability, or one that is now used in attacks, gives a new
    stage."""
    ids = sorted({known.id for known in vulnerabilities}, key=_age_key)
    attacks = sorted({known.id for known in vulnerabilities if known.exploited}, key=_age_key)
    # Rating is a StrEnum, whose members compare as strings: its order of definition counts.
    worst_rating = max((known.rating for known in vulnerabilities), key=list(Rating).index)
    severity, remedy = worst_rating.value, "nothing mends this yet"
    if attacks:
        severity += f"; used in attacks: {units.some(attacks[::-1], MOST_IDS)}"
    todo = "waive it with a reason and a date, or take the package out"
    if fix:
        remedy = f"{fix} mends this"
        todo = "`golden watch --update` takes what mends it; or waive it with a reason"
    return DigestFinding(
        kind=Kind.VULNERABLE,
        subject=f"{image} {part}",
        stage=" ".join([fix, ids[-1], *attacks[-1:]]),
        what=f"{part} {', '.join(sorted({known.version for known in vulnerabilities}))}: "
        f"{units.some(ids[::-1], MOST_IDS)}, {severity}; {remedy}",
        todo=todo,
    )


def _age_key(identifier: str) -> tuple[list[int], str]:
    """Sort key of a vulnerability: `CVE-2026-10000` is newer than `CVE-2026-9999`."""
    return [int(number) for number in re.findall(r"\d+", identifier)], identifier


def anomalies(cost_anomalies: list[CostAnomaly]) -> Iterator[DigestFinding]:
    """Yield the anomalies that AWS's monitors found. Their dollars cover all their days, so
    `usd_week` is None."""
    for anomaly in cost_anomalies:
        yield DigestFinding(
            kind=Kind.ANOMALY,
            subject=anomaly.id,
            what=f"{units.dollars(anomaly.usd)} more than expected since {anomaly.begins}: "
            f"{anomaly.cause}",
            todo="look at it in the console, Cost Anomaly Detection",
        )


def commitments(account_commitments: Commitments, now: datetime) -> Iterator[DigestFinding]:
    """Yield the commitments that end, those whose first month is over, and kinds that are paid for
    but not used."""
    for commitment in account_commitments.held:
        yield from _ending(commitment, now)
        age = now - datetime.fromisoformat(commitment.begins)
        first, last = map(timedelta, REVIEW_DAYS)
        if first <= age < last:
            used = "used to a part that is not known"
            if use := account_commitments.utilization.get(commitment.kind):
                used = f"used to {use.percent:.0f} %; {saved(use)}"
            yield DigestFinding(
                kind=Kind.REVIEW,
                subject=commitment.id,
                what=f"{commitment.kind} ({commitment.what}): its first month is over; "
                f"all {commitment.kind}s are {used}",
                todo="nearly all used: buy more of it; else leave it there",
            )
    counts = Counter(commitment.kind for commitment in account_commitments.held)
    for kind, use in account_commitments.utilization.items():
        if (use.percent < USED_PERCENT or (use.saved_usd or 0) < 0) and counts[kind]:
            covered = "a part of the need that is not known"
            if (percent := account_commitments.coverage.get(kind)) is not None:
                covered = f"{percent:.0f} % of the need"
            yield DigestFinding(
                kind=Kind.UNUSED_COMMITMENT,
                subject=f"{kind}s",
                owner="",
                what=f"used to {use.percent:.0f} % in the last 30 days; they cover {covered}; "
                f"{saved(use)}",
                todo="run what they are for, exchange a convertible one, and buy no more",
            )


def _ending(commitment: Commitment, now: datetime) -> Iterator[DigestFinding]:
    left = datetime.fromisoformat(commitment.ends) - now
    # Each period gives a stage of its own, so each is reported once.
    days = next((days for days in ENDS_DAYS if left <= timedelta(days=days)), None)
    if days is not None:
        yield DigestFinding(
            kind=Kind.ENDING,
            subject=commitment.id,
            stage=f"within {days} days",
            what=f"{commitment.kind} ({commitment.what}) ends on {commitment.ends[:10]}, "
            f"in {left.days} days",
            todo="then its machines cost the price on demand: buy again, or let it end",
        )
