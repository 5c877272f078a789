"""Records of known vulnerabilities of a build, which `cve` writes."""

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
    """A list of vulnerabilities, by its keeper and what it covers."""

    DEBIAN = "debian"
    UBUNTU = "osv-ubuntu"
    ALPINE = "osv-alpine"
    PYPI = "osv-pypi"
    NVIDIA = "nvidia"
    KEV = "kev"
    NONE = "none"
    """no list, for parts of containers that none covers"""


class FeedStatus(Record):
    """A feed as it was read: `entries` counts its vulnerabilities, `dated` is the day of its newest
    change. If there is an `error`, it was not used.

    `known_entries` and `known_date` are those of the best data so far, with which later data is
    compared.
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
    """A vulnerability of the build. `part` is a source package, a wheel or the driver; `fix` is the
    version without it, or "".

    `exploited`: CISA lists it as used in attacks. `fails`: the rules do not let it pass. `waived`
    is the reason why it may pass all the same, or "".
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
    """Findings of all feeds. `outcome` is `unreachable` if no feed was compared, or if one could
    not be and no finding of the others stops the build.
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
