"""The public lists of vulnerabilities, used only if they are whole: with half a list a scanner
finds nothing and says that all is well."""

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
"""Most bytes of a list: Debian's had 84 MiB in 2026-11, OSV's of Ubuntu more."""
DEADLINE_S = 900.0
SHRUNK = 0.8
"""Least share of the earlier number of entries. Lists grow, so one with fewer is incomplete."""


@dataclass(frozen=True)
class Place:
    """A feed's address, and the most days that its newest entry may be old."""

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
    """The addresses that this run uses instead of PLACES, and the SHA-256 that data must have, by
    feed; both may be empty."""

    places: Mapping[Feed, str]
    digests: Mapping[Feed, str]
    # Each address is read once for all images of a run.
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
                # A server that did not answer for one image is not waited for again.
                self._read[address] = error
        answer = self._read[address]
        if isinstance(answer, Unreachable):
            raise answer
        return answer


@dataclass(frozen=True)
class FeedData:
    """The content of a list: its number of entries, the day of its newest change (None if it has
    none), and what the parser looked for."""

    entries: int
    changed: datetime.date | None
    found: Any


Parser = Callable[[bytes], FeedData]


def read(
    feed: Feed, feed_places: FeedPlaces, before: FeedStatus | None, parse: Parser
) -> tuple[FeedStatus, Any]:
    """The status of a feed, with what `parse` found in it, or None if the data is not believed.

    `before` is its status in the newest record, or None.
    """
    address = feed_places.places.get(feed, PLACES[feed].address)
    status = FeedStatus(
        feed=feed,
        address=address,
        known_entries=before.known_entries if before else 0,
        known_date=before.known_date if before else None,
    )
    try:
        document = feed_places.document(address)
        digest = document.sha256
        status = status.model_copy(update={"sha256": digest})
        if feed_places.digests.get(feed, digest) != digest:
            raise Unreachable(f"has SHA-256 {digest[:12]}, not {feed_places.digests[feed][:12]}")
        data = parse(document.data)
        # Data without any date is taken as today's.
        changed = data.changed or document.changed or clock.now().date()
        status = status.model_copy(update={"entries": data.entries, "dated": changed})
        _hold_against(status, PLACES[feed].days)
    except GoldenError as error:
        return status.model_copy(update={"error": error.message}), None
    return status.model_copy(
        update={"known_entries": data.entries, "known_date": changed}
    ), data.found


def _hold_against(status: FeedStatus, days: int) -> None:
    """Raise Unreachable if the list is empty or stale, or older or much shorter than the best one
    so far."""
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
        identifiers = frozenset(str(entry["cveID"]) for entry in catalogue["vulnerabilities"])
        changed = datetime.datetime.fromisoformat(catalogue["dateReleased"]).date()
        stated_count = int(catalogue["count"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise Unreachable(f"is no catalogue of CISA's: {error!r}") from None
    if stated_count != len(identifiers):
        raise Unreachable(f"states {stated_count} entries and has {len(identifiers)}")
    return FeedData(len(identifiers), changed, identifiers)
