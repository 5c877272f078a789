"""Moving `latest` to a build that the account has: what `promote` and `rollback` have in common."""

from __future__ import annotations

from goldenami import channels
from goldenami.aws import pointers
from goldenami.aws.lease import Lease
from goldenami.aws.ledger import Channel
from goldenami.aws.pointers import Version
from goldenami.aws.session import Account
from goldenami.definition import Definition
from goldenami.publish_records import MovePlan, RegionMove


def show(verb: str, plan: MovePlan) -> list[str]:
    """The plan for a person."""
    lines = [f"{verb} {plan.image} to build {plan.build_id} in account {plan.account}"]
    for move in plan.regions:
        lines.append(f"  {move.region:<15} latest {move.before or 'nothing'} -> {move.ami}; "
                     f"default of {pointers.template_name(plan.image)}: version {move.template_before or 'none'} -> "
                     f"one with {move.ami}" + ("; candidate too" if move.candidate else ""))
        lines += [f"  {move.region:<15} refresh the group {group}" for group in move.refresh]
    if plan.withdraw:
        lines.append(f"  withdrawn, so that no publish brings it back unasked: {', '.join(plan.withdraw)}")
    return lines


def apply(
    account: Account, wanted: Definition, plan: MovePlan, move: RegionMove, held: Lease, *, as_it_was: bool = False,
) -> Version:
    """Move one region's pointers under its lease: the ledger in one write, the parameters, the template's default last.

    `as_it_was`: a version of the template that launched this AMI before is taken, whatever the definition says now.
    """
    target = channels.mark(plan.build_id, move.ami, move.baked_at, move.gpu, held)
    moving = {Channel.LATEST: move.before, **({Channel.CANDIDATE: move.candidate_before} if move.candidate else {})}
    ledger = held.ledger.readmit(plan.build_id)
    for build in plan.withdraw:
        ledger = ledger.withdraw(build)
    for channel in moving:
        ledger = ledger.moved(channel, target)
    held.record(ledger)
    for channel, before in moving.items():
        channels.point(account, move.region, plan.image, channel, target, before)
    return channels.point_template(account, move.region, plan.image, target, wanted, as_it_was=as_it_was)
