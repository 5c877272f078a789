"""Commands on an AWS account: from a proven disk to what others launch by, and back."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from pathlib import Path

from goldenami.aws.channels.ledger import GpuProof
from goldenami.aws.session import Account, translated
from goldenami.commands import ROOT, Add
from goldenami.core.cache_paths import CachePaths
from goldenami.core.progress import Progress
from goldenami.local import workspace
from goldenami.lock import lint
from goldenami.model import definition, definition_file, hardware
from goldenami.model.build_records import BAKE_FILE
from goldenami.publish import channel_moves, promote, publish, publish_plan, release_gate, rollback

Command = Callable[[argparse.Namespace], int]


def _in_account(run: Command) -> Command:
    """`run` with AWS's errors as goldenami's own."""
    @functools.wraps(run)
    def command(args: argparse.Namespace) -> int:
        with translated():
            return run(args)
    return command


def _load(image: str) -> definition.Definition:
    return definition_file.load(ROOT, definition_file.path_of(ROOT, image))


def _progress(stage: str, image: str) -> Progress:
    return Progress.of(stage, image, CachePaths.default())


def _options(args: argparse.Namespace) -> channel_moves.MoveOptions:
    return channel_moves.MoveOptions(accept_untested_gpu=args.accept_untested_gpu, now=args.now)


def _attested(image: str, build: str) -> GpuProof:
    """What this machine's records say of a build on a GPU."""
    here = (ROOT / "build" / image / build / BAKE_FILE).exists()
    return release_gate.load(ROOT, image, build).gpu if here else GpuProof.UNTESTED


@_in_account
def cmd_publish(args: argparse.Namespace) -> int:
    """Make the newest proven build an AMI in every region of the definition, then move the pointers to it."""
    wanted, progress, account = _load(args.image), _progress("publish", args.image), Account()
    options = publish_plan.PublishOptions(accept_untested_gpu=args.accept_untested_gpu, again=args.again,
                                          allow_missing_families=args.allow_missing_families)
    with workspace.image_lock(ROOT, args.image, wait=args.wait):
        build = release_gate.load(ROOT, args.image, args.build)
        lint.demand(build.lock, hardware.load(ROOT))
        plan = publish.prepare(account, wanted, build, options, progress)
        print("\n".join(publish_plan.show(plan)), flush=True)
        if publish.is_recorded(build, plan):
            progress.say(f"nothing to do: build {plan.build_id} is published in {len(plan.regions)} regions")
        elif not args.dry_run:
            publish.execute(account, wanted, build, plan, progress)
            progress.say(f"build {plan.build_id} is published in {len(plan.regions)} regions")
    progress.remember()
    return 0


def cmd_attest(args: argparse.Namespace) -> int:
    """Record the JUnit file of a test on a GPU instance as proof for a build, so that `latest` may take it."""
    _load(args.image)
    build = release_gate.load(ROOT, args.image, args.build)
    record = release_gate.attest(build, Path(args.gpu_test))
    print(f"{record.image} {record.build_id}: {record.tests} tests passed on {record.gpu}")
    return 0


@_in_account
def cmd_promote(args: argparse.Namespace) -> int:
    """Move `latest` and the launch template's default to the candidate, after its soak."""
    wanted, progress, account = _load(args.image), _progress("promote", args.image), Account()
    found = promote.candidates(account, wanted)
    build = next(iter(found.values())).entry.build_id
    plan = promote.prepare(account, wanted, found, _attested(args.image, build), _options(args))
    print("\n".join(channel_moves.show("promote", plan)), flush=True)
    if not args.dry_run:
        promote.execute(account, wanted, plan, ROOT / "build" / args.image / build, progress)
        progress.say(f"`latest` is build {build}")
    return 0


@_in_account
def cmd_rollback(args: argparse.Namespace) -> int:
    """Take `latest` and the launch template's default back to the build before (or --to), in all regions at once."""
    wanted, progress, account = _load(args.image), _progress("rollback", args.image), Account()
    declared = GpuProof.UNTESTED if hardware.architectures(ROOT, wanted.hardware) else GpuProof.NONE
    criteria = rollback.RollbackCriteria(lambda build: _attested(args.image, build), declared, _options(args))
    prepared = rollback.prepare(account, wanted, to=args.to, regions=args.region, criteria=criteria)
    print("\n".join(channel_moves.show("roll back", prepared.plan)), flush=True)
    if not args.dry_run:
        rollback.execute(account, wanted, prepared, ROOT / "build" / args.image / "logs", progress)
        progress.say(f"`latest` is build {prepared.plan.build_id}")
    return 0


def register(add: Add) -> None:
    """Add the commands of this module to the command line."""
    publishes, promotes, rollbacks = (add(name, run, "1") for name, run in (
        ("publish", cmd_publish), ("promote", cmd_promote), ("rollback", cmd_rollback)))
    attests = add("attest", cmd_attest, "1")
    for command in (publishes, promotes, rollbacks):
        command.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    for command in (publishes, attests):
        command.add_argument("--build", metavar="ID", help="this build instead of the newest")
    for command in (publishes, promotes, rollbacks):
        command.add_argument("--accept-untested-gpu", action="store_true",
                             help="`latest` may take a build that was not tested on a GPU; recorded")
    publishes.add_argument("--allow-missing-families", action="store_true",
                           help="publish also where a declared instance family does not exist")
    publishes.add_argument("--again", action="store_true", help="publish a build that was rolled back")
    publishes.add_argument("--wait", action="store_true", help="wait for another run on the same image")
    attests.add_argument("--gpu-test", metavar="FILE", required=True, help="JUnit XML of the tests on a GPU instance")
    for command in (promotes, rollbacks):
        command.add_argument("--now", action="store_true", help="do not wait for a candidate's soak to end")
    rollbacks.add_argument("--to", metavar="ID", help="the build to go back to")
    rollbacks.add_argument("--region", action="append", default=[], help="only this region (may be given again)")
