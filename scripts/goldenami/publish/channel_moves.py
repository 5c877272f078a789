"""Moving `latest` to a build that the account has: what `promote` and `rollback` have in common."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from goldenami.aws import images
from goldenami.aws.channels import channels, pointers
from goldenami.aws.channels.lease import Lease
from goldenami.aws.channels.ledger import Channel, GpuProof
from goldenami.aws.channels.pointers import Version
from goldenami.aws.session import Account
from goldenami.core import clock
from goldenami.core.errors import Busy, NotVerified
from goldenami.model.definition import Definition
from goldenami.publish.publish_records import MovePlan, RegionMove


@dataclass(frozen=True)
class MoveOptions:
    """What a person allows on the command line."""

    accept_untested_gpu: bool = False
    now: bool = False


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


def gpu(published: Iterable[GpuProof], attested: GpuProof, *, accept: bool) -> GpuProof:
    """What is known of a build on a GPU, by the regions' ledgers (`published`) and by this machine (`attested`)."""
    noted = set(published)
    for known in (GpuProof.NONE, GpuProof.TESTED, GpuProof.ACCEPTED):
        if known is attested or noted == {known}:
            return known
    return GpuProof.ACCEPTED if accept else GpuProof.UNTESTED


def check_gpu(image: str, build: str, known: GpuProof) -> None:
    """NotVerified for a build of a GPU image that no GPU has seen, unless a person accepted that."""
    if known is GpuProof.UNTESTED:
        raise NotVerified(f"build {build} is not tested on a GPU",
                          hint=f"`golden attest {image} --gpu-test FILE` records a test; "
                               "--accept-untested-gpu goes on without, and that is recorded")


def check_soaked(build: str, since: Iterable[str], hours: int) -> None:
    """NotVerified for a candidate that has not stood long enough. `since` is when it became one, in each region."""
    ready = max(map(datetime.fromisoformat, since)) + timedelta(hours=hours)
    if clock.now() < ready:
        raise NotVerified(f"the candidate {build} has to stand until {ready:%Y-%m-%d %H:%M} UTC",
                          hint="move `latest` to it then; --now does not wait")


def check_unmoved(account: Account, plan: MovePlan, move: RegionMove, held: Lease) -> None:
    """Busy where a region, looked at under its lease, is no longer what the plan was made of, or has lost the AMI."""
    names = {channel: pointers.channel_name(plan.image, channel) for channel in Channel}
    values = pointers.read(account.ssm(move.region), names.values())
    image = images.get(account.ec2(move.region), [move.ami]).get(move.ami)
    changed = [] if held.ledger.digest == move.ledger else [f"the ledger of {plan.image}"]
    changed += [name for name, before in ((names[Channel.LATEST], move.before),
                                          (names[Channel.CANDIDATE], move.candidate_before))
                if values.get(name) != before]
    if image is None or image.state != images.State.AVAILABLE:
        changed.append(f"{move.ami} (now {image.state if image else 'gone'})")
    if changed:
        raise Busy(f"another run changed {', '.join(changed)} in {move.region} after the plan was made",
                   hint="run again: the plan is made anew")


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
