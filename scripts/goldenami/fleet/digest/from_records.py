"""What the records of other commands hold that wants a decision. Pure."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta

from goldenami.aws.pricing.billing import Commitment, CostAnomaly
from goldenami.core import units
from goldenami.fleet.costs.commitments import Commitments
from goldenami.fleet.digest.findings import WEEKS_OF_MONTH, DigestFinding, Kind
from goldenami.fleet.drift.fleet_records import FleetDrift, FleetRecord, GroupRow
from goldenami.model.builds.security_records import CveRecord, Vulnerability
from goldenami.model.supported.scales import Rating
from goldenami.model.supported.support import PartSupport, SupportState
from goldenami.release.retire.status import StatusRecord

UNUSED_DAYS = 30
"""Days after which a build that nobody runs is told of: before, it may be on its way."""
ENDS_DAYS = (7, 30, 90)
"""Days before a commitment's end at which it is told of, once each."""
REVIEW_DAYS = (30, 60)
"""Days after a commitment's begin between which its first month is over and just over."""
USED_PERCENT = 80.0
"""Use below which a commitment is told of."""
MOST_IDS = 3
"""Vulnerabilities of a package that are named, the newest first."""
_BY_BUILD = frozenset({FleetDrift.OTHER, FleetDrift.VERSION})
"""Drift of many machines at once, after each release: told together."""


def drift(record: FleetRecord) -> Iterator[DigestFinding]:
    """Each machine that is not ours or not as it was, and per image how many wait for `latest`."""
    behind = defaultdict[tuple[str, str, str], set[str]](set)
    for region, fleet, row, one in record.rows():
        name = f"group {row.name}" if isinstance(row, GroupRow) else row.id
        if one.kind in _BY_BUILD:
            behind[region, fleet.image, fleet.latest].add(name)
            continue
        yield DigestFinding(
            kind=Kind.DRIFT,
            subject=f"{region} {name}",
            stage=one.kind.value,
            what=f"{fleet.image}: {one.kind.value}: {one.what}",
            todo="find out who did it"
            if one.kind is FleetDrift.AMI
            else f"replace {name}: `golden drift {fleet.image}` says how; or find out who did it",
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
    """Builds that no pointer names and no machine runs, in no region, a month after they came;
    without the newest, of which the definitions `keep` some."""
    rows = [
        (image, ami) for there in record.regions.values() for image in there for ami in image.amis
    ]
    used = {
        (image.image, ami.build_id)
        for image, ami in rows
        if ami.instances
        or ami in image.amis[: keep.get(image.image, 0)]
        or now - datetime.fromisoformat(ami.created) < timedelta(days=UNUSED_DAYS)
    }
    used |= {
        (image.image, pointer.build_id)
        for there in record.regions.values()
        for image in there
        for pointer in (image.latest, image.candidate, image.template)
        if pointer
    }
    idle = defaultdict[tuple[str, str], list[float | None]](list)
    for image, ami in rows:
        if (image.image, ami.build_id) not in used:
            idle[image.image, ami.build_id].append(ami.usd_month)
    for (name, build_id), usd in sorted(idle.items()):
        month = units.total(usd)
        yield DigestFinding(
            kind=Kind.UNUSED,
            subject=f"{name} {build_id}",
            what=f"{len(usd)} AMIs, no machine and no pointer",
            todo=f"`golden retire {name} --dry-run` says when it goes",
            usd_week=None if month is None else round(month / WEEKS_OF_MONTH, 2),
        )


def ended(parts: Mapping[str, list[PartSupport]], day: date) -> Iterator[DigestFinding]:
    """Parts of images whose support has ended or ends soon, by image."""
    for image, each in parts.items():
        for part in each:
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
    """What is known against the builds of each image, of high rating, used in attacks, or by the
    image's own rule: one finding for each package and remedy."""
    groups = defaultdict[tuple[str, str, str], list[Vulnerability]](list)
    for image, known in records.items():
        for one in (each for record in known for each in record.findings):
            is_told = one.exploited or one.stops or one.rating.at_least(Rating.HIGH)
            if is_told and not one.waived:
                groups[image, one.part, one.fix].append(one)
    return (_of_package(*key, found) for key, found in groups.items())


def _of_package(image: str, part: str, fix: str, found: list[Vulnerability]) -> DigestFinding:
    """A newer vulnerability, or one that begins to be used in attacks, is a state of its own."""
    attacks, ids = (
        sorted({one.id for one in found if one.exploited or not only}, key=_age)
        for only in (True, False)
    )
    worst = max((one.rating for one in found), key=list(Rating).index)
    used = f"; used in attacks: {units.some(attacks[::-1], MOST_IDS)}" if attacks else ""
    return DigestFinding(
        kind=Kind.VULNERABLE,
        subject=f"{image} {part}",
        stage=" ".join([fix, ids[-1], *attacks[-1:]]),
        what=f"{part} {', '.join(sorted({one.version for one in found}))}: "
        f"{units.some(ids[::-1], MOST_IDS)}, {worst.value}{used}; "
        + (f"{fix} mends this" if fix else "nothing mends this yet"),
        todo="`golden watch --update` takes what mends it; or waive it with a reason"
        if fix
        else "waive it with a reason and a date, or take the package out",
    )


def _age(name: str) -> tuple[list[int], str]:
    """`CVE-2026-10000` is newer than `CVE-2026-9999`."""
    return [int(number) for number in re.findall(r"\d+", name)], name


def anomalies(found: list[CostAnomaly]) -> Iterator[DigestFinding]:
    """What AWS's monitors say; the dollars are of all its days, so they are none of a week."""
    for one in found:
        yield DigestFinding(
            kind=Kind.ANOMALY,
            subject=one.id,
            what=f"{units.dollars(one.usd)} more than expected since {one.begins}: {one.cause}",
            todo="look at it in the console, Cost Anomaly Detection",
        )


def commitments(found: Commitments, now: datetime) -> Iterator[DigestFinding]:
    """What ends, whose first month is over, and what is paid for and not used."""
    for each in found.held:
        yield from _ends(each, now)
        age = now - datetime.fromisoformat(each.begins)
        first, last = (timedelta(days=days) for days in REVIEW_DAYS)
        if first <= age < last:
            used = found.utilization.get(each.kind)
            yield DigestFinding(
                kind=Kind.REVIEW,
                subject=each.id,
                what=f"{each.kind} ({each.what}): its first month is over; all {each.kind}s are "
                + ("used to a part that is not known" if used is None else f"used to {used:.0f} %"),
                todo="nearly all used: buy more of it; else leave it there",
            )
    counts = Counter(each.kind for each in found.held)
    for kind, used in found.utilization.items():
        if used < USED_PERCENT and counts[kind]:
            yield DigestFinding(
                kind=Kind.UNUSED_COMMITMENT,
                subject=f"{kind}s",
                owner="",
                what=f"used to {used:.0f} % in the last 30 days; they cover "
                f"{found.coverage.get(kind, 0.0):.0f} % of the need",
                todo="run what they are for, exchange a convertible one, and buy no more",
            )


def _ends(each: Commitment, now: datetime) -> Iterator[DigestFinding]:
    left = datetime.fromisoformat(each.ends) - now
    days = next((days for days in ENDS_DAYS if left <= timedelta(days=days)), None)
    if days is not None:
        yield DigestFinding(
            kind=Kind.ENDING,
            subject=each.id,
            stage=f"within {days} days",
            what=f"{each.kind} ({each.what}) ends on {each.ends[:10]}, in {left.days} days",
            todo="then its machines cost the price on demand: buy again, or let it end",
        )
