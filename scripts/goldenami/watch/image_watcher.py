"""The components of one image, each judged by its rule against what its sources offer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

from goldenami.core.errors import GoldenError
from goldenami.model.definitions.update_policy import (
    Judgement,
    UpdatePolicy,
    UpdateRule,
    UpdateVerdict,
    VersionOffer,
    judge,
    overdue,
)
from goldenami.model.supported import compatibility
from goldenami.watch import known_vulnerabilities, pair_proofs
from goldenami.watch.known_vulnerabilities import KnownVulnerabilities
from goldenami.watch.sources import (
    archive_indexes,
    base_image,
    branches,
    driver_branches,
    index_versions,
    packages,
)
from goldenami.watch.sources.archive_indexes import Archives, ReleasedOn
from goldenami.watch.sources.branches import Branches
from goldenami.watch.sources.packages import WatchedComponent
from goldenami.watch.watch_records import ComponentRow, PackageUpdate, SourceStatus
from goldenami.watch.watch_results import BY_HAND, WatchContext, WatchedImage, WatchResult

FrameworkLookup = Callable[[str], tuple[SourceStatus, list[VersionOffer]]]
"""What a Python index has of a project."""


@dataclass
class ImageWatcher:
    """Looks at the components of one image."""

    context: WatchContext
    image: WatchedImage
    archives: Archives
    branches: Branches
    lookup: FrameworkLookup
    own_statuses: tuple[SourceStatus, ...] = ()

    @cached_property
    def known(self) -> KnownVulnerabilities:
        """What is known against the locked packages."""
        return known_vulnerabilities.of_lock(self.context.root, self.image.lock.image,
                                             self.image.sha256)

    def run(self) -> WatchResult:
        """A row for each component."""
        lock, watch = self.image.lock, self.image.definition.watch
        row = self._row(WatchedComponent.KERNEL, watch.kernel, lock.kernel.version, self._kernel)
        rows = [_mending(row, self._kernel_mends(row.available))]
        if lock.driver is not None:
            rows.append(self._row(WatchedComponent.DRIVER, watch.driver, lock.driver.version,
                                  self._driver))
        if lock.cuda is not None:
            rows.append(self._row(WatchedComponent.CUDA, watch.cuda, lock.cuda.version, self._cuda))
        rows.append(self._packages(watch.packages))
        names = {*watch.frameworks, *(framework.name for framework in lock.frameworks)}
        rows += [self._framework(name, watch.framework(name)) for name in sorted(names)]
        rows += self._base_image()
        return WatchResult(self.image, tuple(rows), self.archives, tuple(self._distrusted()))

    def with_earlier_proofs(self, result: WatchResult) -> WatchResult:
        """The same after what earlier tries on this machine say of driver and kernel."""
        try:
            return pair_proofs.with_proofs(result, self.context.prover, compiles=False)
        except GoldenError as error:
            self.own_statuses += (SourceStatus(name=f"{self.image.lock.image} driver",
                                               error=error.message),)
            return result.stopped(UpdateVerdict.UNREACHABLE, error.message)

    def _row(
        self, component: str, rule: UpdateRule, locked: str,
        look: Callable[[UpdateRule], Judgement],
    ) -> ComponentRow:
        try:
            judgement = look(rule)
        except GoldenError as error:
            judgement = Judgement("?", UpdateVerdict.UNREACHABLE, error.message)
            self.own_statuses += (SourceStatus(name=f"{self.image.lock.image} {component}",
                                               error=error.message),)
        if self.archives.down and judgement.verdict is not UpdateVerdict.UPDATE:
            judgement = replace(judgement, verdict=UpdateVerdict.UNREACHABLE,
                                reason=f"could not look at {', '.join(sorted(self.archives.down))}")
        return ComponentRow(image=self.image.lock.image, component=component, locked=locked,
                            available=judgement.available, policy=rule.policy,
                            verdict=judgement.verdict,
                            reason=judgement.reason, source=judgement.source)

    def _released_on(self, rule: UpdateRule) -> ReleasedOn | None:
        return archive_indexes.released_on(self.archives.apt) if rule.minimum_age_days else None

    def _kernel(self, rule: UpdateRule) -> Judgement:
        kernel = self.image.lock.kernel
        offers = packages.kernel_offers(
            self.image.definition, self.archives.apt, self._released_on(rule), self._kernel_mends)
        return judge(rule, kernel.version, packages.series(kernel.release), offers,
                     self.context.today)

    def _kernel_mends(self, version: str) -> list[str]:
        return (
            []
            if version == "?"
            else self.known.mended("linux", self.image.lock.kernel.version, version)
        )

    def _driver(self, rule: UpdateRule) -> Judgement:
        locked = self.image.lock.driver
        assert locked is not None
        apt, definition = self.archives.apt, self.image.definition
        offers = driver_branches.offers(self.context.root, definition, apt, self.branches,
                                        self._released_on(rule))
        if not self.archives.down and locked.branch not in {offer.branch for offer in offers}:
            branch_names = ", ".join(sorted({offer.branch for offer in offers})) or "none"
            error = (
                f"vanished: {self.image.lock.image} is locked at {locked.version}, the archives "
                "have branches "
                f"{branch_names}"
            )
            self.own_statuses += (SourceStatus(name=f"driver branch {locked.branch}", error=error),)
        return judge(rule, locked.version, locked.branch, offers, self.context.today,
                     types=dict(self.branches.types or {}))

    def _cuda(self, rule: UpdateRule) -> Judgement:
        assert self.image.lock.cuda is not None
        version = self.image.lock.cuda.version
        offers = packages.cuda_offers(self.image.lock, self.archives.apt, self._released_on(rule))
        judgement = judge(rule, version, version.partition(".")[0], offers, self.context.today)
        written = self.image.definition.variables("cuda").get("cuda_release")
        return _by_hand(judgement, "cuda_release of the definition") if written else judgement

    def _packages(self, rule: UpdateRule) -> ComponentRow:
        names, shown = self._names(WatchedComponent.PACKAGES), list[PackageUpdate]()

        def look(rule: UpdateRule) -> Judgement:
            taken, held, judgement = packages.judge_packages(
                rule, self.image.lock, names, self.archives.apt, self.context.today,
                self._released_on(rule),
                self.known)
            shown.extend(taken or held)
            return judgement

        row = self._row(WatchedComponent.PACKAGES, rule, f"{len(names)} packages", look)
        return _mending(row.model_copy(update={"moving": shown}),
                        sorted({name for update in shown for name in update.mends}))

    def _names(self, component: WatchedComponent) -> list[str]:
        return [name for name, package in self.image.lock.packages.items()
                if packages.component(package) is component and package.origin != "built"]

    def _framework(self, name: str, rule: UpdateRule) -> ComponentRow:
        framework = next((framework for framework in self.image.lock.frameworks if framework.name
                          == name), None)
        locked = framework.version if framework else ""
        source, offers = self.lookup(framework.wheel.project if framework else name)
        self.own_statuses += (source,)
        row = ComponentRow(image=self.image.lock.image, component=name,
                           locked=locked or "not in the lock",
                           available="?", policy=rule.policy, verdict=UpdateVerdict.UNREACHABLE,
                           reason=source.error)
        if source.error or not locked:
            return row if source.error else row.model_copy(update={
                "verdict": UpdateVerdict.HELD, "reason": "the lock has no such framework"})
        judgement = judge(rule, locked, index_versions.branch(locked), offers, self.context.today,
                          order=index_versions.order)
        judgement = _by_hand(judgement, f"the version in the recipe of {name}")
        return row.model_copy(update={"available": judgement.available,
                                      "verdict": judgement.verdict,
                                      "reason": judgement.reason, "source": judgement.source})

    def _base_image(self) -> list[ComponentRow]:
        rule = self.image.definition.watch.base_image
        if rule is None:
            return []
        source, image, built_from = base_image.look(rule, self.context.newest_image,
                                                    self.context.root, self.image.lock)
        self.own_statuses += (source,)
        judgement = (
            base_image.judge(rule, built_from, image, self.context.today)
            if image and built_from
            else Judgement("?", UpdateVerdict.UNREACHABLE, source.error)
        )
        return [ComponentRow(image=self.image.lock.image, component="base image",
                             locked=str(built_from or "?"),
                             available=judgement.available, policy=UpdatePolicy.NEWEST,
                             verdict=judgement.verdict,
                             reason=judgement.reason, source=source.name)]

    def sources(self, result: WatchResult) -> list[SourceStatus]:
        """What is wrong with sources as seen from this lock, and sources of this image alone."""
        lock = self.image.lock
        statuses = [*self.own_statuses, *result.distrusted]
        if lock.driver is not None:
            statuses += branches.complaints(self.branches, lock.driver.version, lock.driver.source)
        return statuses

    def _distrusted(self) -> list[SourceStatus]:
        """Archives that contradict the lock; one that can't even be asked is among them."""
        lock, archives = self.image.lock, self.archives
        try:
            return [*archive_indexes.regressed(lock, archives),
                    *archive_indexes.disagreements(lock, archives),
                    *packages.emptied(lock, archives),
                    *packages.backwards(lock, archives.apt, archives.down)]
        except GoldenError as error:
            return [SourceStatus(name=f"archives of {lock.image}", error=error.message)]

    def warnings(self) -> list[str]:
        """Holds past their review, and a driver branch near its end."""
        lock, watch = self.image.lock, self.image.definition.watch
        rules: dict[str, UpdateRule] = {"kernel": watch.kernel, "driver": watch.driver,
                                        "cuda": watch.cuda,
                                        "packages": watch.packages, **watch.frameworks}
        texts = [overdue(name, rule, self.context.today) for name, rule in rules.items()]
        if lock.driver is not None:
            branch = lock.driver.branch
            texts.append(compatibility.near_end(branch, self.branches.end(branch),
                                                self.context.today))
        return [f"{lock.image}: {text}" for text in texts if text]


def _mending(row: ComponentRow, ids: list[str]) -> ComponentRow:
    """The row with the vulnerabilities that its newer versions mend, whether it takes them or
    not."""
    why = "; ".join(filter(None, [row.reason, known_vulnerabilities.said(ids)]))
    return row.model_copy(update={"mends": ids, "reason": why})


def _by_hand(judgement: Judgement, what: str) -> Judgement:
    return (
        replace(judgement, reason=BY_HAND + what)
        if judgement.verdict is UpdateVerdict.UPDATE
        else judgement
    )
