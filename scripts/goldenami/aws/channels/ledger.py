"""Which builds each channel of an image names and named: the pointers of a region follow it."""

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
"""Former builds of `latest` that are remembered: more than anybody rolls back."""


class Channel(StrEnum):
    """The pointers that move; `/golden-ami/<image>/<channel>`."""

    CANDIDATE = "candidate"
    LATEST = "latest"


class GpuProof(StrEnum):
    """What is known of a build on a GPU."""

    NONE = "the image has no GPU"
    TESTED = "tested on a GPU"
    UNTESTED = "not tested on a GPU"
    ACCEPTED = "not tested on a GPU, accepted"

    @classmethod
    def _missing_(cls, value: object) -> GpuProof | None:
        """A newer goldenami's word is kept, and is none of these."""
        if not isinstance(value, str):
            return None
        word = str.__new__(cls, value)
        word._name_ = word._value_ = value
        return word


class LedgerEntry(SharedRecord):
    """What a channel names; `fence` is the number of the lease that moved it."""

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

    `withdrawn` are builds that a rollback took back: no publish or promotion brings them in again
    unasked. What one region withdrew counts in all: another may have been out when that happened.
    `regions` are all to which the image was ever published.
    """

    schema_version: Annotated[int, Field(ge=1)] = 1
    candidate: LedgerEntry | None = None
    latest: LedgerEntry | None = None
    history: tuple[LedgerEntry, ...] = ()
    withdrawn: tuple[BuildId, ...] = ()
    regions: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """By it a plan knows whether it was made of this ledger."""
        return records.sha256_text(self.model_dump_json())

    def of(self, channel: Channel) -> LedgerEntry | None:
        return self.candidate if channel is Channel.CANDIDATE else self.latest

    def moved(self, channel: Channel, entry: LedgerEntry) -> Self:
        """The ledger in which `channel` names `entry`; what `latest` named before goes to the
        history.

        An entry for the same build and AMI stays as it is.
        """
        before = self.of(channel)
        if before and (before.build_id, before.ami) == (entry.build_id, entry.ami):
            return self
        history = self.history
        if channel is Channel.LATEST:
            earlier = [old for old in (*history, before) if old and old.build_id != entry.build_id]
            history = tuple(earlier[-HISTORY:])
        return self.model_copy(update={channel.value: entry, "history": history})

    def previous(self) -> LedgerEntry | None:
        """What `latest` named before, withdrawn builds left out."""
        return next(
            (entry for entry in reversed(self.history) if entry.build_id not in self.withdrawn),
            None,
        )

    @property
    def went_back(self) -> bool:
        """Whether the last move of `latest` was a rollback: to an older build than the one
        before."""
        before = self.history[-1] if self.history else None
        if before is None or self.latest is None or before.baked <= self.latest.baked:
            return False
        return before.build_id in self.withdrawn

    def entry_of(self, build_id: str) -> LedgerEntry | None:
        entries = (self.latest, self.candidate, *reversed(self.history))
        return next((entry for entry in entries if entry and entry.build_id == build_id), None)

    def spread(self, regions: Iterable[str]) -> Self:
        return self.model_copy(update={"regions": tuple(sorted({*self.regions, *regions}))})

    def withdraw(self, *build_ids: str) -> Self:
        return self.model_copy(update={"withdrawn": tuple(sorted({*self.withdrawn, *build_ids}))})

    def readmit(self, build_id: str) -> Self:
        return self.model_copy(
            update={"withdrawn": tuple(old for old in self.withdrawn if old != build_id)}
        )


def withdrawn_in(ledgers: Mapping[str, Ledger]) -> dict[str, list[str]]:
    """The regions whose ledger says that a build was withdrawn, by build."""
    found: dict[str, list[str]] = {}
    for region, ledger in ledgers.items():
        for build_id in ledger.withdrawn:
            found.setdefault(build_id, []).append(region)
    return dict(sorted(found.items()))


def untold(ledgers: Mapping[str, Ledger], regions: Iterable[str]) -> list[str]:
    """Builds that any of the ledgers withdrew, and that of one of `regions` does not say so."""
    own = [ledgers[region].withdrawn for region in regions]
    return [name for name in withdrawn_in(ledgers) if not all(name in said for said in own)]
