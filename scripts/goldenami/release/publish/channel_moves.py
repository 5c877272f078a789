"""Moves of channels to a build of the account: what `publish`, `promote` and `rollback` share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from goldenami.aws import images
from goldenami.aws.channels import channels, pointers
from goldenami.aws.channels.channels import (
    ImageInAccount,
    RegionBuild,
    RegionPointers,
    RestorePoint,
)
from goldenami.aws.channels.evidence import Evidence, GpuFinding
from goldenami.aws.channels.lease import Lease
from goldenami.aws.channels.ledger import Channel, GpuProof, Ledger
from goldenami.aws.channels.pointers import Version
from goldenami.aws.images import AmiState
from goldenami.aws.regions import all_or_none, for_each_region
from goldenami.aws.session import Account
from goldenami.aws.snapshots import encryption
from goldenami.core import clock
from goldenami.core.errors import BadInput, Busy, NotVerified
from goldenami.core.terminal.progress import Progress
from goldenami.release.gpu_test.gpu_evidence import GpuJudge
from goldenami.release.publish.publish_records import MovePlan, RegionMove


@dataclass(frozen=True)
class Criteria:
    """What a build is judged by that is to be `latest`: what is known of it on a GPU, and what a
    person allows."""

    judge: GpuJudge
    accept_untested_gpu: bool = False
    now: bool = False


def show(verb: str, plan: MovePlan) -> list[str]:
    """The plan for a person."""
    lines = [f"{verb} {plan.image} to build {plan.build_id} in account {plan.account}"]
    if plan.is_repeated:
        where = ", ".join(move.region for move in plan.regions)
        lines.append(
            f"  {plan.image} is already at {plan.build_id} in {where}: its pointers are "
            "written again and "
            "read back"
        )
        if plan.further:
            lines.append(
                f"  `golden rollback {plan.image} --to {plan.further}` goes one build further"
            )
    template = plan.template or pointers.template_name(plan.image)
    for move in plan.regions:
        too = "; candidate too" if Channel.CANDIDATE in move.channels else ""
        before = move.before.get(Channel.LATEST) or "nothing"
        after = "it stays, since somebody set it" if move.template_stays else f"one with {move.ami}"
        lines.append(
            f"  {move.region:<15} latest {before} -> {move.ami}; "
            f"default of {template}: version {move.template_before or 'none'} -> "
            f"{after}{too}"
        )
        lines += [f"  {move.region:<15} refresh the group {group}" for group in move.refresh]
    lines += [f"  {region:<15} {channels.DROPPED}" for region in plan.dropped]
    lines += [
        f"  {region:<15} left as it is: {cause}" for region, cause in plan.unreachable.items()
    ]
    if plan.withdraw:
        lines.append(
            f"  withdrawn, so that no publish brings it back unasked: {', '.join(plan.withdraw)}"
        )
    return lines


def evidence_of(image: str, build: str, states: Iterable[RegionBuild]) -> Evidence:
    """What the regions have of a build, for the test on GPUs that has to be of it."""
    known = list(states)
    amis = {state.region: state.image for state in known if state.image}
    own = next((ami.tags for ami in amis.values()), {})
    return Evidence(
        image, build, own, amis, {state.region: state.gpu_test for state in known if state.gpu_test}
    )


def on_gpus(
    image: ImageInAccount, build: str, regions: Iterable[str], judge: GpuJudge
) -> GpuFinding:
    """What is known on a GPU of what the regions have of a build."""
    states = image.read_build(regions, build).require_all()
    return judge(evidence_of(image.name, build, states.values()))


def gpu(
    image: str, build: str, published: Iterable[GpuProof], found: GpuFinding, *, accept: bool
) -> GpuProof:
    """What is known of a build on a GPU; NotVerified where no GPU has seen it, unless a person
    accepts or, by all ledgers (`published`), accepted that."""
    if found.proof is not GpuProof.UNTESTED:
        return found.proof
    if accept or set(published) == {GpuProof.ACCEPTED}:
        return GpuProof.ACCEPTED
    raise NotVerified(
        f"build {build} is not tested on a GPU" + (f": {found.problem}" if found.problem else ""),
        hint=f"`golden gpu-test {image}` tests the candidate; "
        "--accept-untested-gpu goes on without, and that is recorded",
    )


def soaked_at(since: Iterable[str], hours: int) -> datetime:
    """When a candidate has stood long enough: `since` is when it became one, by region."""
    return max(map(datetime.fromisoformat, since)) + timedelta(hours=hours)


def check_soaked(build: str, since: Iterable[str], hours: int) -> None:
    """NotVerified for a candidate that has not stood long enough."""
    ready = soaked_at(since, hours)
    if clock.now() < ready:
        raise NotVerified(
            f"the candidate {build} has to stand until {ready:%Y-%m-%d %H:%M} UTC",
            hint="move `latest` to it then; --now does not wait",
        )


@dataclass(frozen=True)
class Successor:
    """A build that channels of an image are to name next; `called` is what a person calls it."""

    image: str
    build_id: str
    baked_at: str
    channels: Sequence[Channel]
    called: str = ""

    def check_forward(self, region: str, ledger: Ledger) -> None:
        """BadInput where a channel would go back, or a withdrawn build come back, by accident."""
        back = f"`golden rollback {self.image} --to {self.build_id}`"
        if self.build_id in ledger.withdrawn:
            raise BadInput(
                f"{self.called or 'build '}{self.build_id} was rolled back in {region}",
                hint=f"bake and publish a new build; if this one is good after all: {back}",
            )
        baked = datetime.fromisoformat(self.baked_at)
        for channel in self.channels:
            entry = ledger.of(channel)
            if entry and entry.build_id != self.build_id and entry.baked > baked:
                raise BadInput(
                    f"{channel} in {region} names build {entry.build_id}, which is newer "
                    f"than {self.called}{self.build_id} (baked {entry.baked_at} and "
                    f"{self.baked_at})",
                    hint=f"to go back on purpose: {back}",
                )


def region_move(there: RegionPointers, ami: str, baked_at: str, gpu: GpuProof) -> RegionMove:
    """The move of a region to an AMI, from what leads to the image `there`."""
    before, template = there.ledger.latest, there.template
    return RegionMove(
        region=there.region,
        ami=ami,
        baked_at=baked_at,
        gpu=gpu,
        ledger=there.ledger.digest,
        before_build=before.build_id if before else None,
        before=dict(there.amis),
        template_before=template.number if template else None,
        template_stays=template is not None and template.is_by_hand,
    )


def check_unmoved(account: Account, plan: MovePlan, move: RegionMove, lease: Lease) -> None:
    """Busy where a region, looked at under its lease, is no longer what the plan was made of, or
    has lost the AMI; BadInput where its disk's key cannot be used, and every launch would fail."""
    check_ledger(plan.image, move.region, move.ledger, lease.ledger)
    image = images.get(account.ec2(move.region), [move.ami]).get(move.ami)
    if image is None or image.state != AmiState.AVAILABLE:
        raise _changed(f"{move.ami} (now {image.state if image else 'gone'})", move.region)
    if image.root.get("Encrypted"):
        encryption.of_snapshot(account, move.region, image.snapshot)


def check_ledger(image: str, region: str, planned: str, ledger: Ledger) -> None:
    """Busy where a region's ledger has not the digest `planned`. Parameters do not tell: reads of
    them may lag."""
    if ledger.digest != planned:
        raise _changed(f"the ledger of {image}", region)


def _changed(what: str, region: str) -> Busy:
    return Busy(
        f"another run changed {what} in {region} after the plan was made",
        hint="run again: the plan is made anew",
    )


def apply(
    image: ImageInAccount,
    plan: MovePlan,
    move: RegionMove,
    lease: Lease,
    *,
    reuse_version: bool = False,
) -> Version | None:
    """Move one region's pointers under its lease: the ledger in one write, the parameters, the
    template's default last. Returns that version.

    `reuse_version`: a version of the template that launched this AMI before is taken, whatever the
    definition says now, and a default that a person set stays.
    """
    entry = channels.new_entry(plan.build_id, move.ami, move.baked_at, move.gpu, lease)
    ledger = lease.ledger.readmit(plan.build_id)
    for channel in move.channels:
        ledger = ledger.moved(channel, entry)
    named = {each.build_id for each in (ledger.candidate, ledger.latest) if each}
    ledger = ledger.withdraw(*({*plan.withdraw} - named))
    lease.record(ledger.spread(image.section.regions))
    return image.in_region(move.region).follow_ledger(
        lease, moving=move.channels, reuse_version=reuse_version
    )


def move_all(
    image: ImageInAccount,
    plan: MovePlan,
    leases: Mapping[str, Lease],
    progress: Progress,
    continues: str,
) -> dict[str, Version | None]:
    """Move the channels in every region or in none, then ask the groups to follow; returns the
    template's default version of each region."""
    moves = {move.region: move for move in plan.regions}
    points = {
        region: RestorePoint(
            leases[region].ledger,
            {channel: move.before.get(channel) for channel in move.channels},
            moves_template=Channel.LATEST in move.channels,
            template_version=move.template_before,
        )
        for region, move in moves.items()
    }
    versions = all_or_none(
        moves,
        lambda region: apply(image, plan, moves[region], leases[region]),
        lambda region: image.in_region(region).restore(leases[region], points[region]),
        continues,
    )

    def follow(region: str) -> None:
        if version := versions[region]:
            image.in_region(region).refresh_groups(moves[region].refresh, version, progress)

    for_each_region(moves, follow).require_all(
        "`latest` has moved, but not every group follows", continues
    )
    return versions
