"""Plans what each region of a publish has and lacks, from the states that were read."""

from __future__ import annotations

from collections.abc import Iterator

from goldenami.aws import images, tags
from goldenami.aws.channels import attestations, channels, pointers
from goldenami.aws.channels.channels import ImageInAccount, RegionBuild
from goldenami.aws.channels.ledger import Channel
from goldenami.aws.images import Image
from goldenami.aws.instances import instance_types
from goldenami.aws.inventory import type_checks
from goldenami.aws.regions import for_each_region
from goldenami.core.errors import BadInput
from goldenami.image.provenance.provenance import Attestor
from goldenami.model.builds.build_records import Ami
from goldenami.model.definitions.definition import Definition
from goldenami.release.publish.channel_moves import Successor
from goldenami.release.publish.publish_records import Copy, PublishPlan, RegionPublishPlan
from goldenami.release.publish.release_gate import VerifiedBuild


def with_regions(
    image: ImageInAccount,
    build: VerifiedBuild,
    plan: PublishPlan,
    states: dict[str, RegionBuild],
) -> PublishPlan:
    """Add what each region lacks to the plan."""
    signs = build.signs
    signed = for_each_region(
        states, lambda region: signs is None or _is_signed(image, states[region], signs)
    ).require_all()
    planned_regions = {
        region: _region(state, plan, image.definition, build.bake.ami)
        for region, state in states.items()
    }
    due: dict[str, list[str]] = {}
    if not plan.held_back:
        due = _groups_to_refresh(image, states, planned_regions)
    completed = []
    for region, planned in planned_regions.items():
        changes = {"sign": not signed[region], "refresh": tuple(due.get(region, ()))}
        completed.append(planned.model_copy(update=changes))
    return plan.model_copy(update={"regions": tuple(completed)})


def _groups_to_refresh(
    image: ImageInAccount,
    states: dict[str, RegionBuild],
    planned_regions: dict[str, RegionPublishPlan],
) -> dict[str, list[str]]:
    """The groups to refresh, by region. A default that is to move does not exist yet."""
    defaults = {region: state.template for region, state in states.items()}
    for region, planned in planned_regions.items():
        if planned.moves_template:
            defaults[region] = None
    return image.groups_to_refresh(defaults)


def _is_signed(image: ImageInAccount, state: RegionBuild, signs: Attestor) -> bool:
    """Whether the build is signed by this key in the region, and AMI and snapshot carry the
    digest."""
    ami, attested = state.image, state.attested
    if ami is None or attested is None or ami.tags.get(tags.PROVENANCE_SHA256) != attested.digest:
        return False
    on_snapshot = attestations.snapshot_tags(image.account.ec2(state.region), ami)
    if on_snapshot.get(tags.PROVENANCE_SHA256) != attested.digest:
        return False
    return signs.is_right(state.region, ami, attested)


def _region(
    state: RegionBuild, plan: PublishPlan, definition: Definition, baked: Ami | None
) -> RegionPublishPlan:
    """Plan what one region lacks. `baked` is the AMI that a bake on EC2 made, or None if the build
    has a disk on this machine."""
    _check_home(state, plan, baked)
    ami = snapshot = template = template_ami = current = None
    if state.image:
        ami, snapshot = state.image.ami, state.image.snapshot
        current = channels.current_default(state, plan.build_id, ami, definition)
    if state.template:
        template, template_ami = state.template.number, state.template.ami
    moves = dict[Channel, str | None]()
    for channel in plan.channels:
        if not _names_build(state, channel, plan.build_id, ami):
            moves[channel] = state.pointers.get(channel)
    moves_template = not plan.held_back and current is None
    if moves_template:
        pointers.check_default(state.template, pointers.template_name(plan.image), state.region)
    return RegionPublishPlan(
        region=state.region,
        ami=ami,
        snapshot=snapshot,
        copy_of=_copy_of(state.image, baked),
        settings=_settings_to_correct(state, plan),
        record_build=ami is None or state.recorded != ami,
        moves=moves,
        moves_template=moves_template,
        template=template,
        template_ami=template_ami,
        misplaced=tuple(_misplaced(state, plan, moves)),
        ledger=state.ledger.digest,
    )


def _copy_of(image: Image | None, baked: Ami | None) -> Copy | None:
    """The AMI that a bake on EC2 made, for a region that has no AMI of the build."""
    if baked is None or image is not None:
        return None
    return Copy(region=baked.region, ami=baked.id)


def _settings_to_correct(state: RegionBuild, plan: PublishPlan) -> tuple[str, ...]:
    if state.image is None:
        return ()
    return tuple(images.differences(state.image, plan.spec, plan.settings, state.shared_with))


def _check_home(state: RegionBuild, plan: PublishPlan, baked: Ami | None) -> None:
    """Raise BadInput if the region's AMI is not ours, or is not the one that a bake made there."""
    image, home = state.image, baked
    if baked and baked.region != state.region:
        home = None
    if image is None:
        if home:
            raise BadInput(
                f"{home.id}, which the bake made in {home.region}, is gone",
                hint=f"`golden bake {plan.image} --builder ec2 --force` makes it again",
            )
        return
    images.check_ours(image, plan.spec, state.region)
    if home and home.id != image.ami:
        raise BadInput(
            f"{image.ami} is named {plan.spec.name} and is not {home.id}, which the bake made",
            hint=f"{images.removal_command(state.region, image.ami)} removes it, if "
            "nobody needs it; then bake again",
        )


def _names_build(state: RegionBuild, channel: Channel, build_id: str, ami: str | None) -> bool:
    """Whether the channel names the build's AMI, by ledger and parameter."""
    entry = state.ledger.of(channel)
    # A run that was killed may have left its writes unfinished: then the channel is moved again.
    if state.is_abandoned or entry is None or state.pointers.get(channel) != ami:
        return False
    return (entry.build_id, entry.ami) == (build_id, ami)


def _misplaced(
    state: RegionBuild, plan: PublishPlan, moves: dict[Channel, str | None]
) -> Iterator[str]:
    """Yield what is wrong with pointers that this publish does not move, and with the ledger."""
    ledger, template_ami = state.ledger, None
    if state.template:
        template_ami = state.template.ami
    for channel, text in channels.misplaced_pointers(
        plan.image, ledger, state.pointers, template_ami
    ):
        if channel not in moves:
            yield text
    known_builds = {*ledger.withdrawn}
    for channel in Channel:
        entry = ledger.of(channel)
        if entry and channel not in moves:
            known_builds.add(entry.build_id)
    for name in plan.withdraw:
        if name not in known_builds:
            yield f"the ledger, in which it is missing that {name} was withdrawn elsewhere"


def checked(
    image: ImageInAccount, plan: PublishPlan, states: dict[str, RegionBuild]
) -> PublishPlan:
    """Add the instance families that regions lack to the plan, and the machines whose type the
    build is not launched on. Raises BadInput if a channel would move to an older or withdrawn
    build, or a group could launch it no more."""
    successor = Successor(plan.image, plan.build_id, plan.baked_at, plan.channels)
    for planned in plan.regions:
        if planned.moves or planned.moves_template:
            successor.check_forward(planned.region, states[planned.region].ledger)
    declared = image.definition.hardware
    lacking = for_each_region(
        states,
        lambda region: instance_types.missing_families(image.account.ec2(region), declared),
    ).require_all()
    missing = {region: families for region, families in lacking.items() if families}
    allowed = plan.settings.instance_types
    refused = for_each_region(
        states, lambda region: type_checks.refused(image, states[region], allowed)
    ).require_all()
    return plan.model_copy(update={"missing_families": missing, "refused_machines": refused})
