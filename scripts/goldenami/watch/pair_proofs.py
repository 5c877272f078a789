"""Updates of kernel and driver, held against a compilation of the pair: one that does not compile
is blocked."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from debian.debian_support import Version

from goldenami.model.definitions.update_policy import UpdateVerdict, judge
from goldenami.watch.sources import driver_branches, packages
from goldenami.watch.sources.driver_branches import Proof, Prover
from goldenami.watch.sources.packages import WatchedComponent
from goldenami.watch.watch_records import ComponentRow
from goldenami.watch.watch_results import WatchResult


def with_proofs(result: WatchResult, prover: Prover, *, compiles: bool) -> WatchResult:
    """Its rows after the pair of kernel and driver was tried (without `compiles`: as far as earlier
    tries say).

    A driver is tried on the locked kernel, a kernel with the driver that the new lock would have.
    """
    lock, rows = result.image.lock, {row.component: row for row in result.rows}
    if lock.driver is None:
        return result
    definition, apt, version = result.image.definition, result.archives.apt, lock.driver.version
    row = rows[WatchedComponent.DRIVER]
    if row.verdict is UpdateVerdict.UPDATE:
        kernel = driver_branches.kernel_for_driver(lock, definition, apt)
        proof = prover.proof(definition, kernel, apt, row.available, compiles=compiles)
        rows[WatchedComponent.DRIVER] = _with_proof(row, proof,
                                                    f"driver {row.available} on {kernel.release}")
        version = version if proof.refusal else row.available
    if rows[WatchedComponent.KERNEL].verdict is UpdateVerdict.UPDATE:
        rows[WatchedComponent.KERNEL] = _kernel_for(version, result, rows[WatchedComponent.KERNEL],
                                                    prover, compiles)
    return replace(result, rows=tuple(rows[row.component] for row in result.rows))


def _kernel_for(
    version: str, result: WatchResult, row: ComponentRow, prover: Prover, compiles: bool
) -> ComponentRow:
    """`row` at the newest kernel that its policy takes and driver `version` fits; `blocked` where
    none is newer."""
    definition, apt, locked = result.image.definition, result.archives.apt, result.image.lock.kernel
    # An older one is old enough.
    rule = definition.watch.kernel.model_copy(update={"minimum_age_days": 0})
    offers, newest = packages.kernel_offers(definition, apt), None
    while True:
        kernel = packages.kernel(definition, apt, row.available)
        proof = prover.proof(definition, kernel, apt, version, compiles=compiles)
        # Where the archives have dropped the locked driver, `lock` tries the one in the store.
        tried = _with_proof(row, proof if proof.tried else Proof(),
                            f"driver {version} on {kernel.release}")
        newest = newest or tried
        if tried.verdict is UpdateVerdict.UPDATE:
            return tried
        offers = [offer for offer in offers if Version(offer.version) < Version(row.available)]
        judgement = judge(rule, locked.version, packages.series(locked.release), offers, date.max)
        if judgement.verdict is not UpdateVerdict.UPDATE:
            return newest
        row = row.model_copy(update={"available": judgement.available, "source": judgement.source,
                                     "reason": f"{newest.available}: {newest.reason}"})


def _with_proof(row: ComponentRow, proof: Proof, pair: str) -> ComponentRow:
    if proof.refusal:
        return row.model_copy(update={"verdict": UpdateVerdict.BLOCKED, "reason": proof.refusal})
    untried = "" if proof.tried else f"not yet compiled: {pair}"
    return row.model_copy(update={"reason": "; ".join(filter(None, (row.reason, untried)))})
