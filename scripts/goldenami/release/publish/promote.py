"""The `promote` stage: `latest` moves to the candidate's build."""

from __future__ import annotations

from collections.abc import Mapping

from goldenami.aws import tags
from goldenami.aws.calls import wait_for
from goldenami.aws.channels import channels, pointers
from goldenami.aws.channels.channels import (
    ImageInAccount,
    ImageInRegion,
    RegionBuild,
    RegionPointers,
)
from goldenami.aws.channels.lease import hold_leases
from goldenami.aws.channels.ledger import Channel, Ledger, LedgerEntry, partly_withdrawn
from goldenami.aws.channels.pointers import Version
from goldenami.aws.images import AmiState
from goldenami.aws.regions import for_each_region
from goldenami.aws.session import check_regions
from goldenami.core.errors import BadInput, NotVerified
from goldenami.core.terminal.progress import Progress
from goldenami.model.definitions.definition import Definition
from goldenami.release.publish import channel_moves
from goldenami.release.publish.channel_moves import Criteria, Successor
from goldenami.release.publish.publish_records import MovePlan, RegionMove

SHOWN_S, SHOWN_POLL_S = 5.0, 0.5
"""Seconds for which EC2 may not show an AMI that was just made ("Eventual consistency in the Amazon
EC2 API": a couple of seconds at first), and between polls. Refusing a candidate whose AMI is gone
takes as long."""


def _candidates(ledgers: Mapping[str, Ledger]) -> dict[str, LedgerEntry]:
    """The candidate of each region that has one."""
    return {region: entry for region, ledger in ledgers.items() if (entry := ledger.candidate)}


def prepare(image: ImageInAccount, criteria: Criteria) -> MovePlan:
    """Plan the promotion. Raises BadInput if the regions have no candidate in common, NotVerified
    if it is too young, untested or unsigned."""
    image, section, name = image.with_short_timeouts, image.section, image.name
    check_regions(section.regions)
    ledgers = image.read_ledgers(section.regions).require_all()
    entries = _candidates(ledgers)
    build = _common(name, ledgers, entries)
    if not criteria.now:
        channel_moves.check_soaked(
            build, [entry.since for entry in entries.values()], section.soak_hours
        )
    states = for_each_region(
        entries, lambda region: _read(image.in_region(region), entries[region])
    ).require_all()
    for region, state in states.items():
        _check_types(image, state)
        pointers.check_default(state.template, pointers.template_name(name), region)
    _check_signed(image.definition, states)
    gpu = channel_moves.gpu(
        name,
        build,
        [entry.gpu for entry in entries.values()],
        criteria.judge(channel_moves.evidence_of(name, build, states.values())),
        accept=criteria.accept_untested_gpu,
    )
    defaults = dict[str, Version | None]()
    for region, state in states.items():
        ami = entries[region].ami
        defaults[region] = channels.current_default(state, build, ami, image.definition)
    due = image.groups_to_refresh(defaults)

    def move(region: str, state: RegionBuild) -> RegionMove:
        entry = entries[region]
        current = RegionPointers(region, ledgers[region], state.pointers, state.template)
        moved = channel_moves.region_move(current, entry.ami, entry.baked_at, gpu)
        return moved.model_copy(update={"refresh": tuple(due[region])})

    number = image.account.expect(section.account, next(iter(entries)))
    published_to = [ledger.regions for ledger in ledgers.values()]
    return MovePlan(
        image=name,
        build_id=build,
        account=number,
        template=pointers.template_name(name),
        withdraw=tuple(partly_withdrawn(ledgers, ledgers)),
        dropped=channels.dropped(image.definition, published_to),
        regions=tuple(move(region, state) for region, state in states.items()),
    )


def _common(image: str, ledgers: dict[str, Ledger], entries: dict[str, LedgerEntry]) -> str:
    """The build that is the candidate in every region. Raises BadInput if a region has none, if
    they differ, or if it must not become `latest`."""
    if without := sorted(ledgers.keys() - entries.keys()):
        raise BadInput(
            f"{image} has no candidate in {', '.join(without)}",
            hint=f"`golden publish {image}` makes one",
        )
    builds = {region: entry.build_id for region, entry in entries.items()}
    if len(set(builds.values())) > 1:
        listed = ", ".join(f"{region} has {build}" for region, build in builds.items())
        raise BadInput(
            f"the candidates of {image} differ: {listed}",
            hint=f"`golden publish {image}` brings them together",
        )
    for region, entry in entries.items():
        Successor(
            image, entry.build_id, entry.baked_at, [Channel.LATEST], "the candidate "
        ).check_forward(region, ledgers[region])
    return next(iter(builds.values()))


def _read(image: ImageInRegion, entry: LedgerEntry) -> RegionBuild:
    """Read the candidate's state in a region. Raises BadInput if EC2 does not show its AMI as
    available within SHOWN_S."""

    def available_state() -> RegionBuild | None:
        state = image.read_build(entry.build_id)
        ami = state.image
        is_there = ami is not None and ami.state == AmiState.AVAILABLE and ami.ami == entry.ami
        if not is_there:
            return None
        return state

    state = wait_for(available_state, limit_s=SHOWN_S, pauses=SHOWN_POLL_S)
    if state is None:
        raise BadInput(
            f"the candidate's AMI {entry.ami} is gone or not available in {image.region}",
            hint=f"`golden publish {image.name} --build {entry.build_id}` makes it again",
        )
    return state


def _check_types(image: ImageInAccount, state: RegionBuild) -> None:
    """Raise NotVerified if somebody changed the types that the candidate's AMI is launched on."""
    if state.image and state.image.has_other_types:
        raise NotVerified(
            f"somebody changed the instance types of {state.image.ami} in {state.region}: "
            f"{state.image.instance_types}",
            hint=f"`golden publish {image.name}` sets them again",
        )


def _is_signed(state: RegionBuild) -> bool:
    """Whether the AMI, if any, carries the digest of the region's signed envelopes."""
    if state.image is None:
        return True
    if state.attested is None:
        return False
    return state.image.tags.get(tags.PROVENANCE_SHA256) == state.attested.digest


def _check_signed(definition: Definition, states: Mapping[str, RegionBuild]) -> None:
    """Raise NotVerified if the definition demands signed builds and this one is not signed."""
    # Only that it is signed: whose signature it is can be told by the public key alone, which
    # `verify-provenance` has.
    unsigned = [region for region, state in states.items() if not _is_signed(state)]
    if definition.security.signed and unsigned:
        raise NotVerified(
            f"the candidate of {definition.image} is not signed in {', '.join(unsigned)}",
            hint=f"`golden publish {definition.image}` signs it, with the key that signs",
        )


def execute(image: ImageInAccount, plan: MovePlan, progress: Progress) -> None:
    """Move `latest` in every region or in none, under leases of all, then refresh the groups."""
    moves = {move.region: move for move in plan.regions}
    with hold_leases(image.account, plan.image, list(moves)) as leases, progress.step("latest"):
        account = image.with_short_timeouts.account
        for_each_region(
            moves,
            lambda region: channel_moves.check_unmoved(
                account, plan, moves[region], leases[region]
            ),
        ).require_all(hint=f"`golden promote {plan.image}`")
        channel_moves.move_all(
            image, plan, leases, progress, f"`golden promote {plan.image}` continues"
        )
