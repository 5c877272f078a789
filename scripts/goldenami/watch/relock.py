"""New locks of what `watch` found. They are made by a function of the caller's: no stage knows
another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from goldenami.core import records
from goldenami.core.errors import GoldenError, NoFit
from goldenami.image.lock.compilation.driver_fit import LockConstraints
from goldenami.local import workspace
from goldenami.model.builds.lockfile import Lock
from goldenami.model.definitions import definition, definition_file
from goldenami.model.definitions.definition import Definition
from goldenami.model.definitions.update_policy import UpdateVerdict
from goldenami.packages.store import Store
from goldenami.watch import pair_proofs, release_notes, watch
from goldenami.watch.sources.driver_branches import Prover
from goldenami.watch.sources.packages import WatchedComponent
from goldenami.watch.watch_records import ComponentRow, LockChange, WatchRecord
from goldenami.watch.watch_results import WatchResult

MakeLock = Callable[[Definition, LockConstraints], tuple[Lock, str]]
"""Resolves a definition within constraints and writes its lock; gives it with its SHA-256."""


@dataclass(frozen=True)
class Relock:
    """How new locks are made: in which checkout and store, by whom, and whether a busy image is
    waited for."""

    root: Path
    store: Store
    prover: Prover
    make_lock: MakeLock
    wait: bool

    def run(
        self, record: WatchRecord, results: Sequence[WatchResult]
    ) -> tuple[WatchRecord, list[GoldenError]]:
        """Make the locks that the rows ask for; what went wrong with one image is in its rows, and
        stops no other."""
        rows, changes, failures = list[ComponentRow](), list[LockChange](), list[GoldenError]()
        for result in results:
            try:
                result = pair_proofs.with_proofs(result, self.prover, compiles=True)  # noqa: PLW2901 - its rows go on
                if result.needs_a_lock:
                    result.demand_trust()
                    with workspace.image_lock(self.root, result.image.lock.image, wait=self.wait):
                        changes.append(self._change(result))
            except NoFit as error:
                result = result.stopped(UpdateVerdict.BLOCKED, error.message)  # noqa: PLW2901 - as above
            except GoldenError as error:
                result = result.stopped(UpdateVerdict.FAILED, error.message)  # noqa: PLW2901 - as above
                failures.append(error)
            rows += result.rows
        return record.model_copy(update={"rows": rows, "changes": changes}), failures

    def _change(self, result: WatchResult) -> LockChange:
        """A new lock of one image. Where that fails, the old lock and the definition stay as they
        are."""
        path = definition_file.path_of(self.root, result.image.definition.image)
        text = path.read_text(encoding="utf-8")
        try:
            lock, digest = self.make_lock(self._follow_branch(result, path, text),
                                          watch.constraints(result))
        except BaseException:
            records.write_text(path, text)  # the branch in the definition is that of the lock
            raise
        if digest == result.image.sha256:
            raise NoFit("resolved again, the lock is the same: nothing that the image may have "
                        "has moved")
        return release_notes.compare(result.image.lock, result.image.sha256, lock, digest,
                                     self.store)

    def _follow_branch(self, result: WatchResult, path: Path, text: str) -> Definition:
        """The definition, with the driver branch that its policy moves to written into it, if it
        names one."""
        row = next((row for row in result.rows if row.component == WatchedComponent.DRIVER), None)
        if row is None or row.verdict is not UpdateVerdict.UPDATE:
            return result.image.definition
        branch = row.available.partition(".")[0]
        named = result.image.definition.variables("nvidia_driver").get("nvidia_driver_branch")
        if named not in (branch, definition.NEWEST):
            records.write_text(path, definition_file.with_branch(path, text, branch))
        return definition_file.load(self.root, path)
