"""The plan of a publish: what each region has, what it lacks, and what must not happen. Nothing is
changed here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from goldenami.aws import images, tags
from goldenami.aws.channels import channels, pointers
from goldenami.aws.channels.channels import RegionBuild
from goldenami.aws.channels.evidence import GpuFinding, Judge
from goldenami.aws.channels.lease import read_lease
from goldenami.aws.channels.ledger import Channel, GpuProof, Ledger, untold
from goldenami.aws.encryption import SnapshotEncryption
from goldenami.aws.images import AmiSettings, ImageSpec
from goldenami.aws.instances import instance_types
from goldenami.aws.regions import for_each_region
from goldenami.aws.session import Account, check_regions
from goldenami.core import clock, units
from goldenami.core.errors import BadInput, Busy, Unreachable
from goldenami.model.builds.build_records import Ami
from goldenami.model.definitions.definition import Definition
from goldenami.model.operation.publish_section import Publish
from goldenami.release.publish import attesting, channel_moves
from goldenami.release.publish.attesting import Signs
from goldenami.release.publish.publish_records import (
    ChannelMove,
    Copy,
    PublishPlan,
    RegionPublishPlan,
    TemplateMove,
)
from goldenami.release.publish.release_gate import VerifiedBuild


def make(
    account: Account, definition: Definition, build: VerifiedBuild, signs: Signs | None,
    judge: Judge, *,
    accept_untested_gpu: bool,
) -> PublishPlan:
    """Read every region and say what is to be done, or refuse. One call for the account and five
    for a region, more only where something is to be done. What is `latest` in one region was
    released: a region that was added gets it, too, without a second soak or test.
    """
    section = channels.publish_section(definition)
    check_regions(section.regions)
    build_id = build.bake.build_id
    looked = for_each_region(
        section.regions, lambda region: channels.read_region(account, region, definition, build_id))
    if not any(isinstance(error, Unreachable) for error in looked.failed.values()):
        number = account.expect(section.account, section.regions[0])  # says best what is wrong
    states = looked.require_all()
    released = _released(states.values(), build)
    accepted = GpuProof.ACCEPTED if accept_untested_gpu else GpuProof.UNTESTED
    spec = _spec(build)
    found = _on_gpus(build, states.values(), spec, judge)
    gpu = found.proof if found.proof is not GpuProof.UNTESTED else released or accepted
    stays = "" if released else held_back(definition.image, section, gpu, found.problem)
    ledgers = {region: state.ledger for region, state in states.items()}
    plan = PublishPlan(
        image=definition.image, build_id=build_id, account=number, spec=spec,
        baked_at=build.bake.started_at, settings=_settings(section), gpu=gpu, held_back=stays,
        regions=(), differing=channels.differing(ledgers) if stays else "",
        dropped=channels.dropped(definition, (ledger.regions for ledger in ledgers.values())),
        withdraw=tuple(name for name in untold(ledgers, ledgers) if name != build_id))
    unsigned = attesting.lacking(account, states, signs)
    regions = tuple(_region(state, plan, definition, build.bake.ami).model_copy(
        update={"sign": state.region in unsigned}) for state in states.values())
    plan = plan.model_copy(update={"regions": regions})
    plan = _with_refreshes(account, plan, definition, states)
    return plan if plan.is_done else _checked(account, plan, definition)


def _settings(section: Publish) -> AmiSettings:
    deprecate_at = clock.now() + timedelta(days=section.deprecate_after_days)
    return AmiSettings(
        share_with=tuple(sorted(section.share_with)), protect=section.deregistration_protection,
        deprecate_at=clock.stamp(deprecate_at))


def _spec(build: VerifiedBuild) -> ImageSpec:
    """What the build's AMIs have to be; of one for GPUs a tag says what a test has to show."""
    spec = ImageSpec.of(build.bake, build.lock.description, build.lock.base.architecture)
    if not build.asked.architectures:
        return spec
    return spec.model_copy(update={"tags": {**spec.tags, tags.GPU_TEST: str(build.asked)}})


def _on_gpus(
    build: VerifiedBuild, states: Iterable[RegionBuild], spec: ImageSpec, judge: Judge
) -> GpuFinding:
    """What is known on a GPU of the build that is here, which the regions' AMIs have to be of."""
    if not build.asked.architectures:
        return GpuFinding(GpuProof.NONE)
    there = channel_moves.evidence_of(build.bake.image, build.bake.build_id, states)
    return judge(replace(there, tags=spec.tags))


def _released(states: Iterable[RegionBuild], build: VerifiedBuild) -> GpuProof | None:
    """What the ledger says of this build on a GPU where its AMI is `latest` in a region; None where
    it is in none.

    Where that AMI is gone, nobody knows of which bytes it was.
    """
    named = ((state.ledger.latest, state.image) for state in states if not state.is_abandoned)
    return next((entry.gpu for entry, ami in named if entry and ami and entry.build_id
                 == build.bake.build_id
                 and entry.ami == ami.ami), None)


def held_back(image: str, section: Publish, gpu: GpuProof, problem: str) -> str:
    """Why `latest` does not move with this publish; nothing where it does. `problem`: why a GPU
    test does not count."""
    if gpu is GpuProof.UNTESTED:
        return (f"not tested on a GPU{f' ({problem})' if problem else ''}: `golden gpu-test "
                f"{image}` tests it, "
                "`--accept-untested-gpu` goes on without")
    return (
        f"a candidate stands {section.soak_hours} h: then `golden promote {image}`"
        if section.soak_hours
        else ""
    )


def _region(
    state: RegionBuild, plan: PublishPlan, definition: Definition, baked: Ami | None
) -> RegionPublishPlan:
    """What one region lacks. `baked` is the AMI of a build that has no disk here."""
    section, image = channels.publish_section(definition), state.image
    home = baked if baked and baked.region == state.region else None
    if image is None and home:
        raise BadInput(f"{home.id}, which the bake made in {home.region}, is gone",
                       hint=f"`golden bake {plan.image} --builder ec2 --force` makes it again")
    if image is None:
        source = Copy(region=baked.region, ami=baked.id) if baked else None
        return _with_pointers(RegionPublishPlan(region=state.region, kms_key=section.kms_key,
                                                copy_of=source,
                                                record_build=True), state, plan, definition)
    images.check_ours(image, plan.spec)
    if home and home.id != image.ami:
        raise BadInput(f"{image.ami} is named {plan.spec.name} and is not {home.id}, which the "
                       "bake made",
                       hint="deregister it, if nobody needs it, and bake again")
    return _with_pointers(RegionPublishPlan(
        region=state.region, kms_key=section.kms_key, ami=image.ami, snapshot=image.snapshot,
        settings=tuple(images.differences(image, plan.spec, plan.settings, state.shared_with)),
        record_build=state.recorded != image.ami), state, plan, definition)


def _with_pointers(
    planned: RegionPublishPlan, state: RegionBuild, plan: PublishPlan, definition: Definition,
) -> RegionPublishPlan:
    """The plan of a region with the channels that move, and the template if it moves."""
    def stands(channel: Channel) -> bool:
        """Whether ledger and parameter name the build's AMI; of a run that was killed nothing is
        believed."""
        entry = state.ledger.of(channel)
        return not state.is_abandoned and state.pointers.get(channel) == planned.ami and entry is not None and \
            (entry.build_id, entry.ami) == (plan.build_id, planned.ami)

    moves = tuple(ChannelMove(channel=channel, before=state.pointers.get(channel))
                  for channel in _moving(plan)
                  if not stands(channel))
    moved = {move.channel for move in moves}
    astray = tuple(text
                   for channel, text in channels.astray(definition.image, state.ledger, state.pointers,
                                                        state.template.ami
                                                        if state.template else None)
                   if channel not in moved)
    stays = {entry.build_id for channel in Channel
             if channel not in moved and (entry := state.ledger.of(channel))}
    astray += tuple(f"the ledger, in which it is missing that {name} was withdrawn elsewhere"
                    for name in plan.withdraw if name not in {*state.ledger.withdrawn, *stays})
    current = (
        channels.current_default(state, plan.build_id, planned.ami, definition)
        if planned.ami
        else None
    )
    template, default = None, state.template
    if not plan.held_back and current is None:
        name = pointers.template_name(definition.image)
        pointers.check_default(default, name, state.region)
        template = TemplateMove(
            name=name,
            before=default.number if default else None,
            before_ami=default.ami if default else None)
    return planned.model_copy(update={"moves": moves, "template": template, "astray": astray,
                                      "ledger": state.ledger.digest})


def _with_refreshes(
    account: Account, plan: PublishPlan, definition: Definition, states: dict[str, RegionBuild],
) -> PublishPlan:
    """The plan with the groups that have not been asked to take the template's default yet."""
    if plan.held_back:
        return plan
    due = channels.groups_to_refresh(account, definition, {
        planned.region: None if planned.template else states[planned.region].template
        for planned in plan.regions})
    return plan.model_copy(update={"regions": tuple(
        planned.model_copy(update={"refresh": tuple(due[planned.region])})
        for planned in plan.regions)})


def _checked(account: Account, plan: PublishPlan, definition: Definition) -> PublishPlan:
    """The plan with the hardware that regions lack; BadInput where the move would bring back what a
    rollback took away."""
    def look(region: str) -> tuple[list[str], Ledger]:
        missing = instance_types.missing_families(account.ec2(region), definition.hardware)
        return missing, read_lease(account.dynamodb(region), definition.image).ledger

    found = for_each_region((planned.region for planned in plan.regions), look).require_all()
    for planned in plan.regions:
        if planned.moves or planned.template:
            check_forward(planned.region, found[planned.region][1], plan)
    return plan.model_copy(update={"missing_families": {
        region: missing for region, (missing, _) in found.items() if missing}})


def check_unmoved(planned: RegionPublishPlan, plan: PublishPlan, ledger: Ledger) -> None:
    """Busy where a region's ledger is not what the plan was made of. Parameters do not tell: reads
    of them may lag."""
    if ledger.digest != planned.ledger:
        raise Busy(f"another run changed the ledger of {plan.image} in {planned.region} after the "
                   "plan was made",
                   hint="run again: the plan is made anew")


def _moving(plan: PublishPlan) -> list[Channel]:
    return [Channel.CANDIDATE] if plan.held_back else list(Channel)


def check_forward(region: str, ledger: Ledger, plan: PublishPlan) -> None:
    """BadInput where a channel would go back, or a withdrawn build come back, by accident."""
    back = f"`golden rollback {plan.image} --to {plan.build_id}`"
    if plan.build_id in ledger.withdrawn:
        raise BadInput(f"build {plan.build_id} was rolled back in {region}",
                       hint=f"bake a new build; if this one is good after all: {back}")
    for channel in _moving(plan):
        entry = ledger.of(channel)
        if (
            entry
            and entry.build_id != plan.build_id
            and entry.baked > datetime.fromisoformat(plan.baked_at)
        ):
            raise BadInput(f"{channel} in {region} names build {entry.build_id}, which is newer "
                           f"than {plan.build_id} "
                           f"(baked {entry.baked_at} and {plan.baked_at})",
                           hint=f"to go back on purpose: {back}")


def with_encryption(
    plan: PublishPlan, encryptions: Mapping[str, SnapshotEncryption]
) -> PublishPlan:
    """The plan with what the snapshots that are to be made are encrypted by."""
    return plan.model_copy(update={"regions": tuple(
        region.model_copy(update={"encryption": encryptions.get(region.region)})
        for region in plan.regions)})


def show(plan: PublishPlan) -> list[str]:
    """The plan for a person: a line for each step of each region."""
    lines = [f"publish {plan.image} {plan.build_id} in account {plan.account}: {plan.gpu.value}"]
    for region in plan.regions:
        lines += [f"  {region.region:<15} {text}" for text in _steps(region, plan)] or \
            [f"  {region.region:<15} nothing to do: {region.ami} has all of it"]
    lines += [f"  {region:<15} {channels.DROPPED}" for region in plan.dropped]
    lines += [f"  {region:<15} has no {', '.join(missing)}, which the definition declares"
              for region, missing in plan.missing_families.items()]
    sent = [region.upload.bytes for region in plan.regions if region.upload]
    if len(sent) > 1:
        lines.append(f"  {units.size(sum(sent))} leave this machine, for {len(sent)} regions")
    if plan.held_back:
        lines.append(f"  `latest` and the template stay: {plan.held_back}")
    if plan.differing:
        lines.append(f"  {plan.differing}: a promotion makes them alike")
    return lines


def _steps(region: RegionPublishPlan, plan: PublishPlan) -> Iterable[str]:
    target = region.ami or "the new AMI"
    if upload := region.upload:
        since = f", the whole disk: {upload.whole}" if upload.whole else ""
        if upload.parent:
            since = f", the rest is in {upload.parent_snapshot} (build {upload.parent})"
        yield f"send {units.size(upload.bytes)} in {upload.blocks} blocks{since}"
    if region.copy_of:
        yield (f"copy {region.copy_of.ami or 'the new AMI'} of {region.copy_of.region} to "
               f"{plan.spec.name}{_encrypted(region)}")
    elif region.ami is None:
        yield (f"register {plan.spec.name}: {plan.spec.architecture}, {plan.spec.boot_mode}, "
               f"IMDSv2 only, ENA, {plan.spec.volume_size_gib} GiB {plan.spec.volume_type}"
               f"{_encrypted(region)}")
    if region.ami is None:
        yield f"deprecate on {plan.settings.deprecate_at[:10]}" + \
            (", protect from deregistration" if plan.settings.protect else "")
        if plan.settings.share_with:
            yield f"share with {', '.join(plan.settings.share_with)}"
    yield from (f"correct {region.ami}: {text}" for text in region.settings)
    if region.record_build:
        yield f"record {pointers.build_name(plan.image, plan.build_id)}"
    if region.sign:
        yield f"sign where {target} comes from"
    yield from (f"move {pointers.channel_name(plan.image, move.channel)}: "
                f"{move.before or 'nothing'} -> {target}"
                for move in region.moves)
    if region.template:
        before = (
            f"version {region.template.before} ({region.template.before_ami})"
            if region.template.before
            else "no template"
        )
        yield f"move the default of {region.template.name}: {before} -> a version with {target}"
    yield from (f"bring back: {text}" for text in region.astray)
    yield from (f"refresh the group {group}" for group in region.refresh)


def _encrypted(region: RegionPublishPlan) -> str:
    if region.encryption is None or region.encryption.key is None:
        return ""
    return f", encrypted by {region.kms_key or region.encryption.key}"
