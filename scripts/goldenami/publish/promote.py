"""The `promote` stage: `latest` takes the build that stood as candidate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from goldenami.aws import tags
from goldenami.aws.channels import channels, lease
from goldenami.aws.channels.channels import RegionState
from goldenami.aws.channels.lease import LeaseState
from goldenami.aws.channels.ledger import Channel, GpuProof, Ledger, LedgerEntry
from goldenami.aws.channels.pointers import Version
from goldenami.aws.images import State
from goldenami.aws.regions import all_or_none, each
from goldenami.aws.session import Account, check_regions
from goldenami.core import clock, records
from goldenami.core.errors import BadInput
from goldenami.core.progress import Progress
from goldenami.model.definition import Definition
from goldenami.publish import channel_moves
from goldenami.publish.publish_records import PROMOTE_FILE, MovePlan, MoveRecord, RegionMove

NOTHING = "nothing is changed"


@dataclass(frozen=True)
class RegionCandidate:
    """What stands in a region, and the ledger that says so."""

    mark: LedgerEntry
    ledger: Ledger


def candidate(account: Account, wanted: Definition) -> dict[str, RegionCandidate]:
    """The candidate of every region, or BadInput where one has none, they differ, or it must not become `latest`."""
    regions, image = channels.published(wanted).regions, wanted.image
    check_regions(regions)
    seen: dict[str, LeaseState] = each(regions, lambda region: lease.look(account.dynamodb(region), image)).all(
        NOTHING, "then run again")
    found = {region: RegionCandidate(mark, each_of.ledger) for region, each_of in seen.items()
             if (mark := each_of.ledger.candidate)}
    if bare := sorted(seen.keys() - found.keys()):
        raise BadInput(f"{image} has no candidate in {', '.join(bare)}", hint=f"`golden publish {image}` makes one")
    if len({one.mark.build_id for one in found.values()}) > 1:
        raise BadInput(f"the candidates of {image} differ: "
                       + ", ".join(f"{region} has {one.mark.build_id}" for region, one in found.items()),
                       hint=f"`golden publish {image}` brings them together")
    for region, one in found.items():
        _check_forward(region, one)
    return found


def _check_forward(region: str, found: RegionCandidate) -> None:
    build, latest = found.mark.build_id, found.ledger.latest
    if build in found.ledger.withdrawn:
        raise BadInput(f"the candidate {build} was rolled back in {region}",
                       hint="publish a new build; if this one is good after all, publish it with --again")
    if latest and latest.baked > found.mark.baked:
        raise BadInput(f"latest in {region} names build {latest.build_id}, which is newer than the candidate {build} "
                       f"(baked {latest.baked_at} and {found.mark.baked_at})",
                       hint="`golden rollback --to` goes back on purpose")


def prepare(
    account: Account, wanted: Definition, found: dict[str, RegionCandidate], attested: GpuProof,
    options: channel_moves.MoveOptions,
) -> MovePlan:
    """What would move, or NotVerified for a candidate too young or untested. `attested` is what is known here."""
    marks = {region: one.mark for region, one in found.items()}
    build = next(iter(marks.values())).build_id
    gpu = channel_moves.gpu([mark.gpu for mark in marks.values()], attested, accept=options.accept_untested_gpu)
    channel_moves.check_gpu(wanted.image, build, gpu)
    if not options.now:
        channel_moves.check_soaked(build, [mark.since for mark in marks.values()],
                                   channels.published(wanted).soak_hours)
    standings = each(marks, lambda region: channels.look(account, region, wanted.image, build)).all(
        NOTHING, "then run again")
    moving = {region: _move(standing, found[region], gpu, wanted) for region, standing in standings.items()}
    due = channels.outstanding(account, wanted, {
        region: channels.stands(standing, build, marks[region].ami, wanted) for region, standing in standings.items()})
    return MovePlan(image=wanted.image, build_id=build, account=account.number(next(iter(marks))), regions=tuple(
        move.model_copy(update={"refresh": tuple(due[region])}) for region, move in moving.items()))


def _move(standing: RegionState, found: RegionCandidate, gpu: GpuProof, wanted: Definition) -> RegionMove:
    mark, latest = found.mark, found.ledger.latest
    if standing.image is None or standing.image.state != State.AVAILABLE or standing.image.ami != mark.ami:
        raise BadInput(f"the candidate's AMI {mark.ami} is gone or not available in {standing.region}",
                       hint=f"`golden publish {wanted.image} --build {mark.build_id}` makes it again")
    return RegionMove(region=standing.region, ami=mark.ami, baked_at=mark.baked_at, gpu=gpu,
                      ledger=found.ledger.digest, before_build=latest.build_id if latest else None,
                      candidate_before=standing.pointers.get(Channel.CANDIDATE),
                      before=standing.pointers.get(Channel.LATEST),
                      template_before=standing.template.number if standing.template else None)


def execute(account: Account, wanted: Definition, plan: MovePlan, folder: Path, progress: Progress) -> MoveRecord:
    """Move `latest` in every region or in none, under one set of leases, then the groups; writes promote.json to
    `folder`.
    """
    moving = {move.region: move for move in plan.regions}

    continues = f"`golden promote {plan.image}` continues"

    def forward(region: str) -> Version:
        return channel_moves.apply(account, wanted, plan, moving[region], leases[region])

    def back(region: str) -> None:
        channels.put_back(account, region, plan.image, leases[region], channels.RestorePoint(
            former[region], {Channel.LATEST: moving[region].before}, (moving[region].template_before,)))

    def follow(region: str) -> None:
        channels.refresh_groups(account, wanted, region, moving[region].refresh, versions[region], progress)

    with lease.held(account, plan.image, list(moving)) as leases, progress.step("latest"):
        each(moving, lambda region: channel_moves.check_unmoved(account, plan, moving[region], leases[region])).all(
            NOTHING, f"`golden promote {plan.image}`")
        former = {region: held.ledger for region, held in leases.items()}
        versions = all_or_none(moving, forward, back, continues)
        each(moving, follow).all("`latest` has moved, but not every group follows", continues)
    record = MoveRecord(plan=plan, at=clock.stamp(), by=tags.owner(), failed={},
                        template_versions={region: version.number for region, version in versions.items()})
    records.write(folder / PROMOTE_FILE, record)
    return record
