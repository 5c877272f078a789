"""What `watch` looks at, and what it finds of one image."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, replace

from goldenami.model.builds.lockfile import Lock
from goldenami.model.definitions.definition import Definition
from goldenami.model.definitions.update_policy import UpdateVerdict
from goldenami.watch.sources.archive_indexes import Archives
from goldenami.watch.sources.packages import WatchedComponent
from goldenami.watch.watch_records import ComponentRow, SourceStatus

BY_TAG = "by tag"
"""What moves an image of a container: its vendor, who moves the tag."""
BY_HAND = "a person moves it: "
"""How the reason of a row begins whose version stands in a file that a person writes."""


@dataclass(frozen=True)
class WatchedImage:
    """One image as it is: its definition, its lock and the SHA-256 of that."""

    definition: Definition
    lock: Lock
    sha256: str


@dataclass(frozen=True)
class WatchResult:
    """A row for each component of one image, and the archives that they were seen in.

    `distrusted` are archives that contradict the lock: older than it, emptied, or with other
    files.
    """

    image: WatchedImage
    rows: tuple[ComponentRow, ...]
    archives: Archives
    distrusted: tuple[SourceStatus, ...] = ()

    @property
    def needs_a_lock(self) -> bool:
        return any(_makes_a_lock(row) for row in self.rows)

    def stopped(
        self, verdict: UpdateVerdict, reason: str,
        components: Container[str] | None = None,
    ) -> WatchResult:
        """The same where no new lock moves `components`, or anything: what would have moved has
        this verdict and reason."""
        why = {"verdict": verdict, "reason": reason}
        rows = [row.model_copy(update=why)
                if (components is None or row.component in components) and _makes_a_lock(row) else row
                for row in self.rows]
        return replace(self, rows=tuple(rows))


def _makes_a_lock(row: ComponentRow) -> bool:
    moves = row.component in set(WatchedComponent) or row.policy == BY_TAG
    return (row.verdict is UpdateVerdict.UPDATE and moves
            and not row.reason.startswith(BY_HAND))
