"""Judge each component of one image by its rule against the versions that its sources offer."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from pathlib import Path

from packaging.requirements import Requirement

from goldenami.core import units
from goldenami.core.errors import GoldenError
from goldenami.model.definitions import package_requests
from goldenami.model.definitions.definition import Definition
from goldenami.model.definitions.update_policy import (
    Judgement,
    LockedVersion,
    Mover,
    UpdateRule,
    UpdateVerdict,
    VersionOffer,
    judge,
    overdue,
)
from goldenami.model.locked.lockfile import Lock
from goldenami.model.supported import compatibility, support
from goldenami.packages.apt import AptRoot
from goldenami.packages.pypi import PythonIndex
from goldenami.watch.sources import (
    addresses,
    archive_indexes,
    driver_branches,
    index_versions,
    packages,
)
from goldenami.watch.sources.archive_indexes import Archives
from goldenami.watch.sources.packages import (
    KnownVulnerabilities,
    PackageOffers,
    WatchedComponent,
)
from goldenami.watch.sources.source_records import PackageUpdate, SourceStatus
from goldenami.watch.watch_records import ComponentRow


@dataclass(frozen=True)
class WatchedImage:
    """One image: its definition, its lock and the lock's SHA-256."""

    definition: Definition
    lock: Lock
    sha256: str


@dataclass(frozen=True)
class WatchResult:
    """A row for each component of one image, and the archives that were read.

    `distrusted` are archives that contradict the lock: older than it, emptied, or with other files.
    """

    image: WatchedImage
    rows: tuple[ComponentRow, ...]
    archives: Archives
    distrusted: tuple[SourceStatus, ...] = ()

    @property
    def needs_a_lock(self) -> bool:
        return any(row.needs_a_lock for row in self.rows)

    def stopped(
        self,
        verdict: UpdateVerdict,
        reason: str,
        components: Container[str] | None = None,
    ) -> WatchResult:
        """Return the result with this verdict and reason for the rows that need a lock: those of
        `components`, or all if it is None."""
        changes = {"verdict": verdict, "reason": reason}
        rows = list[ComponentRow]()
        for row in self.rows:
            is_affected = components is None or row.component in components
            if is_affected and row.needs_a_lock:
                rows.append(row.model_copy(update=changes))
            else:
                rows.append(row)
        return replace(self, rows=tuple(rows))


IndexLookup = Callable[[str, PythonIndex | None], tuple[SourceStatus, list[VersionOffer]]]
"""Looks a project up in the usual Python index, and in a company's index beside it if one is given;
returns the source and its versions."""


@dataclass
class ImageWatcher:
    """Reads the sources of one image's components; `statuses` are the sources of this image
    alone."""

    root: Path
    today: date
    image: WatchedImage
    archives: Archives
    lookup: IndexLookup
    statuses: list[SourceStatus] = field(default_factory=list)

    @property
    def apt(self) -> AptRoot:
        return self.archives.apt

    @cached_property
    def known(self) -> KnownVulnerabilities:
        return packages.known_of(self.root, self.image.lock.image, self.image.sha256)

    def run(self) -> WatchResult:
        lock, watch = self.image.lock, self.image.definition.watch
        rows = [
            self._judged_row(
                WatchedComponent.KERNEL, watch.kernel, lock.kernel.version, self._kernel
            )
        ]
        if lock.driver is not None:
            rows.append(
                self._judged_row(
                    WatchedComponent.DRIVER, watch.driver, lock.driver.version, self._driver
                )
            )
        if lock.cuda is not None:
            rows.append(
                self._judged_row(WatchedComponent.CUDA, watch.cuda, lock.cuda.version, self._cuda)
            )
        rows.append(self._packages(watch.packages))
        names = {*watch.frameworks, *(framework.name for framework in lock.frameworks)}
        for name in sorted(names):
            rows.append(self._framework(name, watch.framework(name)))
        rows += self._python_packages(watch.python_packages)
        rows += self._downloads()
        rows += self._containers()
        distrusted = archive_indexes.distrusted(lock, self.archives)
        self.statuses += distrusted
        return WatchResult(self.image, tuple(rows), self.archives, tuple(distrusted))

    def _judged_row(
        self,
        component: str,
        rule: UpdateRule,
        locked: str,
        judge_component: Callable[[UpdateRule], Judgement],
    ) -> ComponentRow:
        try:
            judgement = judge_component(rule)
        except GoldenError as error:
            judgement = Judgement("?", UpdateVerdict.UNREACHABLE, error.message)
            self.statuses.append(
                SourceStatus(name=f"{self.image.lock.image} {component}", error=error.message)
            )
        # A silent archive may have something newer: of the verdicts, only UPDATE holds without it.
        if self.archives.down and judgement.verdict is not UpdateVerdict.UPDATE:
            judgement = replace(
                judgement,
                verdict=UpdateVerdict.UNREACHABLE,
                reason=f"could not look at {', '.join(sorted(self.archives.down))}",
            )
        return self._component_row(component, rule.policy, locked, judgement)

    def _component_row(
        self, component: str, policy: str, locked: str, judgement: Judgement
    ) -> ComponentRow:
        reasons = [judgement.reason]
        if mends := units.some(judgement.mends, 4):
            reasons.append(f"mends {mends}")
        return ComponentRow(
            image=self.image.lock.image,
            component=component,
            locked=locked,
            available=judgement.available,
            policy=policy,
            verdict=judgement.verdict,
            reason="; ".join(filter(None, reasons)),
            source=judgement.source,
            mends=list(judgement.mends),
            mover=judgement.mover,
        )

    def _kernel(self, rule: UpdateRule) -> Judgement:
        kernel = self.image.lock.kernel
        locked = LockedVersion(kernel.version, packages.series(kernel.release))
        offers = self._package_offers(rule).kernels(self.image.definition)
        return judge(rule, locked, offers, self.today)

    def _package_offers(self, rule: UpdateRule) -> PackageOffers:
        released_on = archive_indexes.released_on(self.apt, rule)
        return PackageOffers(self.image.lock, self.apt, self.known, released_on)

    def _driver(self, rule: UpdateRule) -> Judgement:
        locked = self.image.lock.driver
        assert locked is not None
        offers = driver_branches.offers(
            self.root, self.image.definition, self.apt, archive_indexes.released_on(self.apt, rule)
        )
        branches = {offer.branch for offer in offers}
        # If all archives answered, the branch is really gone from them.
        if not self.archives.down and locked.branch not in branches:
            listed = ", ".join(sorted(branches)) or "none"
            self.statuses.append(
                SourceStatus(
                    name=f"driver branch {locked.branch}",
                    error=f"vanished: {self.image.lock.image} is locked at {locked.version}, the "
                    f"archives have branches {listed}",
                )
            )
        return judge(rule, LockedVersion(locked.version, locked.branch), offers, self.today)

    def _cuda(self, rule: UpdateRule) -> Judgement:
        assert self.image.lock.cuda is not None
        version = self.image.lock.cuda.version
        released_on = archive_indexes.released_on(self.apt, rule)
        drivers = compatibility.load(self.root)
        offers = packages.cuda_offers(self.image.lock, self.apt, released_on, drivers)
        locked = LockedVersion(version, version.partition(".")[0])
        judgement = judge(rule, locked, offers, self.today)
        # A release that the definition names does not change with a new lock.
        if self.image.definition.variables("cuda").get("cuda_release"):
            return _by_hand(judgement, "cuda_release of the definition")
        return judgement

    def _packages(self, rule: UpdateRule) -> ComponentRow:
        # A version that the definition states does not change with a new lock.
        requests = package_requests.asked(self.image.definition)
        stated, names = {name for _, name, version in requests if version}, list[str]()
        for name, package in packages.from_archives(self.image.lock).items():
            is_other = packages.component(package) is WatchedComponent.PACKAGES
            if is_other and name not in stated:
                names.append(name)
        updates_shown = list[PackageUpdate]()

        def judge_packages(rule: UpdateRule) -> Judgement:
            updates, judgement = self._package_offers(rule).judge(names, rule, self.today)
            updates_shown.extend(updates)
            return judgement

        row = self._judged_row(
            WatchedComponent.PACKAGES, rule, f"{len(names)} packages", judge_packages
        )
        return row.model_copy(update={"moving": updates_shown})

    def _framework(self, name: str, rule: UpdateRule) -> ComponentRow:
        framework = next(
            (framework for framework in self.image.lock.frameworks if framework.name == name), None
        )
        if framework is None:
            judgement = Judgement("?", UpdateVerdict.HELD, "the lock has no such framework")
            return self._component_row(name, rule.policy, "not in the lock", judgement)
        judgement = self._on_index(framework.wheel.project, rule, framework.version)
        judgement = _by_hand(judgement, f"the version in the recipe of {name}")
        return self._component_row(name, rule.policy, framework.version, judgement)

    def _on_index(self, project: str, rule: UpdateRule, locked: str) -> Judgement:
        index = None
        if python := self.image.lock.python:
            index = python.index
        source, offers = self.lookup(project, index)
        self.statuses.append(source)
        if source.error:
            return Judgement("?", UpdateVerdict.UNREACHABLE, source.error)
        locked_version = LockedVersion(locked, index_versions.branch(locked), index_versions.order)
        return judge(rule, locked_version, offers, self.today)

    def _python_packages(self, rule: UpdateRule) -> Iterator[ComponentRow]:
        python = self.image.lock.python
        if python is None:
            return
        for project, requirement in python.asked.items():
            locked = next(file.version for file in python.wheels if file.project == project)
            # A new version of a package is taken by the next lock, but makes none of its own.
            judgement = replace(self._on_index(project, rule, locked), mover=Mover.NEXT_LOCK)
            is_update = judgement.verdict is UpdateVerdict.UPDATE
            if is_update and not Requirement(requirement).specifier.contains(judgement.available):
                judgement = _by_hand(
                    judgement, f"`{requirement}` in python_packages of the definition"
                )
            yield self._component_row(project, rule.policy, locked, judgement)

    def _downloads(self) -> list[ComponentRow]:
        if not (files := self.image.lock.downloads):
            return []
        file_statuses = [addresses.file_status(file) for file in files]
        self.statuses += file_statuses
        count = f"{len(files)} files"
        reason = "a newer version is at another address, which only its vendor knows"
        judgement = Judgement(count, UpdateVerdict.CURRENT, reason)
        if errors := [source.error for source in file_statuses if source.error]:
            judgement = Judgement("?", UpdateVerdict.UNREACHABLE, errors[0])
        return [self._component_row("downloads", "by hand", count, judgement)]

    def _containers(self) -> Iterator[ComponentRow]:
        """Yield a row for each container image. If a tag moved, a new lock is needed."""
        for container in self.image.lock.containers:
            source, judgement = addresses.container_status(container)
            self.statuses.append(source)
            policy = "by tag"
            # A digest never moves: a person writes a new one.
            if "@" in container.asked:
                policy, judgement = "by hand", replace(judgement, mover=Mover.PERSON)
            yield self._component_row(container.name, policy, container.answer[:12], judgement)

    def warnings(self) -> list[str]:
        lock, watch = self.image.lock, self.image.definition.watch
        rules: dict[str, UpdateRule] = {
            "kernel": watch.kernel,
            "driver": watch.driver,
            "cuda": watch.cuda,
            "packages": watch.packages,
            **watch.frameworks,
            "python_packages": watch.python_packages,
        }
        texts = list[str]()
        for name, rule in rules.items():
            texts.append(overdue(name, rule, self.today))
        if lock.driver is not None:
            drivers, branch = compatibility.load(self.root), lock.driver.branch
            end = drivers.near_end(branch, self.today)
            part = support.driver_branch(drivers, lock.driver.version, branch)
            texts.append(": ".join(filter(None, [end, part.advice(self.today)])))
        return [f"{lock.image}: {text}" for text in texts if text]


def _by_hand(judgement: Judgement, place: str) -> Judgement:
    if judgement.verdict is not UpdateVerdict.UPDATE:
        return judgement
    return replace(judgement, reason=f"a person moves it: {place}", mover=Mover.PERSON)
