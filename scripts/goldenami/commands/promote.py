"""Commands that move the pointers which others launch by: to the candidate, and back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import typer

from goldenami.aws.channels.channels import ImageInAccount
from goldenami.aws.regions import in_parallel
from goldenami.aws.session import translated
from goldenami.commands import (
    AcceptUntestedGpu,
    DryRun,
    ImageName,
    Regions,
    lead_to,
    print_plan,
    raise_failed,
)
from goldenami.commands.checkout import Checkout
from goldenami.core.terminal.progress import Progress
from goldenami.model.builds import figures
from goldenami.release.publish import (
    channel_moves,
    container_tags,
    promote,
    release_gate,
    rollback,
)
from goldenami.release.publish.channel_moves import Criteria
from goldenami.release.publish.publish_records import MovePlan

Now = Annotated[bool, typer.Option("--now", help="do not wait for a candidate's soak to end")]


@dataclass(frozen=True, kw_only=True)
class MoveOptions:
    """The arguments and options of both commands."""

    image: ImageName
    dry_run: DryRun = False
    accept_untested_gpu: AcceptUntestedGpu = False
    now: Now = False


@dataclass(frozen=True, kw_only=True)
class PromoteOptions(MoveOptions):
    """The arguments and options of `golden promote`."""

    accept_slower: Annotated[
        str,
        typer.Option(metavar="REASON", help="`latest` may take a build that is slower; recorded"),
    ] = ""


@translated()
def cmd_promote(checkout: Checkout, options: PromoteOptions) -> int:
    """Move `latest` and the launch template's default to the candidate, after its soak."""
    image = options.image
    in_account = checkout.in_account(image)
    progress = checkout.progress("promote", image)
    criteria = Criteria(checkout.gpu_judge(in_account), options.accept_untested_gpu, options.now)
    plan = promote.prepare(in_account, criteria)
    build = checkout.builds(image).build(plan.build_id)
    release_gate.check_security(in_account.definition, build)
    replaced = [move.before_build for move in plan.regions]
    slower = list(figures.judge(build, replaced, options.accept_slower))
    with container_tags.planned(in_account, plan.build_id, progress) as containers:
        lines = [*channel_moves.lines("promote", plan), *slower, *containers.show(moves=True)]
        print_plan(lines)
        if not options.dry_run:
            promote.execute(in_account, plan, progress)
            containers.move([plan.build_id])
            progress.say(f"`latest` is build {plan.build_id}")
            lead_to("status", image)
    return 0


@dataclass(frozen=True, kw_only=True)
class RollbackOptions(MoveOptions):
    """The arguments and options of `golden rollback`."""

    to: Annotated[
        str | None, typer.Option("--to", metavar="ID", help="the build to go back to")
    ] = None
    region: Regions = field(default_factory=list)


@translated()
def cmd_rollback(checkout: Checkout, options: RollbackOptions) -> int:
    """Take `latest` and the launch template's default back to the build before (or --to),
    everywhere."""
    image = checkout.in_account(options.image)
    progress = checkout.progress("rollback", image.name)
    criteria = Criteria(checkout.gpu_judge(image), options.accept_untested_gpu, options.now)
    prepared = rollback.prepare(image, criteria, to=options.to, regions=options.region)
    print_plan(channel_moves.lines("roll back", prepared.plan))
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
