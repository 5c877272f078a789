"""The command that makes a verified build an AMI in every region."""

from __future__ import annotations

import math
from dataclasses import dataclass

from goldenami.aws.channels.ledger import GpuProof
from goldenami.aws.session import translated
from goldenami.commands import (
    AcceptUntestedGpu,
    BuildId,
    DryRun,
    ImageName,
    Wait,
    lead_to,
    print_plan,
)
from goldenami.commands.checkout import Checkout
from goldenami.core.errors import ExitCode
from goldenami.core.terminal.progress import Progress
from goldenami.image.report import report
from goldenami.local.host import workspace
from goldenami.release.publish import (
    container_tags,
    publish,
    publish_plan,
    publish_preview,
    release_gate,
)
from goldenami.release.publish.channel_moves import Criteria
from goldenami.release.publish.publish_records import PublishPlan
from goldenami.release.publish.release_gate import VerifiedBuild


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
    image = checkout.in_account(options.image)
    progress = checkout.progress("publish", image.name)
    with workspace.image_lock(checkout.root, image.name, wait=options.wait):
        build = release_gate.proven(checkout.root, image, options.build_id)
        criteria = Criteria(checkout.gpu_judge(image), options.accept_untested_gpu)
        plan = publish_plan.prepare(image, build, criteria, progress)
        with container_tags.planned(
            image, plan.build_id, progress, build=build.folder
        ) as containers:
            lines = [*publish_preview.lines(plan), *containers.show(moves=not plan.held_back)]
            print_plan(lines)
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
                wait_s = 0.0
                if options.wait:
                    wait_s = math.inf
                publish.execute(image, build, plan, progress, wait_s=wait_s)
                progress.say(f"build {plan.build_id} is published in {len(plan.regions)} regions")
                report.tell(build.folder, progress)
            if not options.dry_run and not plan.held_back:
                containers.move([plan.build_id])
        if not options.dry_run:
            progress.say(f"provenance: {_signature(build)}")
    progress.remember()
    return _outcome(plan, progress, dry_run=options.dry_run)


def _signature(build: VerifiedBuild) -> str:
    if build.signs is None:
        return "unsigned"
    return f"signed by {build.signs.key.public_key.keyid[:12]}"


def _outcome(plan: PublishPlan, progress: Progress, *, dry_run: bool) -> int:
    if not plan.held_back:
        return ExitCode.OK
    progress.say(f"`latest` stays: {plan.held_back}")
    if plan.differing:
        progress.say(f"{plan.differing}, until a promotion makes them alike")
    if dry_run:
        return ExitCode.OK
    if plan.gpu is GpuProof.UNTESTED:
        lead_to("gpu-test", plan.image)
    else:
        lead_to("promote", plan.image)
    return ExitCode.HELD_BACK
