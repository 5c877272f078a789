"""The `watch` stage: what each image's sources have, against its lock and the policy of its definition.

It looks and judges. What it finds worth taking, the command gives to `lock`, with `keep` of what is to stay.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cache
from pathlib import Path

from debian.debian_support import Version

from goldenami.compilation.driver_fit import LockConstraints
from goldenami.core.cache_paths import CachePaths
from goldenami.core.errors import GoldenError, Unreachable
from goldenami.model import compatibility
from goldenami.model.definition import Base, Definition
from goldenami.model.lockfile import Lock
from goldenami.model.update_policy import (
    AvailableVersion,
    Judgement,
    UpdatePolicy,
    UpdateRule,
    UpdateVerdict,
    judge,
    overdue,
)
from goldenami.watch.sources import archive_indexes, base_image, branches, driver, packages, pypi
from goldenami.watch.sources.archive_indexes import Age, Archives
from goldenami.watch.sources.branches import Branches
from goldenami.watch.sources.driver import Proof, Prover
from goldenami.watch.sources.packages import WatchedComponent
from goldenami.watch.watch_records import ComponentRow, PackageUpdate, SourceStatus, WatchRecord

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
    """What looking takes: the checkout, the cache, the day, and a function for AMIs (its client is the caller's)."""

    root: Path
    cache: CachePaths
    today: date
    newest_image: base_image.Newest
    prover: Prover


@dataclass(frozen=True)
class WatchResult:
    """What was seen for one image; `archives` are there for a proof by compiling.

    `distrusted` are the archives that contradict the lock: older than it, emptied, or with other files.
    """

    image: WatchedImage
    rows: tuple[ComponentRow, ...]
    archives: Archives
    distrusted: tuple[SourceStatus, ...] = ()

    def demand_trust(self) -> None:
        """Unreachable where an archive contradicts the lock: a new one would be made from less, or from other files."""
        for source in self.distrusted:
            raise Unreachable(f"{source.name}: {source.error}", hint="a stale mirror: use another, or wait")

    @property
    def moves(self) -> bool:
        """Whether a new lock would take something: a framework's version and NVIDIA's CUDA release a person writes."""
        return any(_moves(row) for row in self.rows)

    def stopped(self, verdict: UpdateVerdict, reason: str) -> WatchResult:
        """The same after no new lock was made: what it would have moved has this verdict and reason."""
        why = {"verdict": verdict, "reason": reason}
        return replace(self, rows=tuple(row.model_copy(update=why) if _moves(row) else row for row in self.rows))


def _moves(row: ComponentRow) -> bool:
    return (row.verdict is UpdateVerdict.UPDATE and row.component in set(WatchedComponent)
            and not row.reason.startswith(BY_HAND))


def proved(seen: WatchResult, prover: Prover, *, compiles: bool) -> WatchResult:
    """Its rows after the pair of kernel and driver was tried (without `compiles`: as far as earlier tries say).

    A driver is tried on the locked kernel, a kernel with the driver that the new lock would have.
    """
    lock, rows = seen.image.lock, {row.component: row for row in seen.rows}
    if lock.driver is None:
        return seen
    definition, apt, version = seen.image.definition, seen.archives.apt, lock.driver.version
    row = rows[WatchedComponent.DRIVER]
    if row.verdict is UpdateVerdict.UPDATE:
        kernel = driver.kernel_of(lock, definition, apt)
        proof = prover.proof(definition, kernel, apt, row.available, compiles=compiles)
        rows[WatchedComponent.DRIVER] = _with(row, proof, f"driver {row.available} on {kernel.release}")
        version = version if proof.refusal else row.available
    if rows[WatchedComponent.KERNEL].verdict is UpdateVerdict.UPDATE:
        rows[WatchedComponent.KERNEL] = _kernel_for(version, seen, rows[WatchedComponent.KERNEL], prover, compiles)
    return replace(seen, rows=tuple(rows[row.component] for row in seen.rows))


def _kernel_for(version: str, seen: WatchResult, row: ComponentRow, prover: Prover, compiles: bool) -> ComponentRow:
    """`row` at the newest kernel that its policy takes and driver `version` fits; `blocked` where none is newer."""
    definition, apt, locked = seen.image.definition, seen.archives.apt, seen.image.lock.kernel
    rule = definition.watch.kernel.model_copy(update={"minimum_age_days": 0})  # an older one is old enough
    offers, newest = packages.kernel_offers(definition, apt), None
    while True:
        kernel = packages.kernel(definition, apt, row.available)
        proof = prover.proof(definition, kernel, apt, version, compiles=compiles)
        # Where the archives have dropped the locked driver, `lock` tries the one in the store.
        tried = _with(row, proof if proof.tried else Proof(), f"driver {version} on {kernel.release}")
        newest = newest or tried
        if tried.verdict is UpdateVerdict.UPDATE:
            return tried
        offers = [offer for offer in offers if Version(offer.version) < Version(row.available)]
        found = judge(rule, locked.version, packages.series(locked.release), offers, date.max)
        if found.verdict is not UpdateVerdict.UPDATE:
            return newest
        row = row.model_copy(update={"available": found.available, "source": found.source,
                                     "reason": f"{newest.available}: {newest.reason}"})


def _with(row: ComponentRow, proof: Proof, pair: str) -> ComponentRow:
    if proof.refusal:
        return row.model_copy(update={"verdict": UpdateVerdict.BLOCKED, "reason": proof.refusal})
    untried = "" if proof.tried else f"not yet compiled: {pair}"
    return row.model_copy(update={"reason": "; ".join(filter(None, (row.reason, untried)))})


def look(eyes: WatchContext, images: Sequence[WatchedImage], looked_at: str) -> tuple[WatchRecord, list[WatchResult]]:
    """Ask every source once, whatever the number of images that use it."""
    asked, index = dict[tuple[Base, bool], Archives](), cache(pypi.look)
    known = branches.look() if any(_needs_branches(image) for image in images) else Branches()
    sources, warnings = list[SourceStatus](known.seen), list[str]()
    all_seen, rows = list[WatchResult](), list[ComponentRow]()
    for image in images:
        nvidia = image.definition.variables("nvidia_driver").get("nvidia_driver_source") == "nvidia"
        key = (image.definition.base, nvidia)
        if key not in asked:
            asked[key] = archive_indexes.look(image.definition.base, eyes.cache, nvidia=nvidia)
            sources += asked[key].seen
        watcher = _ImageWatcher(eyes, image, asked[key], known, index)
        seen = watcher.run()
        all_seen.append(seen)
        rows += watcher.known(seen).rows
        sources += watcher.sources(seen)
        warnings += watcher.warnings()
    return WatchRecord(looked_at=looked_at, sources=_once(sources), rows=rows, warnings=warnings), all_seen


def _once(sources: Sequence[SourceStatus]) -> list[SourceStatus]:
    return list(dict.fromkeys(sources))


def _needs_branches(image: WatchedImage) -> bool:
    """Whether NVIDIA's list says something that the distribution's own packages do not."""
    if image.lock.driver is None:
        return False
    return (image.definition.watch.driver.policy in (UpdatePolicy.LTS, UpdatePolicy.PRODUCTION)
            or image.lock.driver.source == "nvidia" or branches.VARIABLE in os.environ)


Index = Callable[[str], tuple[SourceStatus, list[AvailableVersion]]]
"""What a Python index has of a project."""


@dataclass
class _ImageWatcher:
    """Looks at the components of one image."""

    eyes: WatchContext
    image: WatchedImage
    archives: Archives
    branches: Branches
    index: Index
    extra: tuple[SourceStatus, ...] = ()

    def run(self) -> WatchResult:
        """A row for each component."""
        lock, watch = self.image.lock, self.image.definition.watch
        rows = [self._row(WatchedComponent.KERNEL, watch.kernel, lock.kernel.version, self._kernel)]
        if lock.driver is not None:
            rows.append(self._row(WatchedComponent.DRIVER, watch.driver, lock.driver.version, self._driver))
        if lock.cuda is not None:
            rows.append(self._row(WatchedComponent.CUDA, watch.cuda, lock.cuda.version, self._cuda))
        rows.append(self._packages(watch.packages))
        names = {*watch.frameworks, *(one.name for one in lock.frameworks)}
        rows += [self._framework(name, watch.framework(name)) for name in sorted(names)]
        rows += self._base_image()
        return WatchResult(self.image, tuple(rows), self.archives, tuple(self._distrusted()))

    def known(self, seen: WatchResult) -> WatchResult:
        """The same after what earlier tries on this machine say of driver and kernel."""
        try:
            return proved(seen, self.eyes.prover, compiles=False)
        except GoldenError as error:
            self.extra += (SourceStatus(name=f"{self.image.lock.image} driver", error=error.message),)
            return seen.stopped(UpdateVerdict.UNREACHABLE, error.message)

    def _row(
        self, component: str, rule: UpdateRule, locked: str, look: Callable[[UpdateRule], Judgement],
    ) -> ComponentRow:
        try:
            verdict = look(rule)
        except GoldenError as error:
            verdict = Judgement("?", UpdateVerdict.UNREACHABLE, error.message)
            self.extra += (SourceStatus(name=f"{self.image.lock.image} {component}", error=error.message),)
        if self.archives.down and verdict.verdict is not UpdateVerdict.UPDATE:
            verdict = replace(verdict, verdict=UpdateVerdict.UNREACHABLE,
                              reason=f"could not look at {', '.join(sorted(self.archives.down))}")
        return ComponentRow(image=self.image.lock.image, component=component, locked=locked,
                            available=verdict.available, policy=rule.policy, verdict=verdict.verdict,
                            reason=verdict.reason, source=verdict.source)

    def _age(self, rule: UpdateRule) -> Age | None:
        return archive_indexes.ager(self.archives.apt) if rule.minimum_age_days else None

    def _kernel(self, rule: UpdateRule) -> Judgement:
        kernel = self.image.lock.kernel
        offers = packages.kernel_offers(self.image.definition, self.archives.apt, self._age(rule))
        return judge(rule, kernel.version, packages.series(kernel.release), offers, self.eyes.today)

    def _driver(self, rule: UpdateRule) -> Judgement:
        locked = self.image.lock.driver
        assert locked is not None
        apt, definition = self.archives.apt, self.image.definition
        offers = driver.offers(self.eyes.root, definition, apt, self.branches, self._age(rule))
        if not self.archives.down and locked.branch not in {offer.branch for offer in offers}:
            there = ", ".join(sorted({offer.branch for offer in offers})) or "none"
            self.extra += (SourceStatus(name=f"driver branch {locked.branch}",
                                        error=f"vanished: {self.image.lock.image} is locked at {locked.version}, the "
                                              f"archives have branches {there}"),)
        return judge(rule, locked.version, locked.branch, offers, self.eyes.today,
                     types=dict(self.branches.types or {}))

    def _cuda(self, rule: UpdateRule) -> Judgement:
        assert self.image.lock.cuda is not None
        version = self.image.lock.cuda.version
        offers = packages.cuda_offers(self.image.lock, self.archives.apt, self._age(rule))
        verdict = judge(rule, version, version.partition(".")[0], offers, self.eyes.today)
        written = self.image.definition.variables("cuda").get("cuda_release")
        return _by_hand(verdict, "cuda_release of the definition") if written else verdict

    def _packages(self, rule: UpdateRule) -> ComponentRow:
        names, named = self._names(WatchedComponent.PACKAGES), list[PackageUpdate]()

        def look(rule: UpdateRule) -> Judgement:
            moving, held, verdict = packages.judge_packages(
                rule, self.image.lock, names, self.archives.apt, self.eyes.today, self._age(rule))
            named.extend(moving or held)
            return verdict

        row = self._row(WatchedComponent.PACKAGES, rule, f"{len(names)} packages", look)
        return row.model_copy(update={"moving": named})

    def _names(self, component: WatchedComponent) -> list[str]:
        return [name for name, package in self.image.lock.packages.items()
                if packages.component(package) is component and package.origin != "built"]

    def _framework(self, name: str, rule: UpdateRule) -> ComponentRow:
        one = next((one for one in self.image.lock.frameworks if one.name == name), None)
        locked = one.version if one else ""
        source, offers = self.index(one.wheel.project if one else name)
        self.extra += (source,)
        row = ComponentRow(image=self.image.lock.image, component=name, locked=locked or "not in the lock",
                           available="?",
                           policy=rule.policy, verdict=UpdateVerdict.UNREACHABLE, reason=source.error)
        if source.error or not locked:
            return row if source.error else row.model_copy(update={
                "verdict": UpdateVerdict.HELD, "reason": "the lock has no such framework"})
        found = judge(rule, locked, pypi.branch(locked), offers, self.eyes.today, order=pypi.order)
        found = _by_hand(found, f"the version in the recipe of {name}")
        return row.model_copy(update={"available": found.available, "verdict": found.verdict, "reason": found.reason,
                                      "source": found.source})

    def _base_image(self) -> list[ComponentRow]:
        rule = self.image.definition.watch.base_image
        if rule is None:
            return []
        source, found, begun = base_image.look(rule, self.eyes.newest_image, self.eyes.root, self.image.lock)
        self.extra += (source,)
        verdict = base_image.judge(rule, begun, found, self.eyes.today) if found and begun else \
            Judgement("?", UpdateVerdict.UNREACHABLE, source.error)
        return [ComponentRow(image=self.image.lock.image, component="base image", locked=str(begun or "?"),
                             available=verdict.available, policy=UpdatePolicy.NEWEST, verdict=verdict.verdict,
                             reason=verdict.reason, source=source.name)]

    def sources(self, seen: WatchResult) -> list[SourceStatus]:
        """What is wrong with sources as seen from this lock, and sources of this image alone."""
        lock = self.image.lock
        found = [*self.extra, *seen.distrusted]
        if lock.driver is not None:
            found += branches.complaints(self.branches, lock.driver.version, lock.driver.source)
        return found

    def _distrusted(self) -> list[SourceStatus]:
        """Archives that contradict the lock; one that can't even be asked is among them."""
        lock, seen = self.image.lock, self.archives
        try:
            return [*archive_indexes.regressed(lock, seen), *archive_indexes.disagreements(lock, seen),
                    *packages.emptied(lock, seen), *packages.backwards(lock, seen.apt, seen.down)]
        except GoldenError as error:
            return [SourceStatus(name=f"archives of {lock.image}", error=error.message)]

    def warnings(self) -> list[str]:
        """Holds past their review, and a driver branch near its end."""
        lock, watch = self.image.lock, self.image.definition.watch
        rules: dict[str, UpdateRule] = {"kernel": watch.kernel, "driver": watch.driver, "cuda": watch.cuda,
                                        "packages": watch.packages, **watch.frameworks}
        found = [overdue(name, rule, self.eyes.today) for name, rule in rules.items()]
        if lock.driver is not None:
            branch = lock.driver.branch
            found.append(compatibility.near_end(branch, self.branches.end(branch), self.eyes.today))
        return [f"{lock.image}: {text}" for text in found if text]


def _by_hand(verdict: Judgement, what: str) -> Judgement:
    return replace(verdict, reason=BY_HAND + what) if verdict.verdict is UpdateVerdict.UPDATE else verdict


def keep(seen: WatchResult) -> LockConstraints:
    """What a new lock leaves where it is: every component, and every package, that no row moves.

    A kernel or driver that moves goes to the version that was judged, not to what is newest by then.
    """
    lock = seen.image.lock
    rows = {row.component: row for row in seen.rows}
    stays = {name for name in WatchedComponent if name in rows and rows[name].verdict is not UpdateVerdict.UPDATE}
    moving = {row.name for row
              in rows[WatchedComponent.PACKAGES].moving} if WatchedComponent.PACKAGES not in stays else set()
    pinned = {name: package for name, package in lock.packages.items() if package.origin != "built"
              and (packages.component(package) in stays or (
                  packages.component(package) is WatchedComponent.PACKAGES and name not in moving))}
    build = lock.driver.modules.build if lock.driver and lock.driver.modules else {}
    needed = {name: package for name, package in build.items() if packages.component(package) in stays}
    return LockConstraints(
        kernel=lock.kernel if WatchedComponent.KERNEL in stays else packages.kernel(
            seen.image.definition, seen.archives.apt, rows[WatchedComponent.KERNEL].available),
        driver=_driver(rows.get(WatchedComponent.DRIVER)),
        packages={name: package.version for name, package in pinned.items()}, stock={**needed, **pinned},
    )


def _driver(row: ComponentRow | None) -> str:
    if row is None:
        return ""
    return row.available if row.verdict is UpdateVerdict.UPDATE else row.locked
