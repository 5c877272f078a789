"""The plan of a publish: what each region has, what it lacks, and what must not happen. Nothing is
changed here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import timedelta

from goldenami.aws import images, tags
from goldenami.aws.channels import attestations, channels, pointers
from goldenami.aws.channels.channels import ImageInAccount, RegionBuild
from goldenami.aws.channels.evidence import GpuFinding
from goldenami.aws.channels.ledger import Channel, GpuProof, untold
from goldenami.aws.images import AmiSettings, ImageSpec
from goldenami.aws.instances import instance_types
from goldenami.aws.regions import for_each_region
from goldenami.aws.session import Account, check_regions
from goldenami.core import clock, units
from goldenami.core.errors import BadInput, Unreachable
from goldenami.core.terminal.progress import Progress
from goldenami.image.provenance.provenance import Attestor
from goldenami.model.builds.build_records import Ami
from goldenami.model.definitions.definition import Definition
from goldenami.model.operation.publish_section import Publish
from goldenami.release.gpu_test.gpu_evidence import GpuJudge
from goldenami.release.publish import channel_moves, upload_plan
from goldenami.release.publish.channel_moves import Criteria, Successor
from goldenami.release.publish.publish_records import Copy, PublishPlan, RegionPublishPlan
from goldenami.release.publish.release_gate import VerifiedBuild


def prepare(
    image: ImageInAccount, build: VerifiedBuild, criteria: Criteria, progress: Progress
) -> PublishPlan:
    """What is to be done in each region, or the error that refuses it."""
    image = image.hasty
    with progress.step("look at the regions"):
        plan = _of_account(image, build, criteria)
        plan = upload_plan.with_encryption(image.account, plan)
    return upload_plan.with_transfers(image, plan, build, progress)


def _of_account(image: ImageInAccount, build: VerifiedBuild, criteria: Criteria) -> PublishPlan:
    """One call for the account and five for a region, more only where something is to be done. What
    is `latest` in one region was released: a region that was added gets it, too, without a second
    soak or test.
    """
    section, build_id = image.section, build.bake.build_id
    check_regions(section.regions)
    looked = image.read_build(section.regions, build_id)
    if not any(isinstance(error, Unreachable) for error in looked.failed.values()):
        # Its error says best what is wrong.
        number = image.account.expect(section.account, section.regions[0])
    states = looked.require_all()
    released = _released(states.values(), build)
    accepted = GpuProof.ACCEPTED if criteria.accept_untested_gpu else GpuProof.UNTESTED
    spec = _spec(build)
    found = _on_gpus(build, states.values(), spec, criteria.judge)
    gpu = found.proof if found.proof is not GpuProof.UNTESTED else released or accepted
    stays = "" if released else _held_back(image.name, section, gpu, found.problem)
    ledgers = {region: state.ledger for region, state in states.items()}
    plan = PublishPlan(
        image=image.name,
        build_id=build_id,
        account=number,
        spec=spec,
        kms_key=section.kms_key,
        baked_at=build.bake.started_at,
        settings=_settings(section),
        gpu=gpu,
        held_back=stays,
        regions=(),
        differing=channels.differing(ledgers) if stays else "",
        dropped=channels.dropped(image.definition, (ledger.regions for ledger in ledgers.values())),
        withdraw=tuple(name for name in untold(ledgers, ledgers) if name != build_id),
    )
    plan = _with_regions(image, build, plan, states)
    return plan if plan.is_done else _checked(image, plan, states)


def _with_regions(
    image: ImageInAccount,
    build: VerifiedBuild,
    plan: PublishPlan,
    states: dict[str, RegionBuild],
) -> PublishPlan:
    """The plan with what each region lacks."""
    signs = build.signs
    signed = for_each_region(
        states, lambda region: signs is None or _is_signed(image.account, states[region], signs)
    ).require_all()
    regions = [_region(state, plan, image.definition, build.bake.ami) for state in states.values()]
    defaults = {
        planned.region: None if planned.moves_template else states[planned.region].template
        for planned in regions
    }
    due = {} if plan.held_back else image.groups_to_refresh(defaults)

    def completed(planned: RegionPublishPlan) -> RegionPublishPlan:
        refresh = tuple(due.get(planned.region, ()))
        return planned.model_copy(update={"sign": not signed[planned.region], "refresh": refresh})

    return plan.model_copy(update={"regions": tuple(map(completed, regions))})


def _is_signed(account: Account, state: RegionBuild, signs: Attestor) -> bool:
    """Whether AMI and snapshot say what is signed, by this key; one more call where it seems so."""
    image, found = state.image, state.attested
    if image is None or found is None or image.tags.get(tags.PROVENANCE_SHA256) != found.digest:
        return False
    on_snapshot = attestations.snapshot_tags(account.ec2(state.region), image)
    return on_snapshot.get(tags.PROVENANCE_SHA256) == found.digest and signs.is_right(
        state.region, image, found
    )


def _settings(section: Publish) -> AmiSettings:
    deprecate_at = clock.now() + timedelta(days=section.deprecate_after_days)
    return AmiSettings(
        share_with=tuple(sorted(section.share_with)),
        protect=section.deregistration_protection,
        deprecate_at=clock.stamp(deprecate_at),
    )


def _spec(build: VerifiedBuild) -> ImageSpec:
    """What the build's AMIs have to be; of one for GPUs a tag says what a test has to show."""
    spec = ImageSpec.of(build.bake, build.lock.description, build.lock.base.architecture)
    if not build.asked.architectures:
        return spec
    return spec.model_copy(update={"tags": {**spec.tags, tags.GPU_TEST: str(build.asked)}})


def _on_gpus(
    build: VerifiedBuild, states: Iterable[RegionBuild], spec: ImageSpec, judge: GpuJudge
) -> GpuFinding:
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
    return next(
        (
            entry.gpu
            for entry, ami in named
            if entry and ami and entry.build_id == build.bake.build_id and entry.ami == ami.ami
        ),
        None,
    )


def _held_back(image: str, section: Publish, gpu: GpuProof, problem: str) -> str:
    """Why `latest` stays. `problem`: why a GPU test does not count."""
    if gpu is GpuProof.UNTESTED:
        return (
            f"not tested on a GPU{f' ({problem})' if problem else ''}: `golden gpu-test "
            f"{image}` tests it, "
            "`--accept-untested-gpu` goes on without"
        )
    return (
        f"a candidate stands {section.soak_hours} h: then `golden promote {image}`"
        if section.soak_hours
        else ""
    )


def _region(
    state: RegionBuild, plan: PublishPlan, definition: Definition, baked: Ami | None
) -> RegionPublishPlan:
    """What one region lacks. `baked` is the AMI of a build that has no disk here."""
    _check_home(state, plan, baked)
    image, default = state.image, state.template
    ami = image.ami if image else None
    moves = {
        channel: state.pointers.get(channel)
        for channel in plan.channels
        if not _stands(state, channel, plan.build_id, ami)
    }
    current = channels.current_default(state, plan.build_id, ami, definition) if ami else None
    moves_template = not plan.held_back and current is None
    if moves_template:
        pointers.check_default(default, pointers.template_name(plan.image), state.region)
    differences = (
        images.differences(image, plan.spec, plan.settings, state.shared_with) if image else ()
    )
    return RegionPublishPlan(
        region=state.region,
        ami=ami,
        snapshot=image.snapshot if image else None,
        copy_of=Copy(region=baked.region, ami=baked.id) if baked and image is None else None,
        settings=tuple(differences),
        record_build=ami is None or state.recorded != ami,
        moves=moves,
        moves_template=moves_template,
        template=default.number if default else None,
        template_ami=default.ami if default else None,
        astray=tuple(_astray(state, plan, moves)),
        ledger=state.ledger.digest,
    )


def _check_home(state: RegionBuild, plan: PublishPlan, baked: Ami | None) -> None:
    """BadInput where the region's AMI is none of ours, or not the one that a bake made there."""
    image, home = state.image, baked if baked and baked.region == state.region else None
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


def _stands(state: RegionBuild, channel: Channel, build_id: str, ami: str | None) -> bool:
    """Whether ledger and parameter name the build's AMI; of a run that was killed nothing is
    believed."""
    entry = state.ledger.of(channel)
    if state.is_abandoned or entry is None or state.pointers.get(channel) != ami:
        return False
    return (entry.build_id, entry.ami) == (build_id, ami)


def _astray(
    state: RegionBuild, plan: PublishPlan, moves: dict[Channel, str | None]
) -> Iterator[str]:
    for channel, text in channels.astray(
        plan.image, state.ledger, state.pointers, state.template.ami if state.template else None
    ):
        if channel not in moves:
            yield text
    stays = {
        entry.build_id
        for channel in Channel
        if channel not in moves and (entry := state.ledger.of(channel))
    }
    for name in plan.withdraw:
        if name not in {*state.ledger.withdrawn, *stays}:
            yield f"the ledger, in which it is missing that {name} was withdrawn elsewhere"


def _checked(
    image: ImageInAccount, plan: PublishPlan, states: dict[str, RegionBuild]
) -> PublishPlan:
    """The plan with the hardware that regions lack; BadInput where the move would bring back what a
    rollback took away."""
    successor = Successor(plan.image, plan.build_id, plan.baked_at, plan.channels)
    for planned in plan.regions:
        if planned.moves or planned.moves_template:
            successor.check_forward(planned.region, states[planned.region].ledger)
    declared = image.definition.hardware
    missing = for_each_region(
        states,
        lambda region: instance_types.missing_families(image.account.ec2(region), declared),
    ).require_all()
    return plan.model_copy(
        update={
            "missing_families": {
                region: families for region, families in missing.items() if families
            }
        }
    )


def show(plan: PublishPlan) -> list[str]:
    """The plan for a person: a line for each step of each region."""
    lines = [f"publish {plan.image} {plan.build_id} in account {plan.account}: {plan.gpu.value}"]
    for region in plan.regions:
        lines += [f"  {region.region:<15} {text}" for text in _steps(region, plan)] or [
            f"  {region.region:<15} nothing to do: {region.ami} has all of it"
        ]
    lines += [f"  {region:<15} {channels.DROPPED}" for region in plan.dropped]
    lines += [
        f"  {region:<15} has no {', '.join(missing)}, which the definition declares"
        for region, missing in plan.missing_families.items()
    ]
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
        yield (
            f"copy {region.copy_of.ami or 'the new AMI'} of {region.copy_of.region} to "
            f"{plan.spec.name}{_encrypted(region, plan)}"
        )
    elif region.ami is None:
        yield (
            f"register {plan.spec.name}: {plan.spec.architecture}, {plan.spec.boot_mode}, "
            f"IMDSv2 only, ENA, {plan.spec.volume_size_gib} GiB {plan.spec.volume_type}"
            f"{_encrypted(region, plan)}"
        )
    if region.ami is None:
        yield f"deprecate on {plan.settings.deprecate_at[:10]}" + (
            ", protect from deregistration" if plan.settings.protect else ""
        )
        if plan.settings.share_with:
            yield f"share with {', '.join(plan.settings.share_with)}"
    yield from (f"correct {region.ami}: {text}" for text in region.settings)
    if region.record_build:
        yield f"record {pointers.build_name(plan.image, plan.build_id)}"
    if region.sign:
        yield f"sign where {target} comes from"
    yield from (
        f"move {pointers.channel_name(plan.image, channel)}: {before or 'nothing'} -> {target}"
        for channel, before in region.moves.items()
    )
    if region.moves_template:
        before = f"version {region.template} ({region.template_ami})"
        yield (
            f"move the default of {pointers.template_name(plan.image)}: "
            f"{before if region.template else 'no template'} -> a version with {target}"
        )
    yield from (f"bring back: {text}" for text in region.astray)
    yield from (f"refresh the group {group}" for group in region.refresh)


def _encrypted(region: RegionPublishPlan, plan: PublishPlan) -> str:
    if region.encryption is None or region.encryption.key is None:
        return ""
    return f", encrypted by {plan.kms_key or region.encryption.key}"
