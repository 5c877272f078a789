"""The `promote` stage: `latest` takes the build that stood as candidate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from goldenami.aws.calls import wait_for
from goldenami.aws.channels import channels, pointers
from goldenami.aws.channels.channels import RegionBuild, RestorePoint
from goldenami.aws.channels.evidence import Judge
from goldenami.aws.channels.lease import hold_leases
from goldenami.aws.channels.ledger import Channel, GpuProof, Ledger, LedgerEntry, untold
from goldenami.aws.channels.pointers import Version
from goldenami.aws.inventory.topology import AmiState
from goldenami.aws.regions import all_or_none, for_each_region
from goldenami.aws.session import Account, check_regions
from goldenami.core.errors import BadInput
from goldenami.core.terminal.progress import Progress
from goldenami.model.definitions.definition import Definition
from goldenami.release.publish import attesting, channel_moves
from goldenami.release.publish.channel_moves import MoveOptions
from goldenami.release.publish.publish_records import MovePlan, RegionMove

SHOWN_S, SHOWN_POLL_S = 5.0, 0.5
"""Seconds for which an AMI may not be shown that was made a moment ago ("Eventual consistency in
the Amazon EC2 API": a couple of seconds at first); a promotion of one that is gone takes as many.
And the pause between two looks."""


@dataclass(frozen=True)
class RegionCandidate:
    """The candidate of a region, and the ledger that names it."""

    entry: LedgerEntry
    ledger: Ledger


def read_candidates(
    account: Account, image: str, regions: Sequence[str]
) -> dict[str, RegionCandidate]:
    """The candidate of each region that has one."""
    ledgers = channels.read_ledgers(account, image, regions).require_all()
    return {region: RegionCandidate(entry, ledger) for region, ledger in ledgers.items()
            if (entry := ledger.candidate)}


def candidates(account: Account, definition: Definition) -> dict[str, RegionCandidate]:
    """The candidate of every region, or BadInput where one has none, they differ, or it must not
    become `latest`."""
    regions, image = channels.publish_section(definition).regions, definition.image
    check_regions(regions)
    found = read_candidates(account, image, regions)
    if bare := sorted(set(regions) - found.keys()):
        raise BadInput(f"{image} has no candidate in {', '.join(bare)}",
                       hint=f"`golden publish {image}` makes one")
    builds = {region: candidate.entry.build_id for region, candidate in found.items()}
    if len(set(builds.values())) > 1:
        raise BadInput(f"the candidates of {image} differ: "
                       + ", ".join(f"{region} has {build}" for region, build in builds.items()),
                       hint=f"`golden publish {image}` brings them together")
    for region, candidate in found.items():
        _check_forward(region, candidate)
    return found


def _check_forward(region: str, candidate: RegionCandidate) -> None:
    build, latest = candidate.entry.build_id, candidate.ledger.latest
    if build in candidate.ledger.withdrawn:
        raise BadInput(f"the candidate {build} was rolled back in {region}",
                       hint="publish a new build; if this one is good after all: "
                            f"`golden rollback IMAGE --to {build}`")
    if latest and latest.baked > candidate.entry.baked:
        raise BadInput(f"latest in {region} names build {latest.build_id}, which is newer than "
                       f"the candidate {build} "
                       f"(baked {latest.baked_at} and {candidate.entry.baked_at})",
                       hint=f"`golden rollback IMAGE --to {build}` goes back on purpose")


def prepare(
    account: Account, definition: Definition, found: dict[str, RegionCandidate], judge: Judge,
    options: MoveOptions,
) -> MovePlan:
    """What would move, or NotVerified for a candidate too young, untested or unsigned.

    `found` are the candidates of the regions, `judge` says what is known of the build on a GPU.
    """
    account, image = account.with_short_timeouts(), definition.image
    entries = {region: candidate.entry for region, candidate in found.items()}
    ledgers = {region: candidate.ledger for region, candidate in found.items()}
    build = next(iter(entries.values())).build_id
    if not options.now:
        channel_moves.check_soaked(build, [entry.since for entry in entries.values()],
                                   channels.publish_section(definition).soak_hours)
    states = for_each_region(
        entries, lambda region: _read(account, region, definition, entries[region])).require_all()
    for state in states.values():
        pointers.check_default(state.template, pointers.template_name(image), state.region)
    attesting.check_signed(definition, states)
    gpu = channel_moves.gpu(image, build, [entry.gpu for entry in entries.values()],
                            judge(channel_moves.evidence_of(image, build, states.values())),
                            accept=options.accept_untested_gpu)
    moves = {region: _move(state, found[region], gpu, image) for region, state in states.items()}
    due = channels.groups_to_refresh(account, definition, {
        region: channels.current_default(state, build, entries[region].ami, definition)
        for region, state in states.items()})
    number = account.expect(channels.publish_section(definition).account, next(iter(entries)))
    return MovePlan(image=image, build_id=build, account=number,
                    template=pointers.template_name(image),
                    withdraw=tuple(untold(ledgers, ledgers)),
                    dropped=channels.dropped(
                        definition, (ledger.regions for ledger in ledgers.values())),
                    regions=tuple(
        move.model_copy(update={"refresh": tuple(due[region])}) for region, move in moves.items()))


def _read(account: Account, region: str, definition: Definition, entry: LedgerEntry) -> RegionBuild:
    """What a region has of its candidate; asked again for SHOWN_S while EC2 does not show the AMI
    as available."""
    looks: list[RegionBuild] = []

    def shown() -> bool | None:
        looks.append(channels.read_region(account, region, definition, entry.build_id))
        return _is_launchable(looks[-1], entry) or None

    wait_for(shown, limit_s=SHOWN_S, pauses=SHOWN_POLL_S)
    return looks[-1]


def _is_launchable(state: RegionBuild, entry: LedgerEntry) -> bool:
    ami = state.image
    return ami is not None and ami.state == AmiState.AVAILABLE and ami.ami == entry.ami


def _move(state: RegionBuild, candidate: RegionCandidate, gpu: GpuProof, image: str) -> RegionMove:
    entry = candidate.entry
    if not _is_launchable(state, entry):
        raise BadInput(f"the candidate's AMI {entry.ami} is gone or not available in {state.region}",
                       hint=f"`golden publish {image} --build {entry.build_id}` makes it again")
    return channel_moves.region_move(state.region, entry.ami, entry.baked_at, gpu, candidate.ledger,
                                     state.pointers,
                                     state.template)


def execute(
    account: Account, definition: Definition, plan: MovePlan, progress: Progress,
) -> None:
    """Move `latest` in every region or in none, under one set of leases, then the groups."""
    moves = {move.region: move for move in plan.regions}
    continues = f"`golden promote {plan.image}` continues"

    def forward(region: str) -> Version:
        return channel_moves.apply(account, definition, plan, moves[region], leases[region])

    def back(region: str) -> None:
        channels.restore(account, region, definition, leases[region], restore_points[region])

    def follow(region: str) -> None:
        channels.refresh_groups(account, definition, region, moves[region].refresh,
                                versions[region], progress)

    with hold_leases(account, plan.image, list(moves)) as leases, progress.step("latest"):
        hasty = account.with_short_timeouts()
        for_each_region(moves, lambda region: channel_moves.check_unmoved(
            hasty, plan, moves[region], leases[region])).require_all(
                hint=f"`golden promote {plan.image}`")
        restore_points = {region: RestorePoint(
            leases[region].ledger, {Channel.LATEST: move.before}, moves_template=True,
            template_version=move.template_before) for region, move in moves.items()}
        versions = all_or_none(moves, forward, back, continues)
        for_each_region(moves, follow).require_all(
            "`latest` has moved, but not every group follows", continues
        )
