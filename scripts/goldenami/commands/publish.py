"""Commands that move an image through an account: publish a verified disk, move the pointers that
others launch by, and move them back."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Annotated

import typer

from goldenami.aws.channels import channels, pointers
from goldenami.aws.channels.channels import ImageInAccount
from goldenami.aws.channels.ledger import GpuProof
from goldenami.aws.regions import for_each_region, in_parallel
from goldenami.aws.session import translated
from goldenami.commands import (
    BuildId,
    DryRun,
    ImageName,
    Regions,
    Wait,
    lead_to,
    raise_failed,
)
from goldenami.commands.bake import BakeOptions, cmd_bake, cmd_container
from goldenami.commands.checkout import Checkout
from goldenami.commands.cve import cmd_cve
from goldenami.commands.gpu_test import GpuTestOptions, cmd_gpu_test
from goldenami.core.errors import ExitCode, StageFailed
from goldenami.core.terminal.command_name import as_typed
from goldenami.core.terminal.progress import Progress
from goldenami.image.lock import lint
from goldenami.image.provenance import provenance
from goldenami.image.provenance.provenance import Attestor
from goldenami.image.report import report
from goldenami.local.host import workspace
from goldenami.model.supported import hardware
from goldenami.release.gpu_test.gpu_evidence import GpuJudge
from goldenami.release.publish import (
    channel_moves,
    container_tags,
    promote,
    publish,
    publish_plan,
    release_gate,
    rollback,
)
from goldenami.release.publish.channel_moves import Criteria
from goldenami.release.publish.publish_records import MovePlan, PublishPlan
from goldenami.release.publish.release_gate import VerifiedBuild
from goldenami.release.publish.release_steps import NextStep, Release, ReleaseStep

AcceptUntestedGpu = Annotated[
    bool,
    typer.Option(
        "--accept-untested-gpu",
        help="`latest` may take a build that was not tested on a GPU; recorded",
    ),
]
Now = Annotated[bool, typer.Option("--now", help="do not wait for a candidate's soak to end")]


def _in_account(checkout: Checkout, image: str) -> ImageInAccount:
    definition = checkout.definition(image)
    return ImageInAccount(checkout.account(definition), definition)


def _gpu_judge(checkout: Checkout, image: ImageInAccount) -> GpuJudge:
    return GpuJudge(checkout.root, image.with_short_timeouts.account, image.definition)


@dataclass(frozen=True, kw_only=True)
class PublishOptions:
    """The arguments and options of `golden publish`."""

    image: ImageName
    dry_run: DryRun = False
    build_id: BuildId = None
    accept_untested_gpu: AcceptUntestedGpu = False
    wait: Wait = False


@translated()
def cmd_publish(checkout: Checkout, options: PublishOptions) -> int:
    """Make the newest proven build an AMI in every region, then move the pointers to it."""
    image = _in_account(checkout, options.image)
    progress = checkout.progress("publish", image.name)
    with workspace.image_lock(checkout.root, image.name, wait=options.wait):
        build = _proven_build(checkout, image, options.build_id)
        criteria = Criteria(_gpu_judge(checkout, image), options.accept_untested_gpu)
        plan = publish_plan.prepare(image, build, criteria, progress)
        with container_tags.planned(
            image, plan.build_id, progress, build=build.folder
        ) as containers:
            lines = [*publish_plan.show(plan), *containers.show(moves=not plan.held_back)]
            print(as_typed("\n".join(lines)), flush=True)
            if not options.dry_run:
                # Before the AMIs: if a registry refuses, no pointer has moved.
                containers.push(build.folder)
            if publish.is_recorded(build, plan):
                progress.say(
                    f"nothing to do: build {plan.build_id} is published in "
                    f"{len(plan.regions)} regions"
                )
            elif not options.dry_run:
                # Another machine may hold the image's leases; only --wait waits for it.
                wait_s = math.inf if options.wait else 0.0
                publish.execute(image, build, plan, progress, wait_s=wait_s)
                progress.say(f"build {plan.build_id} is published in {len(plan.regions)} regions")
                report.tell(build.folder, progress)
            if not options.dry_run and not plan.held_back:
                containers.move([plan.build_id])
        if not options.dry_run:
            key = build.signs.key.public_key if build.signs else None
            signed = f"signed by {key.keyid[:12]}" if key else "unsigned"
            progress.say(f"provenance: {signed}")
    progress.remember()
    return _outcome(plan, progress, dry_run=options.dry_run)


def _proven_build(checkout: Checkout, image: ImageInAccount, build_id: str | None) -> VerifiedBuild:
    """Return the build that may be published, with the key that signs it, if any."""
    definition = image.definition
    build = release_gate.load(checkout.root, image.name, build_id)
    lint.demand(build.lock, checkout.families)
    release_gate.check_vulnerabilities(definition, build.folder)
    release_gate.check_hardening(definition, build.folder)
    key = provenance.demanded(checkout.root, definition, image.account)
    return replace(build, signs=Attestor(build.folder, key)) if key else build


def _outcome(plan: PublishPlan, progress: Progress, *, dry_run: bool) -> int:
    if not plan.held_back:
        return ExitCode.OK
    progress.say(f"`latest` stays: {plan.held_back}")
    if plan.differing:
        progress.say(f"{plan.differing}, until a promotion makes them alike")
    if dry_run:
        return ExitCode.OK
    lead_to("gpu-test" if plan.gpu is GpuProof.UNTESTED else "promote", plan.image)
    return ExitCode.HELD_BACK


@translated()
def cmd_promote(
    checkout: Checkout,
    image: ImageName,
    *,
    dry_run: DryRun = False,
    accept_untested_gpu: AcceptUntestedGpu = False,
    now: Now = False,
) -> int:
    """Move `latest` and the launch template's default to the candidate, after its soak."""
    in_account = _in_account(checkout, image)
    progress = checkout.progress("promote", image)
    criteria = Criteria(_gpu_judge(checkout, in_account), accept_untested_gpu, now)
    plan = promote.prepare(in_account, criteria)
    build = checkout.builds(image).build(plan.build_id)
    release_gate.check_vulnerabilities(in_account.definition, build)
    release_gate.check_hardening(in_account.definition, build)
    with container_tags.planned(in_account, plan.build_id, progress) as containers:
        lines = [*channel_moves.show("promote", plan), *containers.show(moves=True)]
        print(as_typed("\n".join(lines)), flush=True)
        if not dry_run:
            promote.execute(in_account, plan, progress)
            containers.move([plan.build_id])
            progress.say(f"`latest` is build {plan.build_id}")
            lead_to("status", image)
    return 0


@dataclass(frozen=True, kw_only=True)
class RollbackOptions:
    """The arguments and options of `golden rollback`."""

    image: ImageName
    dry_run: DryRun = False
    accept_untested_gpu: AcceptUntestedGpu = False
    now: Now = False
    to: Annotated[
        str | None, typer.Option("--to", metavar="ID", help="the build to go back to")
    ] = None
    region: Regions = field(default_factory=list)


@translated()
def cmd_rollback(checkout: Checkout, options: RollbackOptions) -> int:
    """Take `latest` and the launch template's default back to the build before (or --to),
    everywhere."""
    image = _in_account(checkout, options.image)
    progress = checkout.progress("rollback", image.name)
    criteria = Criteria(_gpu_judge(checkout, image), options.accept_untested_gpu, options.now)
    prepared = rollback.prepare(image, criteria, to=options.to, regions=options.region)
    print(as_typed("\n".join(channel_moves.show("roll back", prepared.plan))), flush=True)
    if options.dry_run:
        prepared.check(
            {},
            "not every region could be read",
            f"`golden rollback {image.name}` takes the others back",
        )
        return 0
    # The container goes back first: an older one also runs on the newer driver of the AMIs. If it
    # fails, the AMIs go back all the same.
    container_result = in_parallel(
        {"container": lambda: _roll_container_back(image, prepared.plan, progress)}
    )
    rollback.execute(image, prepared, progress)
    progress.say(f"`latest` is build {prepared.plan.build_id}")
    raise_failed(container_result.failed, "the AMIs are back, and the container's `latest` is not")
    lead_to("status", image.name)
    return 0


def _roll_container_back(image: ImageInAccount, plan: MovePlan, progress: Progress) -> None:
    builds_before = {move.before_build for move in plan.regions if move.before_build}
    with container_tags.planned(image, plan.build_id, progress) as containers:
        for line in containers.show(moves=True):
            progress.say(line.strip())
        containers.move(builds_before)


@translated()
def cmd_release(
    checkout: Checkout, image: ImageName, *, wait: Wait = False, dry_run: DryRun = False
) -> int:
    """Bake, publish, test on GPUs and promote the lock's build, as far as each is due; for
    schedules."""
    progress, steps_done = checkout.progress("release", image), list[ReleaseStep]()
    while True:
        due = _next_step(checkout, image)
        progress.say(
            due.why
            + (f": {due.step}" if due.step not in (ReleaseStep.WAIT, ReleaseStep.DONE) else "")
        )
        if due.step is ReleaseStep.DONE:
            if not dry_run:
                lead_to("status", image)
            return ExitCode.OK
        if due.step is ReleaseStep.WAIT:
            lead_to("release", image)
            return ExitCode.HELD_BACK
        if dry_run:
            return ExitCode.OK
        # A step that ended but is due again would repeat for ever.
        if due.step in steps_done:
            raise StageFailed(
                f"{due.step} has ended, and {due.why}",
                hint=f"`golden status {image}` shows the regions",
            )
        steps_done.append(due.step)
        _run_step(checkout, image, due.step, wait=wait)


def _next_step(checkout: Checkout, name: str) -> NextStep:
    image = _in_account(checkout, name)
    judge = _gpu_judge(checkout, image)
    section, (_, build) = image.section, checkout.of_lock(name)
    needs_gpu = bool(hardware.architectures(checkout.root, image.definition.hardware))
    ledgers = image.read_ledgers(section.regions).require_all()
    template = pointers.template_name(name)
    defaults = for_each_region(
        section.regions,
        lambda region: pointers.default_version(image.account.ec2(region), template),
    ).require_all()
    groups_waiting = image.groups_to_refresh(defaults)
    is_tested = not needs_gpu
    if needs_gpu:
        gpu_test_result = channel_moves.on_gpus(image, build.build_id, section.regions, judge)
        is_tested = gpu_test_result.proof is not GpuProof.UNTESTED
    release = Release(
        build_id=build.build_id,
        ledgers=ledgers,
        soak_hours=section.soak_hours,
        waiting=sorted(set().union(*groups_waiting.values())),
        is_baked=build.is_verified,
        is_judged=image.definition.security.cve is not None,
        is_tested=is_tested,
    )
    return release.next_step()


def _run_step(checkout: Checkout, image: str, step: ReleaseStep, *, wait: bool) -> None:
    if (
        step in (ReleaseStep.PUBLISH, ReleaseStep.PROMOTE)
        and checkout.definition(image).security.cve
    ):
        # Publish and promote refuse by this record, which must be today's.
        cmd_cve(checkout, image, data=[])
    if step is ReleaseStep.BAKE:
        cmd_bake(checkout, BakeOptions(image=image, wait=wait))
    elif step is ReleaseStep.PUBLISH:
        if channels.publish_section(checkout.definition(image)).registries:
            cmd_container(checkout, image, wait=wait)
        cmd_publish(checkout, PublishOptions(image=image, wait=wait))
    elif step is ReleaseStep.GPU_TEST:
        cmd_gpu_test(checkout, GpuTestOptions(image=image))
    else:
        cmd_promote(checkout, image)
