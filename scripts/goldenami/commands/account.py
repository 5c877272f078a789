"""Commands that move an image in an account: from a verified disk to what others launch by, and back."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from goldenami.aws.channels import evidence
from goldenami.aws.channels.ledger import GpuProof
from goldenami.aws.regions import for_each_region
from goldenami.aws.session import Account, translated
from goldenami.commands import BuildId, DryRun, ImageName, Regions, Wait, lead_to, reports
from goldenami.commands.checkout import Checkout
from goldenami.core import records
from goldenami.core.errors import BadInput, ExitCode
from goldenami.core.terminal.command_name import as_typed
from goldenami.core.terminal.progress import Progress
from goldenami.image.lock import lint
from goldenami.image.security import gpu_evidence, provenance
from goldenami.image.security.gpu_evidence import GpuJudge
from goldenami.image.security.provenance import Attestor
from goldenami.local import workspace
from goldenami.model.builds.gpu_proofs import ATTEST_FILE
from goldenami.model.definitions import definition_file
from goldenami.release.publish import (
    channel_moves,
    promote,
    publish,
    publish_plan,
    release_gate,
    rollback,
)

AcceptUntestedGpu = Annotated[bool, typer.Option(
    "--accept-untested-gpu", help="`latest` may take a build that was not tested on a GPU; recorded")]
Now = Annotated[bool, typer.Option("--now", help="do not wait for a candidate's soak to end")]


TakeOver = Annotated[bool, typer.Option(
    "--take-over", help="replace a default version of the launch template that a person set; the version is kept")]


@translated()
def cmd_publish(
    checkout: Checkout, image: ImageName, *, dry_run: DryRun = False, build_id: BuildId = None,
    accept_untested_gpu: AcceptUntestedGpu = False,
    allow_missing_families: Annotated[bool, typer.Option(
        "--allow-missing-families", help="publish also where a declared instance family does not exist")] = False,
    again: Annotated[bool, typer.Option("--again", help="publish a build that was rolled back")] = False,
    take_over: TakeOver = False, wait: Wait = False,
) -> int:
    """Make the newest proven build an AMI in every region, then move the pointers to it."""
    definition, progress, account = checkout.definition(image), checkout.progress("publish", image), Account()
    options = publish_plan.PublishOptions(accept_untested_gpu=accept_untested_gpu, again=again,
                                          allow_missing_families=allow_missing_families, take_over=take_over)
    with workspace.image_lock(checkout.root, image, wait=wait):
        build = release_gate.load(checkout.root, image, build_id)
        lint.demand(build.lock, checkout.families)
        release_gate.check_vulnerabilities(definition, build.folder)
        release_gate.check_hardening(definition, build.folder)
        key = provenance.demanded(checkout.root, definition, account)
        signs = Attestor(build.folder, key, definition_file.path_of(checkout.root, image)) if key else None
        judge = GpuJudge(checkout.root, account.with_short_timeouts(), definition)
        plan = publish.prepare(account, definition, build, options, progress, judge, signs)
        print(as_typed("\n".join(publish_plan.show(plan))), flush=True)
        if publish.is_recorded(build, plan):
            progress.say(f"nothing to do: build {plan.build_id} is published in {len(plan.regions)} regions")
        elif not dry_run:
            publish.execute(account, definition, build, plan, progress, wait_s=math.inf if wait else 0.0, signs=signs)
            progress.say(f"build {plan.build_id} is published in {len(plan.regions)} regions")
            _tell_report(build, progress)
        if not dry_run:
            progress.say(f"provenance: {f'signed by {key.public_key.keyid[:12]}' if key else 'unsigned'}")
    progress.remember()
    if not plan.held_back:
        return ExitCode.OK
    progress.say(f"`latest` stays: {plan.held_back}")
    if plan.differing:
        progress.say(f"{plan.differing}, until a promotion makes them alike")
    if dry_run:
        return ExitCode.OK
    lead_to("gpu-test" if plan.gpu is GpuProof.UNTESTED else "promote", image)
    return ExitCode.HELD_BACK


def _tell_report(build: release_gate.VerifiedBuild, progress: Progress) -> None:
    """Write the report with its AMIs. The build is published, whatever is wrong with the records of one before it."""
    try:
        progress.say(f"report: {reports.written(build.folder, build.lock)}")
    except BadInput as error:
        progress.say(f"no report: {error.message}")


@translated()
def cmd_attest(
    checkout: Checkout, image: ImageName, *, build_id: BuildId = None,
    gpu_test: Annotated[Path, typer.Option(
        "--gpu-test", metavar="FILE", help="JUnit XML of the tests on a GPU instance")],
    by: Annotated[str, typer.Option("--by", metavar="NAME", help="the person who vouches for the file")],
) -> int:
    """Record the JUnit file of a test on a GPU that a person made by hand; `gpu-test` needs none."""
    definition, build = checkout.definition(image), release_gate.load(checkout.root, image, build_id)
    account = Account.tester()
    key = provenance.demanded(checkout.root, definition, account)
    record = gpu_evidence.signed(release_gate.attest(checkout.root, build, gpu_test, by), key)
    records.write(build.folder.path / ATTEST_FILE, record)
    print(f"{image} {record.build_id}: {record.machines[0].checks} tests passed, {record}")
    if definition.publish:
        for_each_region(definition.regions, lambda region: evidence.write(account.ssm(region), record)).require_all(
            "recorded here, and not everywhere in the account: a promotion elsewhere does not know of it",
            "run the same command again")
        lead_to("promote" if build.folder.publish.exists() else "publish", image)
    return 0


@translated()
def cmd_promote(
    checkout: Checkout, image: ImageName, *, dry_run: DryRun = False, accept_untested_gpu: AcceptUntestedGpu = False,
    now: Now = False, take_over: TakeOver = False,
) -> int:
    """Move `latest` and the launch template's default to the candidate, after its soak."""
    definition, progress, account = checkout.definition(image), checkout.progress("promote", image), Account()
    candidates = promote.candidates(account, definition)
    build_id = next(iter(candidates.values())).entry.build_id
    release_gate.check_vulnerabilities(definition, checkout.builds(image).build(build_id))
    release_gate.check_hardening(definition, checkout.builds(image).build(build_id))
    plan = promote.prepare(account, definition, candidates,
                           GpuJudge(checkout.root, account.with_short_timeouts(), definition),
                           channel_moves.MoveOptions(
                               accept_untested_gpu=accept_untested_gpu, now=now, take_over=take_over))
    print(as_typed("\n".join(channel_moves.show("promote", plan))), flush=True)
    if not dry_run:
        promote.execute(account, definition, plan, checkout.builds(image).build(build_id).path, progress)
        progress.say(f"`latest` is build {build_id}")
        lead_to("status", image)
    return 0


@translated()
def cmd_rollback(
    checkout: Checkout, image: ImageName, *, dry_run: DryRun = False, accept_untested_gpu: AcceptUntestedGpu = False,
    now: Now = False, take_over: TakeOver = False,
    to: Annotated[str | None, typer.Option("--to", metavar="ID", help="the build to go back to")] = None,
    region: Regions,
) -> int:
    """Take `latest` and the launch template's default back to the build before (or --to), everywhere."""
    definition, progress, account = checkout.definition(image), checkout.progress("rollback", image), Account()
    criteria = rollback.RollbackCriteria(
        GpuJudge(checkout.root, account.with_short_timeouts(), definition),
        channel_moves.MoveOptions(accept_untested_gpu=accept_untested_gpu, now=now, take_over=take_over))
    prepared = rollback.prepare(account, definition, to=to, regions=region, criteria=criteria)
    print(as_typed("\n".join(channel_moves.show("roll back", prepared.plan))), flush=True)
    if dry_run:
        prepared.check({}, "not every region could be read",
                       f"`golden rollback {image}` takes the others back")
    else:
        rollback.execute(account, definition, prepared, checkout.builds(image).logs, progress)
        progress.say(f"`latest` is build {prepared.plan.build_id}")
        lead_to("status", image)
    return 0
