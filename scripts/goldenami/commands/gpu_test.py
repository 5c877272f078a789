"""The command between publish and promote: test the candidate on a GPU of each declared
architecture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import typer

from goldenami.aws.channels.channels import ImageInAccount
from goldenami.aws.session import Account, translated
from goldenami.commands import DryRun, ImageName, Regions, lead_to
from goldenami.commands.checkout import Checkout
from goldenami.core.terminal.progress import Progress
from goldenami.image.provenance import provenance
from goldenami.image.report import report
from goldenami.local.host import workspace
from goldenami.model.builds import figures
from goldenami.model.builds.gpu_proofs import Asked, GpuTestRecord
from goldenami.model.supported import hardware
from goldenami.release.gpu_test import (
    account_offers,
    candidates,
    gpu_evidence,
    gpu_test,
)
from goldenami.release.gpu_test.gpu_machine import GpuTest

Hours = Annotated[
    float,
    typer.Option("--hours", metavar="H", min=0.2, max=12, help="what one instance may run at most"),
]
MaxUsd = Annotated[
    float | None,
    typer.Option(
        "--max-usd",
        metavar="USD",
        min=0.01,
        help="what the whole test may cost (default: no limit)",
    ),
]
WaitMinutes = Annotated[
    float,
    typer.Option(
        "--wait-minutes", metavar="M", min=0, help="keep asking so long while EC2 has no capacity"
    ),
]


@dataclass(frozen=True, kw_only=True)
class GpuTestOptions:
    """The arguments and options of `golden gpu-test`."""

    image: ImageName
    dry_run: DryRun = False
    region: Regions = field(default_factory=list)
    hours: Hours = 1.0
    max_usd: MaxUsd = None
    wait_minutes: WaitMinutes = 30.0


@translated()
def cmd_gpu_test(checkout: Checkout, options: GpuTestOptions) -> int:
    """Check the candidate on the cheapest GPU of each declared architecture (or class), record
    it, terminate."""
    image, hours = options.image, options.hours
    definition = checkout.definition(image)
    # Publishers may not write test records, so tests can have a profile of their own.
    account = checkout.account(definition).tester()
    tested = ImageInAccount(account, definition)
    progress = checkout.progress("gpu-test", image)
    if not hardware.architectures(checkout.root, definition.hardware):
        progress.say(f"nothing to test: {image} declares no NVIDIA GPU")
        return 0
    key = provenance.demanded(checkout.root, definition, account)
    lock, digest = checkout.lock(image)
    with progress.step("look at the account"):
        # The test's checks are those of this checkout, so it only tests the build of its lock.
        candidate = candidates.read(tested, options.region, digest)
        asked = Asked.of(checkout.root, lock, tested.section.instance_types)
        candidates.check_types(tested, candidate, asked)
        offers = account_offers.read(
            checkout.root, tested, candidate.subnets, hours=hours, most_usd=options.max_usd
        )
    build_id = candidate.build_id
    lines = gpu_test.lines(image, build_id, offers, hours)
    print("\n".join([*lines, *gpu_test.untested_lines(checkout.root, definition)]), flush=True)
    if options.dry_run:
        return 0
    builds, root = checkout.builds(image), checkout.root
    with (
        workspace.image_lock(root, image),
        workspace.scratch_in(builds.path, "gpu-test") as scratch,
    ):
        test = GpuTest(
            root=root,
            account=account,
            lock=lock,
            build_id=build_id,
            candidates=candidate.amis,
            variables=scratch / "vars.json",
            work=scratch,
            log=builds.logs / f"gpu-test-{build_id}.log",
            hours=hours,
            wait_s=60 * options.wait_minutes,
            subnets=candidate.subnets,
        )
        gpu_test.write_variables(test, digest)
        for sm_offers in offers.values():
            # Noted before anything is launched: `golden sweep` looks there for what a killed test
            # left.
            for region in {offer.region for offer in sm_offers}:
                workspace.note_region(root, image, region)
        for line in gpu_test.clear(test):
            progress.say(line)
        record = gpu_test.run(test, offers, progress)
        if builds.build(build_id).is_baked:
            figures.keep(builds.build(build_id), scratch)
    _record_result(
        checkout, account, list(candidate.amis), gpu_evidence.signed(record, key), progress
    )
    progress.remember()
    return 0


def _record_result(
    checkout: Checkout,
    account: Account,
    regions: Sequence[str],
    record: GpuTestRecord,
    progress: Progress,
) -> None:
    # Kept here, too, if the build is: its report shows the test.
    if (folder := checkout.builds(record.image).build(record.build_id)).is_baked:
        gpu_evidence.keep(folder, record)
        report.tell(folder, progress)
    gpu_evidence.write(account, regions, record)
    for machine in record.machines:
        progress.say(
            f"{machine.checks} checks passed on {machine.gpu} ({machine.instance_type}, "
            f"{machine.region})"
        )
    lead_to("promote", record.image)
