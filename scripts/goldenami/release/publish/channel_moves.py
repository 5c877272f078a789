"""Moving `latest` to a build that the account has: what `promote` and `rollback` share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from goldenami.aws import images
from goldenami.aws.channels import channels, pointers
from goldenami.aws.channels.channels import RegionBuild
from goldenami.aws.channels.evidence import Evidence, GpuFinding, Judge
from goldenami.aws.channels.lease import Lease
from goldenami.aws.channels.ledger import Channel, GpuProof, Ledger
from goldenami.aws.channels.pointers import Version
from goldenami.aws.inventory.topology import AmiState
from goldenami.aws.regions import for_each_region
from goldenami.aws.session import Account
from goldenami.core import clock
from goldenami.core.errors import Busy, NotVerified
from goldenami.model.definitions.definition import Definition
from goldenami.release.publish.publish_records import MovePlan, RegionMove


@dataclass(frozen=True)
class MoveOptions:
    """What a person allows on the command line."""

    accept_untested_gpu: bool = False
    now: bool = False


def show(verb: str, plan: MovePlan) -> list[str]:
    """The plan for a person."""
    lines = [f"{verb} {plan.image} to build {plan.build_id} in account {plan.account}"]
    if plan.is_repeated:
        where = ", ".join(move.region for move in plan.regions)
        lines.append(f"  {plan.image} is already at {plan.build_id} in {where}: its pointers are "
                     "written again and "
                     "read back")
        if plan.further:
            lines.append(f"  `golden rollback {plan.image} --to {plan.further}` goes one build "
                         "further")
    template = plan.template or pointers.template_name(plan.image)
    for move in plan.regions:
        lines.append(f"  {move.region:<15} latest {move.before or 'nothing'} -> {move.ami}; "
                     f"default of {template}: version {move.template_before or 'none'} -> "
                     f"one with {move.ami}" + ("; candidate too" if move.candidate else ""))
        lines += [f"  {move.region:<15} refresh the group {group}" for group in move.refresh]
    lines += [f"  {region:<15} {channels.DROPPED}" for region in plan.dropped]
    lines += [f"  {region:<15} unreachable: {cause}" for region, cause in plan.unreachable.items()]
    if plan.withdraw:
        lines.append("  withdrawn, so that no publish brings it back unasked: "
                     f"{', '.join(plan.withdraw)}")
    return lines


def evidence_of(image: str, build: str, states: Iterable[RegionBuild]) -> Evidence:
    """What a test on GPUs has to be of: what the regions have of a build."""
    known = list(states)
    amis = {state.region: state.image for state in known if state.image}
    own = next((ami.tags for ami in amis.values()), {})
    return Evidence(image, build, own, amis,
                    {state.region: state.gpu_test for state in known if state.gpu_test})


def on_gpus(
    account: Account, definition: Definition, build: str, regions: Iterable[str], judge: Judge
) -> GpuFinding:
    """What is known on a GPU of what the regions have of a build."""
    states = for_each_region(
        regions, lambda region: channels.read_region(account, region, definition, build)
    ).require_all()
    return judge(evidence_of(definition.image, build, states.values()))


def gpu(
    image: str, build: str, published: Iterable[GpuProof], found: GpuFinding, *, accept: bool
) -> GpuProof:
    """What is known of a build on a GPU: of the ledgers (`published`), which prove nothing, that a
    person accepted it.

    NotVerified for a build of a GPU image that no GPU has seen, unless a person accepts or accepted
    that.
    """
    if found.proof is not GpuProof.UNTESTED:
        return found.proof
    if accept or set(published) == {GpuProof.ACCEPTED}:
        return GpuProof.ACCEPTED
    raise NotVerified(f"build {build} is not tested on a GPU"
                      + (f": {found.problem}" if found.problem else ""),
                      hint=f"`golden gpu-test {image}` tests the candidate; "
                           "--accept-untested-gpu goes on without, and that is recorded")


def soaked_at(since: Iterable[str], hours: int) -> datetime:
    """When a candidate has stood long enough. `since` is when it became one, in each region."""
    return max(map(datetime.fromisoformat, since)) + timedelta(hours=hours)


def check_soaked(build: str, since: Iterable[str], hours: int) -> None:
    """NotVerified for a candidate that has not stood long enough. `since` is when it became one, in
    each region."""
    ready = soaked_at(since, hours)
    if clock.now() < ready:
        raise NotVerified(f"the candidate {build} has to stand until {ready:%Y-%m-%d %H:%M} UTC",
                          hint="move `latest` to it then; --now does not wait")


def region_move(
    region: str, ami: str, baked_at: str, gpu: GpuProof, ledger: Ledger,
    amis: Mapping[Channel, str],
    template: Version | None,
) -> RegionMove:
    """The move of one region, which has this ledger, these AMIs in its channels and this default
    version now."""
    return RegionMove(
        region=region, ami=ami, baked_at=baked_at, gpu=gpu, ledger=ledger.digest,
        before_build=ledger.latest.build_id if ledger.latest else None,
        before=amis.get(Channel.LATEST),
        candidate_before=amis.get(Channel.CANDIDATE),
        template_before=template.number if template else None)


def check_unmoved(account: Account, plan: MovePlan, move: RegionMove, lease: Lease) -> None:
    """Busy where a region, looked at under its lease, is no longer what the plan was made of, or
    has lost the AMI.

    The ledger is what tells: it is read consistently, and parameters are not.
    """
    changed = [] if lease.ledger.digest == move.ledger else [f"the ledger of {plan.image}"]
    image = images.get(account.ec2(move.region), [move.ami]).get(move.ami)
    if image is None or image.state != AmiState.AVAILABLE:
        changed.append(f"{move.ami} (now {image.state if image else 'gone'})")
    if changed:
        raise Busy(f"another run changed {', '.join(changed)} in {move.region} after the plan was "
                   "made",
                   hint="run again: the plan is made anew")


def apply(
    account: Account, definition: Definition, plan: MovePlan, move: RegionMove, lease: Lease, *,
    reuse_version: bool = False,
) -> Version:
    """Move one region's pointers under its lease: the ledger in one write, the parameters, the
    template's default last.

    `reuse_version`: a version of the template that launched this AMI before is taken, whatever the
    definition says now.
    """
    entry = channels.new_entry(plan.build_id, move.ami, move.baked_at, move.gpu, lease)
    moving = [Channel.LATEST, *([Channel.CANDIDATE] if move.candidate else [])]
    ledger = lease.ledger.readmit(plan.build_id).withdraw(*plan.withdraw)
    for channel in moving:
        ledger = ledger.moved(channel, entry)
    lease.record(ledger.spread(channels.publish_section(definition).regions))
    version = channels.follow_ledger(account, move.region, lease, definition, moving=moving,
                                     reuse_version=reuse_version)
    assert version is not None  # the ledger names `latest`
    return version
