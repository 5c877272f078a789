"""What is known against a build: `cve` writes it."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from goldenami.core.records import Lax, Record, Sha256
from goldenami.model.builds.build_records import BuildId, Outcome, Utc
from goldenami.model.supported.scales import Rating

CVE_FILE = "cve.json"


class Feed(StrEnum):
    """Where vulnerabilities are read: who keeps the list, and of what."""

    DEBIAN = "debian"
    UBUNTU = "osv-ubuntu"
    ALPINE = "osv-alpine"
    PYPI = "osv-pypi"
    NVIDIA = "nvidia"
    KEV = "kev"
    NONE = "none"
    """no list: of what is in containers that none knows"""


class FeedStatus(Record):
    """A feed as it was read: `entries` are its vulnerabilities, `dated` its newest change. With an
    `error` it was not used.

    `known_entries` and `known_date` are of the best data so far: what later data is held against.
    """

    feed: Lax[Feed]
    address: str
    sha256: Sha256 | None = None
    dated: Lax[date | None] = None
    entries: Annotated[int, Field(ge=0)] = 0
    error: str = ""
    known_entries: Annotated[int, Field(ge=0)] = 0
    known_date: Lax[date | None] = None


class Vulnerability(Record):
    """One that the build has. `part` is a source package, a wheel or the driver; `fix` is the
    version that mends it.

    `exploited`: it is used in attacks, CISA says. `fails`: the rules do not let it pass; `waived`
    says why it does.
    """

    id: str
    feed: Lax[Feed]
    part: str
    version: str
    fix: str = ""
    rating: Lax[Rating] = Rating.UNKNOWN
    detail: str = ""
    exploited: bool = False
    fails: bool = False
    waived: str = ""

    @property
    def stops(self) -> bool:
        return self.fails and not self.waived


class CveRecord(Record):
    """What was found. `outcome` is `unreachable` where no list was compared, or one could not be
    and no other stops the build.
    """

    schema_version: Literal[1] = 1
    image: str
    build_id: BuildId
    lock_sha256: Sha256
    checked_at: Utc
    fail_on: Lax[Rating]
    feeds: list[FeedStatus]
    findings: list[Vulnerability]
    warnings: list[str]
    outcome: Lax[Outcome]

    @model_validator(mode="after")
    def _outcome_is_earned(self) -> Self:
        if self.outcome is Outcome.CORRECT and (
            not self.feeds
            or any(feed.error for feed in self.feeds)
            or any(finding.stops for finding in self.findings)
        ):
            raise ValueError(
                "outcome is correct, but a finding stops the build or a feed was not read"
            )
        return self
