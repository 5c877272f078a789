"""Moves of channels to a build in the account: what `publish`, `promote` and `rollback` share."""

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
from goldenami.aws.channels.lease import Lease, new_entry
from goldenami.aws.channels.ledger import Channel, GpuProof, Ledger
from goldenami.aws.channels.pointers import Version
from goldenami.aws.images import AmiState, Image
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
    """The criteria for a build that is to be `latest`: the judge of its GPU test, and what a person
    allows: an untested GPU, and a move `now`, without waiting for the soak to end."""

    judge: GpuJudge
    accept_untested_gpu: bool = False
    now: bool = False


def lines(verb: str, plan: MovePlan) -> list[str]:
    """The plan in lines for a person."""
    lines = [f"{verb} {plan.image} to build {plan.build_id} in account {plan.account}"]
    if plan.is_repeated:
        regions = ", ".join(move.region for move in plan.regions)
        lines.append(
            f"  {plan.image} is already at {plan.build_id} in {regions}: its pointers are "
            "written again and "
            "read back"
        )
        if plan.further:
            lines.append(
                f"  `golden rollback {plan.image} --to {plan.further}` goes one build further"
            )
    template = plan.template or pointers.template_name(plan.image)
    for move in plan.regions:
        before = move.before.get(Channel.LATEST) or "nothing"
        after = f"one with {move.ami}"
        if move.template_stays:
            after = "it stays, since somebody set it"
        if Channel.CANDIDATE in move.channels:
            after += "; candidate too"
        lines.append(
            f"  {move.region:<15} latest {before} -> {move.ami}; "
            f"default of {template}: version {move.template_before or 'none'} -> {after}"
        )
        for group in move.refresh:
            lines.append(f"  {move.region:<15} refresh the group {group}")
    for region in plan.dropped:
        lines.append(f"  {region:<15} {channels.DROPPED}")
    for region, cause in plan.unreachable.items():
        lines.append(f"  {region:<15} left as it is: {cause}")
    if plan.withdraw:
        lines.append(
            f"  withdrawn, so that no publish brings it back unasked: {', '.join(plan.withdraw)}"
        )
    return lines


def evidence_of(image: str, build: str, states: Iterable[RegionBuild]) -> Evidence:
    """Collect the regions' AMIs and GPU test records of a build, for a `GpuJudge`."""
    amis, tests = dict[str, Image](), dict[str, str]()
    for state in states:
        if state.image:
            amis[state.region] = state.image
        if state.gpu_test:
            tests[state.region] = state.gpu_test
    own_tags = next((ami.tags for ami in amis.values()), {})
    return Evidence(image, build, own_tags, amis, tests)


def on_gpus(
    image: ImageInAccount, build: str, regions: Iterable[str], judge: GpuJudge
) -> GpuFinding:
    """Judge the GPU tests of a build by what the regions have of it."""
    states = image.read_build(regions, build).require_all()
    return judge(evidence_of(image.name, build, states.values()))


def gpu(
    image: str, build: str, published: Iterable[GpuProof], finding: GpuFinding, *, accept: bool
) -> GpuProof:
    """Return the build's GPU proof. Raises NotVerified for a build that is not tested on a GPU,
    unless a person accepts that now, or accepted it in every ledger (`published`)."""
    if finding.proof is not GpuProof.UNTESTED:
        return finding.proof
    if accept or set(published) == {GpuProof.ACCEPTED}:
        return GpuProof.ACCEPTED
    problem = f"build {build} is not tested on a GPU"
    if finding.problem:
        problem += f": {finding.problem}"
    raise NotVerified(
        problem,
        hint=f"`golden gpu-test {image}` tests the candidate; "
        "--accept-untested-gpu goes on without, and that is recorded",
    )


def soaked_at(since: Iterable[str], hours: int) -> datetime:
    """When a candidate's soak ends. `since` are the times at which it became the candidate in each
    region."""
    return max(map(datetime.fromisoformat, since)) + timedelta(hours=hours)


def check_soaked(build: str, since: Iterable[str], hours: int) -> None:
    """Raise NotVerified for a candidate whose soak has not ended."""
    ready = soaked_at(since, hours)
    if clock.now() < ready:
        raise NotVerified(
            f"the candidate {build} has to stand until {ready:%Y-%m-%d %H:%M} UTC",
            hint="move `latest` to it then; --now does not wait",
        )


@dataclass(frozen=True)
class Successor:
    """The build that an image's channels are to name next. `called` is its name in messages."""

    image: str
    build_id: str
    baked_at: str
    channels: Sequence[Channel]
    called: str = ""

    def check_forward(self, region: str, ledger: Ledger) -> None:
        """Raise BadInput if a channel would move to an older build, or to a withdrawn one."""
        command = f"`golden rollback {self.image} --to {self.build_id}`"
        if self.build_id in ledger.withdrawn:
            raise BadInput(
                f"{self.called or 'build '}{self.build_id} was rolled back in {region}",
                hint=f"bake and publish a new build; if this one is good after all: {command}",
            )
        baked = datetime.fromisoformat(self.baked_at)
        for channel in self.channels:
            entry = ledger.of(channel)
            if entry and entry.build_id != self.build_id and entry.baked > baked:
                raise BadInput(
                    f"{channel} in {region} names build {entry.build_id}, which is newer "
                    f"than {self.called}{self.build_id} (baked {entry.baked_at} and "
                    f"{self.baked_at})",
                    hint=f"to go back on purpose: {command}",
                )


def region_move(current: RegionPointers, ami: str, baked_at: str, gpu: GpuProof) -> RegionMove:
    """The move of a region's pointers to an AMI, from those that it has now."""
    before_build = template_before = None
    if current.ledger.latest:
        before_build = current.ledger.latest.build_id
    if current.template:
        template_before = current.template.number
    return RegionMove(
        region=current.region,
        ami=ami,
        baked_at=baked_at,
        gpu=gpu,
        ledger=current.ledger.digest,
        before_build=before_build,
        before=dict(current.amis),
        template_before=template_before,
        template_stays=current.template is not None and current.template.is_by_hand,
    )


def check_unmoved(account: Account, plan: MovePlan, move: RegionMove, lease: Lease) -> None:
    """Check under a region's lease that the plan still fits.

    Raises Busy if the ledger has changed since the plan was made, or the AMI is gone; BadInput if
    the AMI's key cannot be used, since every launch would fail.
    """
    check_ledger(plan.image, move.region, move.ledger, lease.ledger)
    image = images.get(account.ec2(move.region), [move.ami]).get(move.ami)
    if image is None:
        raise _changed(f"{move.ami} (now gone)", move.region)
    if image.state != AmiState.AVAILABLE:
        raise _changed(f"{move.ami} (now {image.state})", move.region)
    if image.root.get("Encrypted"):
        encryption.of_snapshot(account, move.region, image.snapshot)


def check_ledger(image: str, region: str, planned: str, ledger: Ledger) -> None:
    """Raise Busy if a region's ledger does not have the digest `planned`."""
    # Parameters would not do: reads of them may be out of date.
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
    """Move one region's pointers under its lease: first the ledger in one write, then the
    parameters, last the template's default. Return the template's version.

    With `reuse_version` a version of the template that launches this AMI is used, whatever the
    definition says now, and a default that a person set stays.
    """
    entry = new_entry(plan.build_id, move.ami, move.baked_at, move.gpu, lease)
    # A build that channels name again, on purpose, is not withdrawn any more.
    ledger = lease.ledger.readmit(plan.build_id)
    for channel in move.channels:
        ledger = ledger.moved(channel, entry)
    # A build that a channel names after the move must not be withdrawn by it.
    named_builds = {entry.build_id for entry in (ledger.candidate, ledger.latest) if entry}
    ledger = ledger.withdraw(*({*plan.withdraw} - named_builds))
    lease.record(ledger.with_regions(image.section.regions))
    return image.in_region(move.region).follow_ledger(
        lease, moving=move.channels, reuse_version=reuse_version
    )


def _restore_point(ledger: Ledger, move: RegionMove) -> RestorePoint:
    return RestorePoint(
        ledger,
        {channel: move.before.get(channel) for channel in move.channels},
        moves_template=Channel.LATEST in move.channels,
        template_version=move.template_before,
    )


def move_all(
    image: ImageInAccount,
    plan: MovePlan,
    leases: Mapping[str, Lease],
    progress: Progress,
    continues: str,
) -> dict[str, Version | None]:
    """Move the channels in every region or in none, then start the groups' refreshes. Return the
    template's version in each region."""
    moves = {move.region: move for move in plan.regions}
    points = {region: _restore_point(leases[region].ledger, move) for region, move in moves.items()}
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
