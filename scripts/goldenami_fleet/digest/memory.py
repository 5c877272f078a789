"""What digests have reported, in an item beside the leases of the home region.

It is written after every channel took the message. A run that is killed before, or that a channel
refuses, leaves it as it was, so the next run sends the same news to all channels.
"""

from __future__ import annotations

import base64
import contextlib
import zlib
from typing import Annotated

from goldenami.aws.channels.lease import note, read_attribute, read_lease
from goldenami.aws.session import Account, translated
from goldenami.core.records import Record, SharedRecord
from pydantic import Field

from goldenami_fleet.digest.digest import DigestRecord
from goldenami_fleet.digest.findings import DigestFinding, Kind, worst_first

ITEM = "golden:digest"
"""Key of the item in the table of leases; no image has such a name."""


class Told(SharedRecord):
    """What was reported. `week` is the last reported week, `billed` the last week whose bill could
    be read. `keys` are the reported findings that remain, with the week in which each was
    reported."""

    schema_version: Annotated[int, Field(ge=1)] = 1
    week: str = ""
    billed: str = ""
    keys: dict[str, str] = Field(default_factory=dict)


class News(Record):
    """The findings of a digest: new ones, ones that were reported before, and `settled` subjects
    that are no longer found."""

    new: list[DigestFinding]
    standing: list[DigestFinding]
    settled: list[str]


def news(told: Told, record: DigestRecord) -> News:
    """Sort the digest's findings by whether they were reported. A finding of a part that could not
    be read is never settled."""
    findings = [finding for finding in record.findings if _is_reportable(finding, told, record)]
    new, standing = list[DigestFinding](), list[DigestFinding]()
    for finding in worst_first(findings):
        if finding.key in told.keys:
            standing.append(finding)
        else:
            new.append(finding)
    unseen_kinds = _unseen_kinds(record)
    subjects = {_subject(finding.key) for finding in findings}
    lasting = {kind.value for kind in Kind if not kind.is_event}
    settled = {_subject(key) for key in told.keys} - subjects
    return News(
        new=new,
        standing=standing,
        settled=sorted(
            f"{kind}: {subject}" for kind, subject in settled if kind in lasting - unseen_kinds
        ),
    )


def _is_reportable(finding: DigestFinding, told: Told, record: DigestRecord) -> bool:
    # Overspending in a week before the first digest, or whose bill was read before, is no news.
    return (
        finding.kind is not Kind.OVERSPENT
        or finding.stage == record.week
        or "" < told.billed < finding.stage
    )


def _subject(key: str) -> tuple[str, str]:
    kind, subject, _ = key.split("|", 2)
    return kind, subject


def _unseen_kinds(record: DigestRecord) -> set[str]:
    return {kind.value for gap in record.gaps for kind in gap.kinds}


def after(told: Told, record: DigestRecord, reported: News) -> Told:
    """Return the state after a message with the findings of `reported`. A finding that went away
    counts as new if it returns."""
    unseen_kinds = _unseen_kinds(record)
    kept = {key: since for key, since in told.keys.items() if key.partition("|")[0] in unseen_kinds}
    for finding in reported.standing:
        kept[finding.key] = told.keys[finding.key]
    for finding in reported.new:
        kept[finding.key] = record.week
    billed = told.billed if record.spent is None else max(record.week, told.billed)
    return told.model_copy(
        update={"week": max(record.week, told.week), "billed": billed, "keys": kept}
    )


def remembered(account: Account, region: str) -> Told:
    """Return what was reported. Raises BadInput if the notes are damaged."""
    dynamodb = account.dynamodb(region)
    with translated(region):
        notes = read_lease(dynamodb, ITEM).notes
    json_text = notes or "{}"
    with contextlib.suppress(ValueError, zlib.error):
        json_text = zlib.decompress(base64.b85decode(notes)).decode()
    return read_attribute(dynamodb, ITEM, "notes", json_text, Told)


def remember(account: Account, region: str, told: Told) -> None:
    """Write what was reported. Keys are alike, and compressing leaves an eighth of their bytes:
    DynamoDB takes 400 KB an item ("Service, account, and table quotas")."""
    notes = base64.b85encode(zlib.compress(told.model_dump_json().encode())).decode()
    with translated(region):
        note(account.dynamodb(region), ITEM, notes)
