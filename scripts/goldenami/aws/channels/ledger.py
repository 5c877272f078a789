"""The ledger of an image in a region: the builds that each channel names and named before. The
region's pointers follow it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field

from goldenami.core import records
from goldenami.core.records import SharedRecord
from goldenami.model.builds.build_records import BuildId, Utc

HISTORY = 20
"""Former builds of `latest` that are kept: more than anybody rolls back."""


class Channel(StrEnum):
    """The pointers that move, by the last part of their parameter:
    `/golden-ami/<image>/<channel>`."""

    CANDIDATE = "candidate"
    LATEST = "latest"


class GpuProof(StrEnum):
    """Whether a build is proven on a GPU."""

    NONE = "the image has no GPU"
    TESTED = "tested on a GPU"
    UNTESTED = "not tested on a GPU"
    ACCEPTED = "not tested on a GPU, accepted"

    @classmethod
    def _missing_(cls, value: object) -> GpuProof | None:
        """Keep an unknown value, written by a newer goldenami, as a member of its own."""
        if not isinstance(value, str):
            return None
        word = str.__new__(cls, value)
        word._name_ = word._value_ = value
        return word


class LedgerEntry(SharedRecord):
    """The build that a channel names. `fence` is the number of the lease that moved it."""

    build_id: BuildId
    ami: str
    baked_at: Utc
    since: Utc
    by: str
    fence: int
    gpu: Annotated[GpuProof, Field(strict=False)]

    @property
    def baked(self) -> datetime:
        return datetime.fromisoformat(self.baked_at)


class Ledger(SharedRecord):
    """The channels of one image in one region. `history` holds former builds of `latest`, newest
    last.

    `withdrawn` are builds that a rollback took back; no publish or promotion brings them in again
    unasked. A build that one region withdrew counts as withdrawn in all, since another may have
    been down when that happened. `regions` are all to which the image was ever published.
    """

    schema_version: Annotated[int, Field(ge=1)] = 1
    candidate: LedgerEntry | None = None
    latest: LedgerEntry | None = None
    history: tuple[LedgerEntry, ...] = ()
    withdrawn: tuple[BuildId, ...] = ()
    regions: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """The ledger's SHA-256, by which a plan knows whether it was made from this ledger."""
        return records.sha256_text(self.model_dump_json())

    def of(self, channel: Channel) -> LedgerEntry | None:
        return self.candidate if channel is Channel.CANDIDATE else self.latest

    def moved(self, channel: Channel, entry: LedgerEntry) -> Self:
        """Return the ledger in which `channel` names `entry`, with the former `latest` in the
        history. If `channel` names the same build and AMI already, its entry stays as it is."""
        before = self.of(channel)
        # A repeated publish keeps the time since which the channel names the build: the soak counts
        # from it.
        if before and (before.build_id, before.ami) == (entry.build_id, entry.ami):
            return self
        history = self.history
        if channel is Channel.LATEST:
            # A build that becomes `latest` again leaves the history.
            earlier = [old for old in (*history, before) if old and old.build_id != entry.build_id]
            history = tuple(earlier[-HISTORY:])
        return self.model_copy(update={channel.value: entry, "history": history})

    def previous(self) -> LedgerEntry | None:
        """The newest former build of `latest` that is not withdrawn, or None."""
        return next(
            (entry for entry in reversed(self.history) if entry.build_id not in self.withdrawn),
            None,
        )

    @property
    def went_back(self) -> bool:
        """Whether the last move of `latest` was a rollback: to an older build, with the former one
        withdrawn."""
        before = self.history[-1] if self.history else None
        if before is None or self.latest is None or before.baked <= self.latest.baked:
            return False
        return before.build_id in self.withdrawn

    def entry_of(self, build_id: str) -> LedgerEntry | None:
        entries = (self.latest, self.candidate, *reversed(self.history))
        return next((entry for entry in entries if entry and entry.build_id == build_id), None)

    def with_regions(self, regions: Iterable[str]) -> Self:
        return self.model_copy(update={"regions": tuple(sorted({*self.regions, *regions}))})

    def withdraw(self, *build_ids: str) -> Self:
        return self.model_copy(update={"withdrawn": tuple(sorted({*self.withdrawn, *build_ids}))})

    def readmit(self, build_id: str) -> Self:
        return self.model_copy(
            update={"withdrawn": tuple(old for old in self.withdrawn if old != build_id)}
        )


def withdrawn_in(ledgers: Mapping[str, Ledger]) -> dict[str, list[str]]:
    """The regions whose ledger says that a build was withdrawn, by build id."""
    regions_by_build: dict[str, list[str]] = {}
    for region, ledger in ledgers.items():
        for build_id in ledger.withdrawn:
            regions_by_build.setdefault(build_id, []).append(region)
    return dict(sorted(regions_by_build.items()))


def partly_withdrawn(ledgers: Mapping[str, Ledger], regions: Iterable[str]) -> list[str]:
    """The builds that any ledger has withdrawn, but that the ledger of one of `regions` has not."""
    withdrawn = [ledgers[region].withdrawn for region in regions]
    return [
        build_id
        for build_id in withdrawn_in(ledgers)
        if not all(build_id in builds for builds in withdrawn)
    ]
