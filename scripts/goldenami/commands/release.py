"""The command by which a pipeline without a person takes a lock's build all the way to `latest`."""

from __future__ import annotations

from goldenami.aws.channels import channels
from goldenami.aws.channels.ledger import GpuProof
from goldenami.aws.session import Account, translated
from goldenami.commands import DryRun, ImageName, Wait, lead_to
from goldenami.commands.account import cmd_promote, cmd_publish
from goldenami.commands.builds import cmd_bake
from goldenami.commands.checkout import Checkout
from goldenami.commands.gpu_test import cmd_gpu_test
from goldenami.commands.security import cmd_cve
from goldenami.core.errors import ExitCode, StageFailed
from goldenami.image.security.gpu_evidence import GpuJudge
from goldenami.model.supported import hardware
from goldenami.release.publish import channel_moves, release_steps
from goldenami.release.publish.release_steps import NextStep, ReleaseStep


@translated()
def cmd_release(checkout: Checkout, image: ImageName, *, wait: Wait = False, dry_run: DryRun = False) -> int:
    """Bake, publish, test on GPUs and promote the lock's build, as far as each is due; for schedules."""
    progress, done = checkout.progress("release", image), list[ReleaseStep]()
    while True:
        due = _look(checkout, image)
        progress.say(due.why + (f": {due.step}" if due.step not in (ReleaseStep.WAIT, ReleaseStep.DONE) else ""))
        if due.step is ReleaseStep.DONE:
            if not dry_run:
                lead_to("status", image)
            return ExitCode.OK
        if due.step is ReleaseStep.WAIT:
            lead_to("release", image)
            return ExitCode.HELD_BACK
        if dry_run:
            return ExitCode.OK
        if due.step in done:
            raise StageFailed(f"{due.step} has ended, and {due.why}", hint=f"`golden status {image}` shows the regions")
        done.append(due.step)
        _run(checkout, image, due.step, wait=wait)


def _look(checkout: Checkout, image: str) -> NextStep:
    definition, account = checkout.definition(image), Account()
    judge = GpuJudge(checkout.root, account, definition)
    section, (_, build) = channels.publish_section(definition), checkout.of_lock(image)
    needs_gpu = bool(hardware.architectures(checkout.root, definition.hardware))
    ledgers = channels.read_ledgers(account, image, section.regions).require_all()
    return release_steps.next_step(
        build.build_id, ledgers, soak_hours=section.soak_hours,
        baked=build.is_verified, judged=definition.security.cve is not None,
        tested=not needs_gpu or channel_moves.on_gpus(
            account, definition, build.build_id, section.regions, judge).proof is not GpuProof.UNTESTED)


def _run(checkout: Checkout, image: str, step: ReleaseStep, *, wait: bool) -> None:
    """One step, by the command of its name; what it raises ends the release."""
    if step in (ReleaseStep.PUBLISH, ReleaseStep.PROMOTE) and checkout.definition(image).security.cve:
        cmd_cve(checkout, image, data=[], sha256=[])  # a record of today
    if step is ReleaseStep.BAKE:
        cmd_bake(checkout, image, wait=wait)
    elif step is ReleaseStep.PUBLISH:
        cmd_publish(checkout, image, wait=wait)
    elif step is ReleaseStep.GPU_TEST:
        cmd_gpu_test(checkout, image, region=[])
    else:
        cmd_promote(checkout, image)
