"""The command that takes a lock's build to `latest` without a person, for schedules."""

from __future__ import annotations

from goldenami.aws.channels import channels
from goldenami.aws.session import translated
from goldenami.commands import DryRun, ImageName, Wait, lead_to
from goldenami.commands.builds.bake import BakeOptions, cmd_bake
from goldenami.commands.builds.container import cmd_container
from goldenami.commands.checkout import Checkout
from goldenami.commands.cve import cmd_cve
from goldenami.commands.gpu_test import GpuTestOptions, cmd_gpu_test
from goldenami.commands.promote import PromoteOptions, cmd_promote
from goldenami.commands.publish import PublishOptions, cmd_publish
from goldenami.core.errors import ExitCode, StageFailed
from goldenami.release.publish import release_steps
from goldenami.release.publish.release_steps import NextStep, ReleaseStep


@translated()
def cmd_release(
    checkout: Checkout, image: ImageName, *, wait: Wait = False, dry_run: DryRun = False
) -> int:
    """Bake, publish, test on GPUs and promote the lock's build, as far as each is due; for
    schedules."""
    progress, steps_done = checkout.progress("release", image), list[ReleaseStep]()
    while True:
        due = _next_step(checkout, image)
        progress.say(str(due))
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
    image = checkout.in_account(name)
    # An image that is not published is refused before its lock is read.
    channels.publish_section(image.definition)
    _, build = checkout.of_lock(name)
    return release_steps.next_step(image, build, checkout.gpu_judge(image))


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
        cmd_promote(checkout, PromoteOptions(image=image))
