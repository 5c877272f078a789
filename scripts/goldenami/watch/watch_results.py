"""What `watch` looks at, and what it finds of one image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from goldenami.core.cache_paths import CachePaths
from goldenami.core.errors import Unreachable
from goldenami.model.builds.lockfile import Lock
from goldenami.model.definitions.definition import Definition
from goldenami.model.definitions.update_policy import UpdateVerdict
from goldenami.watch.sources import base_image
from goldenami.watch.sources.archive_indexes import Archives
from goldenami.watch.sources.driver_branches import Prover
from goldenami.watch.sources.packages import WatchedComponent
from goldenami.watch.watch_records import ComponentRow, SourceStatus

BY_HAND = "a person moves it: "
"""How the reason of a row begins whose version stands in a file that a person writes."""


@dataclass(frozen=True)
class WatchedImage:
    """One image as it is: its definition, its lock and the SHA-256 of that."""

    definition: Definition
    lock: Lock
    sha256: str


@dataclass(frozen=True)
class WatchContext:
    """What all images share: the checkout, the cache, the day, and a function for AMIs (its client
    is the caller's)."""

    root: Path
    cache: CachePaths
    today: date
    newest_image: base_image.Newest
    prover: Prover


@dataclass(frozen=True)
class WatchResult:
    """A row for each component of one image; `archives` are there for a proof by compiling.

    `distrusted` are the archives that contradict the lock: older than it, emptied, or with other
    files.
    """

    image: WatchedImage
    rows: tuple[ComponentRow, ...]
    archives: Archives
    distrusted: tuple[SourceStatus, ...] = ()

    def demand_trust(self) -> None:
        """Unreachable where an archive contradicts the lock: a new one would be made from less, or
        from other files."""
        for source in self.distrusted:
            raise Unreachable(f"{source.name}: {source.error}",
                              hint="a stale mirror: use another, or wait")

    @property
    def needs_a_lock(self) -> bool:
        """Whether a new lock would take something: a framework's version and NVIDIA's CUDA release
        a person writes."""
        return any(_makes_a_lock(row) for row in self.rows)

    def stopped(self, verdict: UpdateVerdict, reason: str) -> WatchResult:
        """The same after no new lock was made: what it would have moved has this verdict and
        reason."""
        why = {"verdict": verdict, "reason": reason}
        return replace(self,
                       rows=tuple(row.model_copy(update=why) if _makes_a_lock(row) else row
                                  for row in self.rows))


def _makes_a_lock(row: ComponentRow) -> bool:
    return (row.verdict is UpdateVerdict.UPDATE and row.component in set(WatchedComponent)
            and not row.reason.startswith(BY_HAND))
