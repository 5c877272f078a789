"""The public lists of vulnerabilities, believed only where they are whole: a scanner that finds
nothing in half a list says that all is well."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from goldenami.core import clock
from goldenami.core.errors import GoldenError, Unreachable
from goldenami.model.builds.security_records import Feed, FeedStatus
from goldenami.packages import http_documents
from goldenami.packages.http_documents import Document

LIMIT = 1 << 29
"""Bytes that a list may have: Debian's was 84 MiB in 2026-11, OSV's of Ubuntu more."""
DEADLINE_S = 900.0
SHRUNK = 0.8
"""Lists grow. One with fewer than this share of the entries of the last one is half of one."""


@dataclass(frozen=True)
class Place:
    """Where a feed is, and how old its newest entry may be, in days."""

    address: str
    days: int


_OSV = "https://osv-vulnerabilities.storage.googleapis.com"
PLACES = {
    Feed.DEBIAN: Place("https://security-tracker.debian.org/tracker/data/json", 3),
    Feed.UBUNTU: Place(f"{_OSV}/Ubuntu/all.zip", 7),
    Feed.ALPINE: Place(f"{_OSV}/Alpine/all.zip", 7),
    Feed.PYPI: Place(f"{_OSV}/PyPI/all.zip", 7),
    Feed.NVIDIA: Place(
        "https://github.com/NVIDIA/product-security/archive/refs/heads/main.zip", 150
    ),
    Feed.KEV: Place(
        "https://www.cisa.gov/sites/default/files/feeds/known_exploited_vulnerabilities.json", 45
    ),
}
"""Debian's list changes several times a day, OSV's daily; NVIDIA's bulletins are quarterly, CISA
adds some a month."""


@dataclass(frozen=True)
class FeedPlaces:
    """Where this run takes feeds from, and the SHA-256 that their data has to have, if any."""

    places: Mapping[Feed, str]
    digests: Mapping[Feed, str]
    _read: dict[str, Document | Unreachable] = field(
        default_factory=dict, repr=False, compare=False
    )

    def document(self, address: str) -> Document:
        if address not in self._read:
            try:
                self._read[address] = http_documents.read(
                    address, limit=LIMIT, deadline_s=DEADLINE_S
                )
            except Unreachable as error:
                # Who does not answer for one image need not be waited for again.
                self._read[address] = error
        found = self._read[address]
        if isinstance(found, Unreachable):
            raise found
        return found


@dataclass(frozen=True)
class FeedData:
    """What a list says: its number of entries, the day of its newest change, what was looked
    for."""

    entries: int
    changed: datetime.date | None
    found: Any


Parser = Callable[[bytes], FeedData]


def read(
    feed: Feed, wanted: FeedPlaces, before: FeedStatus | None, parse: Parser
) -> tuple[FeedStatus, Any]:
    """The status of a feed, with what `parse` found in it; None where the data is not believed.

    `before` is its status in the newest record.
    """
    address = wanted.places.get(feed, PLACES[feed].address)
    status = FeedStatus(
        feed=feed,
        address=address,
        known_entries=before.known_entries if before else 0,
        known_date=before.known_date if before else None,
    )
    try:
        document = wanted.document(address)
        digest = document.sha256
        status = status.model_copy(update={"sha256": digest})
        if wanted.digests.get(feed, digest) != digest:
            raise Unreachable(f"has SHA-256 {digest[:12]}, not {wanted.digests[feed][:12]}")
        data = parse(document.data)
        # A server that says nothing answers for now.
        changed = data.changed or document.changed or clock.now().date()
        status = status.model_copy(update={"entries": data.entries, "dated": changed})
        _hold_against(status, PLACES[feed].days)
    except GoldenError as error:
        return status.model_copy(update={"error": error.message}), None
    return status.model_copy(
        update={"known_entries": data.entries, "known_date": changed}
    ), data.found


def _hold_against(status: FeedStatus, days: int) -> None:
    today = clock.now().date()
    if not status.entries:
        raise Unreachable("has no entries")
    assert status.dated is not None
    if (today - status.dated).days > days:
        raise Unreachable(
            f"is stale: its newest entry is of {status.dated}, more than {days} days ago"
        )
    if status.known_date and status.dated < status.known_date:
        raise Unreachable(
            f"goes backwards: it is of {status.dated}, the last one of {status.known_date}"
        )
    if status.entries < SHRUNK * status.known_entries:
        raise Unreachable(
            f"has shrunk: {status.entries} entries, the last one had {status.known_entries}"
        )


def exploited(data: bytes) -> FeedData:
    """The identifiers in CISA's catalogue of vulnerabilities that are used in attacks."""
    try:
        catalogue = json.loads(data)
        found = frozenset(str(entry["cveID"]) for entry in catalogue["vulnerabilities"])
        changed = datetime.datetime.fromisoformat(catalogue["dateReleased"]).date()
        stated = int(catalogue["count"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise Unreachable(f"is no catalogue of CISA's: {error!r}") from None
    if stated != len(found):
        raise Unreachable(f"states {stated} entries and has {len(found)}")
    return FeedData(len(found), changed, found)
