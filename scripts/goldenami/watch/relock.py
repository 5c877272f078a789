"""New locks of what `watch` found. They are made by a function of the caller's: no stage knows
another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from goldenami.core import records
from goldenami.core.errors import GoldenError, NoFit, Unreachable
from goldenami.image.lock.compilation.driver_fit import LockConstraints
from goldenami.local.host import workspace
from goldenami.model.definitions import definition, definition_file
from goldenami.model.definitions.definition import Definition
from goldenami.model.definitions.update_policy import UpdateVerdict
from goldenami.model.locked.lockfile import Lock
from goldenami.watch import watch
from goldenami.watch.image_watcher import WatchResult
from goldenami.watch.sources.packages import WatchedComponent
from goldenami.watch.watch_records import ComponentRow, LockChange, WatchRecord

MakeLock = Callable[[Definition, LockConstraints], tuple[Lock, str]]
"""Resolves a definition within constraints and writes its lock; gives it with its SHA-256."""
KEPT = (
    (),
    (WatchedComponent.DRIVER,),
    (WatchedComponent.KERNEL,),
    (WatchedComponent.DRIVER, WatchedComponent.KERNEL),
)
"""What stays where it is, try by try, until a lock fits: a new driver that does not compile keeps
no security update away."""


@dataclass(frozen=True)
class Relock:
    """How new locks are made: where, by whom, and whether a busy image is waited for."""

    root: Path
    make_lock: MakeLock
    wait: bool

    def run(
        self, record: WatchRecord, results: Sequence[WatchResult]
    ) -> tuple[WatchRecord, list[GoldenError]]:
        """Make the locks that the rows ask for; what goes wrong with one image stops no other."""
        rows, changes, failures = list[ComponentRow](), list[LockChange](), list[GoldenError]()
        for result in results:
            done = result
            try:
                if result.needs_a_lock:
                    for stale in result.distrusted:  # a new lock would be made from less
                        raise Unreachable(
                            f"{stale.name}: {stale.error}", hint="use another mirror, or wait"
                        )
                    with workspace.image_lock(self.root, result.image.lock.image, wait=self.wait):
                        done, made = self._lock(result)
                    changes += made
            except GoldenError as error:
                done = result.stopped(UpdateVerdict.FAILED, error.message)
                failures.append(error)
            rows += done.rows
        return record.model_copy(update={"rows": rows, "changes": changes}), failures

    def _lock(self, result: WatchResult) -> tuple[WatchResult, list[LockChange]]:
        tried, reason = list[WatchResult](), ""
        for kept in KEPT:
            attempt = result.stopped(UpdateVerdict.BLOCKED, reason, kept)
            if attempt in tried:
                continue
            if not attempt.needs_a_lock:
                return attempt, []
            tried.append(attempt)
            try:
                return self._change(attempt)
            except NoFit as error:
                reason = reason or " ".join(f"{error.message}: {error.tail}".split()).strip(": ")
        return result.stopped(UpdateVerdict.BLOCKED, reason), []

    def _change(self, result: WatchResult) -> tuple[WatchResult, list[LockChange]]:
        path = definition_file.path_of(self.root, result.image.definition.image)
        text = path.read_text(encoding="utf-8")
        try:
            lock, digest = self.make_lock(
                self._follow_branch(result, path, text), watch.constraints(result)
            )
        except BaseException:
            records.write_text(path, text)  # the branch in the definition is that of the lock
            raise
        if digest == result.image.sha256:
            return result.stopped(
                UpdateVerdict.BLOCKED,
                "resolved again, the lock is the same: nothing that the image may have has moved",
            ), []
        return result, [LockChange.between(result.image.lock, result.image.sha256, lock, digest)]

    def _follow_branch(self, result: WatchResult, path: Path, text: str) -> Definition:
        row = next((row for row in result.rows if row.component == WatchedComponent.DRIVER), None)
        if row is None or row.verdict is not UpdateVerdict.UPDATE:
            return result.image.definition
        branch = row.available.partition(".")[0]
        named = result.image.definition.variables("nvidia_driver").get("nvidia_driver_branch")
        if named not in (branch, definition.NEWEST):
            records.write_text(path, definition_file.with_branch(path, text, branch))
        return definition_file.load(self.root, path)
