"""Tests the candidate on GPUs: one instance for each class that the test has to cover, on the first
offer that EC2 grants. The record names them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from goldenami.aws import tags
from goldenami.aws.calls import wait_for
from goldenami.aws.instances.instances import NotLaunched, SpotInterrupted
from goldenami.aws.inventory import leftovers
from goldenami.aws.inventory.leftovers import LeftoverKind
from goldenami.aws.refusals import QUOTA, Instead
from goldenami.core import clock, records
from goldenami.core.errors import GoldenError, StageFailed
from goldenami.core.terminal.progress import Progress
from goldenami.image.bake import bake_plan
from goldenami.model.builds.gpu_proofs import GpuTestRecord, TestedGpu, required
from goldenami.model.definitions.definition import Definition
from goldenami.model.supported import allowed_types, gpu_classes, hardware
from goldenami.model.supported.allowed_types import TypeRule
from goldenami.release.gpu_test import capacity, gpu_machine
from goldenami.release.gpu_test.capacity import Offer
from goldenami.release.gpu_test.gpu_machine import GpuTest

ROUND_S = 60.0
"""Seconds between two rounds of offers while EC2 has no capacity."""
_OURS = (
    LeftoverKind.INSTANCE,
    LeftoverKind.VOLUME,
    LeftoverKind.KEY_PAIR,
    LeftoverKind.SECURITY_GROUP,
)
Refused = dict[tuple[str, ...], NotLaunched]
"""Refusals, by the beginning of the paths of the offers to which each applies."""
_QUOTAS = {
    (True, "P"): "the quota of Spot requests for P instances",
    (False, "P"): "`Running On-Demand P instances`",
    (True, "G and VT"): "`All G and VT Spot Instance Requests`",
    (False, "G and VT"): "`Running On-Demand G and VT instances`",
}
"""Service Quotas' names of limits, by whether they are of Spot, and by the group of types. Spot
requests for P instances have several."""
_SHOWN = 6
"""How many offers of a class a plan names; the others are counted."""


def lines(
    image: str, build_id: str, offers: Mapping[str, Sequence[Offer]], hours: float
) -> list[str]:
    """The plan in lines for a person."""
    cost = "its prices are not known"
    least_usd = capacity.cheapest_usd(offers, hours)
    if least_usd is not None:
        cost = f"at most ${least_usd:.2f} for the cheapest types"
    lines = [
        f"test {image} {build_id} on {len(offers)} classes of machines, {hours:g} h each at most; "
        f"{cost}"
    ]
    for gpu_class, class_offers in offers.items():
        lines += [f"  {gpu_class:<12} {offer}" for offer in class_offers[:_SHOWN]]
        if len(class_offers) > _SHOWN:
            lines.append(f"  {gpu_class:<12} and {len(class_offers) - _SHOWN} more")
    return lines


def untested_lines(root: Path, definition: Definition) -> list[str]:
    """Lines that name the declared types of which the test takes no machine, since EC2 is to refuse
    them."""
    rule = definition.publish and definition.publish.instance_types
    if rule is not TypeRule.PROVED:
        return []
    untested = allowed_types.untested(hardware.load(root), definition.hardware)
    lines = [
        f"  {gpu_class:<12} not tested, so EC2 launches nothing on {', '.join(types)}"
        for gpu_class, types in untested.items()
    ]
    if lines:
        lines.append("  `publish: instance_types: declared` tests a machine of each, too")
    return lines


def write_variables(test: GpuTest, lock_sha256: str) -> None:
    """Write the variables of the image's roles, which their checks read."""
    variables = bake_plan.role_variables(test.root, test.lock, lock_sha256)
    records.write_text(test.variables, records.canonical(variables))


def clear(test: GpuTest) -> list[str]:
    """Remove what killed tests of this image left: everything of a run on this machine that has
    ended, and whatever has expired. Expired instances of other images are removed, too.

    Return lines for the user: how much was removed, and each thing that a run may still use, which
    may also be of another checkout on this machine.
    """
    removed, kept = 0, list[str]()
    for region in test.candidates:
        ec2 = test.account.ec2(region)
        for leftover in leftovers.find(ec2):
            # It costs money, whatever image it is of.
            is_overdue = leftover.kind is LeftoverKind.INSTANCE and leftover.is_expired
            if leftover.kind not in _OURS or (leftover.image != test.lock.image and not is_overdue):
                continue
            if leftover.is_over:
                leftovers.remove(ec2, leftover.kind, leftover.id)
                removed += 1
            else:
                until = "with an expiry that is no time"
                if leftover.expires:
                    until = f"until {leftover.expires:%Y-%m-%d %H:%M} UTC"
                kept.append(
                    f"{region}: {leftover.kind} {leftover.id} of "
                    f"{leftover.owner or 'an unknown owner'} stays: it is in "
                    f"use, or was left by a kill, {until}"
                )
    if removed:
        return [f"{removed} things removed that an earlier run left", *kept]
    return kept


def run(
    test: GpuTest, offers_by_class: Mapping[str, Sequence[Offer]], progress: Progress
) -> GpuTestRecord:
    """Test the candidate on one instance of each class, and return the record. Raises
    NotVerified, with the check's output, if a check fails."""
    machines = []
    for gpu_class, offers in offers_by_class.items():
        with progress.step(gpu_classes.words(gpu_class)):
            machines.append(_test_class(test, offers, progress))
    tested = next(iter(test.candidates.values())).tags
    return GpuTestRecord(
        image=test.lock.image,
        build_id=test.build_id,
        nonce=test.nonce,
        at=clock.stamp(),
        by=tags.owner(),
        lock_sha256=tested[tags.LOCK_SHA256],
        disk_sha256=tested.get(tags.DISK_SHA256),
        manifest_sha256=tested.get(tags.MANIFEST_SHA256),
        checks=tuple(required(test.root, test.roles)),
        machines=tuple(machines),
    )


def _test_class(test: GpuTest, offers: Sequence[Offer], progress: Progress) -> TestedGpu:
    """Test the candidate on the first of the offers that EC2 grants, in rounds for `wait_s`."""
    refused: Refused = {}

    def one_round() -> TestedGpu | None:
        # Refusals that may pass are tried again in each round.
        for path in [path for path, error in refused.items() if error.refusal.may_pass]:
            del refused[path]
        for offer in offers:
            if _refusing(offer, refused):
                continue
            try:
                return gpu_machine.test_offer(test, offer, progress)
            except NotLaunched as error:
                progress.say(f"{error.message} ({offer.market})")
                # A refusal of a whole region or market, say, spares us its other offers.
                refused[offer.path[: error.refusal.instead]] = error
            except SpotInterrupted:
                progress.say(
                    f"EC2 took the Spot instance {offer.kind.type} in {offer.zone} back: "
                    "trying another"
                )
        if _are_final(offers, refused):
            raise _not_granted(offers, refused)
        progress.say("no capacity in this round")
        return None

    tested = wait_for(one_round, limit_s=test.wait_s, pauses=ROUND_S)
    if tested is None:
        raise _not_granted(offers, refused)
    return tested


def _refusing(offer: Offer, refused: Refused) -> NotLaunched | None:
    """The refusal that applies to an offer, or None."""
    for depth in range(1, len(offer.path) + 1):
        if refusal := refused.get(offer.path[:depth]):
            return refusal
    return None


def _are_final(offers: Sequence[Offer], refused: Refused) -> bool:
    for offer in offers:
        error = _refusing(offer, refused)
        if error is None or error.refusal.may_pass:
            return False
    return True


def _not_granted(offers: Sequence[Offer], refused: Refused) -> GoldenError:
    """The error if no offer was granted: the refusals, except those of single zones, and what to
    do."""
    gpu_class = offers[0].gpu_class
    wide, causes, hints = dict(refused), set[str](), dict[str, None]()
    for path, error in refused.items():
        if error.refusal.instead is Instead.ZONE:
            del wide[path]
            continue
        hints[error.refusal.hint] = None
        if path[1:]:
            causes.add(f"{error.message} ({path[1]})")
        else:
            causes.add(error.message)
    message = f"EC2 has no machine of class {gpu_class} for us: {len(offers)} offers tried"
    if _are_final(offers, refused):
        message = f"the account allows no machine of class {gpu_class}"
    else:
        hints["wait longer by --wait-minutes, or publish to a region with capacity"] = None
    if QUOTA in hints:
        quotas = sorted({_quota(offer) for offer in offers if _refusing(offer, wide)})
        hints = {f"raise {' and '.join(quotas)} (Service Quotas)": None, **hints}
        del hints[QUOTA]
    return StageFailed(
        "; ".join([message, *sorted(causes)]), hint=f"{'; '.join(hints)}; then run again"
    )


def _quota(offer: Offer) -> str:
    """Service Quotas' name for the limit of an offer."""
    group = "G and VT"
    if offer.kind.type.startswith("p"):
        group = "P"
    return _QUOTAS[offer.spot, group]
