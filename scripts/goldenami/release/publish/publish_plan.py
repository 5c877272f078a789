"""Plans a publish: what each region has, what it lacks, and what is refused. Nothing is changed
here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import timedelta

from goldenami.aws import images, tags
from goldenami.aws.channels import attestations, channels, pointers
from goldenami.aws.channels.channels import ImageInAccount, RegionBuild
from goldenami.aws.channels.evidence import GpuFinding
from goldenami.aws.channels.ledger import Channel, GpuProof, partly_withdrawn
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
    """Plan the publish, or raise the error that refuses it."""
    image = image.with_short_timeouts
    with progress.step("look at the regions"):
        plan = _of_account(image, build, criteria)
        plan = upload_plan.with_encryption(image.account, plan)
    return upload_plan.with_transfers(image, plan, build, progress)


def _of_account(image: ImageInAccount, build: VerifiedBuild, criteria: Criteria) -> PublishPlan:
    """The plan without transfers: by one call for the account and five for each region, and more
    only if something is to do."""
    section, build_id = image.section, build.bake.build_id
    check_regions(section.regions)
    results = image.read_build(section.regions, build_id)
    # Asked before failures are raised, since the error about a wrong account says best what is
    # wrong; not if a region does not answer.
    if not any(isinstance(error, Unreachable) for error in results.failed.values()):
        number = image.account.expect(section.account, section.regions[0])
    states = results.require_all()
    # A build that is `latest` in one region was released: a region that was added gets it, too,
    # without a second soak or test.
    released = _released(states.values(), build)
    accepted = GpuProof.ACCEPTED if criteria.accept_untested_gpu else GpuProof.UNTESTED
    spec = _spec(build)
    finding = _on_gpus(build, states.values(), spec, criteria.judge)
    gpu = finding.proof if finding.proof is not GpuProof.UNTESTED else released or accepted
    held_back = "" if released else _held_back(image.name, section, gpu, finding.problem)
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
        held_back=held_back,
        regions=(),
        differing=channels.differing(ledgers) if held_back else "",
        dropped=channels.dropped(image.definition, (ledger.regions for ledger in ledgers.values())),
        withdraw=tuple(name for name in partly_withdrawn(ledgers, ledgers) if name != build_id),
    )
    plan = _with_regions(image, build, plan, states)
    return plan if plan.is_done else _checked(image, plan, states)


def _with_regions(
    image: ImageInAccount,
    build: VerifiedBuild,
    plan: PublishPlan,
    states: dict[str, RegionBuild],
) -> PublishPlan:
    """Add what each region lacks to the plan."""
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
    """Whether the build is signed by this key in the region, and AMI and snapshot carry the
    digest."""
    image, attested = state.image, state.attested
    if (
        image is None
        or attested is None
        or image.tags.get(tags.PROVENANCE_SHA256) != attested.digest
    ):
        return False
    on_snapshot = attestations.snapshot_tags(account.ec2(state.region), image)
    return on_snapshot.get(tags.PROVENANCE_SHA256) == attested.digest and signs.is_right(
        state.region, image, attested
    )


def _settings(section: Publish) -> AmiSettings:
    deprecate_at = clock.now() + timedelta(days=section.deprecate_after_days)
    return AmiSettings(
        share_with=tuple(sorted(section.share_with)),
        protect=section.deregistration_protection,
        deprecate_at=clock.stamp(deprecate_at),
    )


def _spec(build: VerifiedBuild) -> ImageSpec:
    """The specification of the build's AMIs. On AMIs for GPUs a tag has the requirements that a GPU
    test has to prove."""
    spec = ImageSpec.of(build.bake, build.lock.description, build.lock.base.architecture)
    if not build.asked.architectures:
        return spec
    return spec.model_copy(update={"tags": {**spec.tags, tags.GPU_TEST: str(build.asked)}})


def _on_gpus(
    build: VerifiedBuild, states: Iterable[RegionBuild], spec: ImageSpec, judge: GpuJudge
) -> GpuFinding:
    if not build.asked.architectures:
        return GpuFinding(GpuProof.NONE)
    evidence = channel_moves.evidence_of(build.bake.image, build.bake.build_id, states)
    # By the specification's tags, since no region may have an AMI yet.
    return judge(replace(evidence, tags=spec.tags))


def _released(states: Iterable[RegionBuild], build: VerifiedBuild) -> GpuProof | None:
    """The build's GPU proof in the ledger of a region in which its AMI is `latest`, or None if it
    is `latest` in none."""
    # Only if that AMI still exists: otherwise nobody knows which bytes it had.
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
    """Why `latest` stays, or "" if it moves. `problem` is why a GPU test does not count."""
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
    """Plan what one region lacks. `baked` is the AMI that a bake on EC2 made, or None if the build
    has a disk on this machine."""
    _check_home(state, plan, baked)
    image, default = state.image, state.template
    ami = image.ami if image else None
    moves = {
        channel: state.pointers.get(channel)
        for channel in plan.channels
        if not _names_build(state, channel, plan.build_id, ami)
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
        misplaced=tuple(_misplaced(state, plan, moves)),
        ledger=state.ledger.digest,
    )


def _check_home(state: RegionBuild, plan: PublishPlan, baked: Ami | None) -> None:
    """Raise BadInput if the region's AMI is not ours, or is not the one that a bake made there."""
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
    for channel, text in channels.misplaced_pointers(
        plan.image, state.ledger, state.pointers, state.template.ami if state.template else None
    ):
        if channel not in moves:
            yield text
    named_builds = {
        entry.build_id
        for channel in Channel
        if channel not in moves and (entry := state.ledger.of(channel))
    }
    for name in plan.withdraw:
        if name not in {*state.ledger.withdrawn, *named_builds}:
            yield f"the ledger, in which it is missing that {name} was withdrawn elsewhere"


def _checked(
    image: ImageInAccount, plan: PublishPlan, states: dict[str, RegionBuild]
) -> PublishPlan:
    """Add the instance families that regions lack to the plan. Raises BadInput if a channel would
    move to an older or withdrawn build."""
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
    """The plan in lines for a person, with one for each step in each region."""
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
    yield from (f"bring back: {text}" for text in region.misplaced)
    yield from (f"refresh the group {group}" for group in region.refresh)


def _encrypted(region: RegionPublishPlan, plan: PublishPlan) -> str:
    if region.encryption is None or region.encryption.key is None:
        return ""
    return f", encrypted by {plan.kms_key or region.encryption.key}"
