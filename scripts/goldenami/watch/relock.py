"""Make new locks of what `watch` found. The caller passes the function that makes a lock, because
stages do not import each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from goldenami.core import records
from goldenami.core.errors import GoldenError, NoFit, Unreachable
from goldenami.core.yaml_lines import YamlFile
from goldenami.image.lock.compilation.driver_fit import LockConstraints
from goldenami.local.host import workspace
from goldenami.model.definitions import definition, definition_file
from goldenami.model.definitions.definition import Definition
from goldenami.model.definitions.update_policy import UpdateVerdict
from goldenami.model.locked.lockfile import Lock, Package
from goldenami.watch.image_watcher import WatchResult
from goldenami.watch.sources import packages
from goldenami.watch.sources.packages import WatchedComponent
from goldenami.watch.watch_records import ComponentRow, LockChange, WatchRecord

MakeLock = Callable[[Definition, LockConstraints], tuple[Lock, str]]
"""Resolves a definition within constraints and writes its lock; returns the lock and its
SHA-256."""
KEPT = (
    (),
    (WatchedComponent.DRIVER,),
    (WatchedComponent.KERNEL,),
    (WatchedComponent.DRIVER, WatchedComponent.KERNEL),
)
"""Components that keep their version, attempt by attempt, until a lock fits: a new driver that does
not compile must not hold back security updates."""


@dataclass(frozen=True)
class Relock:
    """How new locks are made: in which repository, by which function, and whether to wait for
    another run on the same image."""

    root: Path
    make_lock: MakeLock
    wait: bool

    def run(
        self, record: WatchRecord, results: Sequence[WatchResult]
    ) -> tuple[WatchRecord, list[GoldenError]]:
        """Make the locks that the rows need. An error of one image does not stop the others."""
        rows, changes, failures = list[ComponentRow](), list[LockChange](), list[GoldenError]()
        for result in results:
            outcome = result
            try:
                if result.needs_a_lock:
                    # A new lock would miss packages, or take older ones.
                    for stale in result.distrusted:
                        raise Unreachable(
                            f"{stale.name}: {stale.error}", hint="use another mirror, or wait"
                        )
                    with workspace.image_lock(self.root, result.image.lock.image, wait=self.wait):
                        outcome, image_changes = self._first_fit(result)
                    changes += image_changes
            except GoldenError as error:
                outcome = result.stopped(UpdateVerdict.FAILED, error.message)
                failures.append(error)
            rows += outcome.rows
        return record.model_copy(update={"rows": rows, "changes": changes}), failures

    def _first_fit(self, result: WatchResult) -> tuple[WatchResult, list[LockChange]]:
        attempts, reason = list[WatchResult](), ""
        for kept in KEPT:
            attempt = result.stopped(UpdateVerdict.BLOCKED, reason, kept)
            # Keeping a component that does not move changes nothing.
            if attempt in attempts:
                continue
            if not attempt.needs_a_lock:
                return attempt, []
            attempts.append(attempt)
            try:
                return self._make(attempt)
            except NoFit as error:
                reason = reason or " ".join(f"{error.message}: {error.tail}".split()).strip(": ")
        return result.stopped(UpdateVerdict.BLOCKED, reason), []

    def _make(self, result: WatchResult) -> tuple[WatchResult, list[LockChange]]:
        source = definition_file.source_of(self.root, result.image.definition.image)
        # The branch may be inherited: then it moves for all that extend the file.
        path = source.file_of(definition_file.BRANCH)
        definition_text = path.read_text(encoding="utf-8")
        try:
            lock, digest = self.make_lock(self._follow_branch(result, source), _constraints(result))
        # Also on an interrupt, which is no Exception.
        except BaseException:
            # No new lock: the definition names the branch of the old one again.
            records.write_text(path, definition_text)
            raise
        if digest == result.image.sha256:
            return result.stopped(
                UpdateVerdict.BLOCKED,
                "resolved again, the lock is the same: nothing that the image may have has moved",
            ), []
        return result, [LockChange.between(result.image.lock, result.image.sha256, lock, digest)]

    def _follow_branch(self, result: WatchResult, source: YamlFile) -> Definition:
        row = next((row for row in result.rows if row.component == WatchedComponent.DRIVER), None)
        if row is None or row.verdict is not UpdateVerdict.UPDATE:
            return result.image.definition
        branch = row.available.partition(".")[0]
        declared_branch = result.image.definition.variables("nvidia_driver").get(
            "nvidia_driver_branch"
        )
        if declared_branch not in (branch, definition.NEWEST):
            text = definition_file.with_branch(source, branch)
            records.write_text(source.file_of(definition_file.BRANCH), text)
        return definition_file.load(self.root, source.path)


def _constraints(result: WatchResult) -> LockConstraints:
    """Return the constraints of a new lock: it keeps every component and package that no row moves.

    What moves goes to the version that was judged, not to the newest one by then, nor to the newest
    of another suite.
    """
    lock = result.image.lock
    rows = {row.component: row for row in result.rows}
    kept_components, moving = set[WatchedComponent](), dict[str, str]()
    for component in WatchedComponent:
        if component in rows and rows[component].verdict is not UpdateVerdict.UPDATE:
            kept_components.add(component)
    packages_row = rows[WatchedComponent.PACKAGES]
    if packages_row.verdict is UpdateVerdict.UPDATE:
        moving = {update.name: update.available for update in packages_row.moving}
    pinned, build_packages = dict[str, Package](), dict[str, Package]()
    for name, package in packages.from_archives(lock).items():
        component = packages.component(package)
        stays = component is WatchedComponent.PACKAGES and name not in moving
        if component in kept_components or stays:
            pinned[name] = package
    for modules in lock.compiled_modules().values():
        for name, package in modules.build.items():
            if packages.component(package) in kept_components and "://" not in package.origin:
                build_packages[name] = package
    kernel = lock.kernel
    if WatchedComponent.KERNEL not in kept_components:
        kernel = packages.kernel(
            result.image.definition, result.archives.apt, rows[WatchedComponent.KERNEL].available
        )
    return LockConstraints(
        kernel=kernel,
        driver=_driver_version(rows.get(WatchedComponent.DRIVER)),
        packages={name: package.version for name, package in pinned.items()} | moving,
        stock={**build_packages, **pinned},
    )


def _driver_version(row: ComponentRow | None) -> str:
    if row is None:
        return ""
    if row.verdict is UpdateVerdict.UPDATE:
        return row.available
    return row.locked
