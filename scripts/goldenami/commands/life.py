"""Commands on what an account holds: what goes, what was left behind, what there is, what it costs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from goldenami.aws.channels import channels
from goldenami.aws.session import Account, check_regions, translated
from goldenami.commands import AsJson, DryRun, ImageName, OptionalImage, Regions
from goldenami.commands.account_views import (
    images_by_region,
    print_record,
    raise_failed,
    template_refs,
)
from goldenami.commands.checkout import Checkout
from goldenami.core import clock, records
from goldenami.core.errors import BadInput, NotVerified
from goldenami.core.terminal.progress import Progress
from goldenami.core.yaml_lines import nearest
from goldenami.fleet.costs import costs, costs_summary, family_regions
from goldenami.fleet.costs.region_advice import workload_of
from goldenami.local import workspace
from goldenami.model.builds import lockfile
from goldenami.model.supported import support
from goldenami.model.supported.support import SupportState
from goldenami.release.retire import pointer_check, retire, status, sweep
from goldenami.release.retire.retention import RetentionPolicy

_LONGEST_DAYS = 3650
_WRITTEN_AGAIN = "`golden publish IMAGE` or `golden rollback IMAGE` writes all pointers of an image again"


@translated()
def cmd_retire(
    checkout: Checkout, image: ImageName, *, as_json: AsJson = False, region: Regions, dry_run: DryRun = False,
    restore: Annotated[str | None, typer.Option(
        "--restore", metavar="AMI", help="take an AMI (or build id) back that was not deregistered")] = None,
    release_shared: Annotated[bool, typer.Option(
        "--release-shared", help="also what is shared with other accounts, if none launched it for 30 days")] = False,
    keep_last: Annotated[int | None, typer.Option(
        "--keep-last", metavar="N", min=1, help="newest builds that stay whatever their age")] = None,
    max_age_days: Annotated[int | None, typer.Option(
        "--max-age-days", metavar="N", min=0, max=_LONGEST_DAYS, help="days that any build stays")] = None,
    disable_after_days: Annotated[int | None, typer.Option(
        "--disable-after-days", metavar="N", min=0, max=_LONGEST_DAYS,
        help="days between announcement and disabling")] = None,
    deregister_after_days: Annotated[int | None, typer.Option(
        "--deregister-after-days", metavar="N", min=0, max=_LONGEST_DAYS,
        help="days between disabling and deregistration")] = None,
) -> int:
    """Take what nobody uses one step further: deprecate, disable, deregister; say why the rest stays.

    The options in days, and --keep-last, stand in for what the definition says.
    """
    definition = checkout.definition(image)
    publish = channels.publish_section(definition)
    account, progress, names = Account(), checkout.progress("retire", image), region or publish.regions
    check_regions(names)
    if publish.account:
        account.with_short_timeouts().expect(publish.account, names[0])
    if restore:
        return _restore(account, image, names, restore, progress, as_json=as_json, dry_run=dry_run)
    policy = RetentionPolicy.of(publish, release_shared=release_shared, keep_last=keep_last, max_age_days=max_age_days,
                       disable_after_days=disable_after_days, deregister_after_days=deregister_after_days)
    prepared = retire.with_dropped(
        retire.prepare(account, image, names, policy, progress), definition)
    print_record(prepared.plan, retire.show(prepared.plan), as_json)
    if dry_run:
        retire.check(prepared, {})
        return 0
    retire.execute(account, prepared, checkout.builds(image).path, progress)
    progress.remember()
    return 0


def _restore(
    account: Account, image: str, names: list[str], target: str, progress: Progress, *, as_json: bool, dry_run: bool,
) -> int:
    plan = retire.prepare_restore(account, image, names, target)
    print_record(plan, retire.show_restore(plan), as_json)
    if not dry_run:
        retire.restore(account, plan, progress)
    return 0


@translated()
def cmd_status(
    checkout: Checkout, image: OptionalImage = None, *, as_json: AsJson = False, region: Regions,
    check: Annotated[bool, typer.Option(
        "--check", help="only whether the pointers are right, for a monitor: 0 yes, 6 no, 4 or 8 a region is silent",
    )] = False,
) -> int:
    """Show the builds behind latest, candidate and template in each region; of one IMAGE its AMIs, too."""
    if check and region:
        raise BadInput("--check holds the regions of a definition to each other: it takes no --region",
                       hint="name an IMAGE, or leave --region out")
    if check:
        return _check(checkout, image, as_json=as_json)
    record, failed = status.look(
        Account(), images_by_region(checkout, image, region), template_refs(checkout, image))
    families = checkout.families
    dropped = [f"{one.image} in {name}: {channels.DROPPED}"
               for one in checkout.definitions(image) if one.publish
               for name in channels.dropped(one, (
                   each.published_to for there in record.regions.values() for each in there
                   if each.image == one.image))]
    with_gpus = {one.image for one in checkout.definitions(image)
                 if any(name in families and families[name].sm for name in one.hardware)}
    shown = status.show(record, details=image is not None, with_gpus=with_gpus)
    support_of = _support(checkout, status.pointed(record), everything=image is not None)
    print_record(record, [*shown, *dropped, *support_of], as_json)
    if lost := record.lost():
        raise NotVerified(f"{len(lost)} pointers name nothing", tail="\n".join(lost),
                          hint=_WRITTEN_AGAIN)
    raise_failed(failed, "not every region could be read")
    return 0


def _support(checkout: Checkout, builds: list[tuple[str, str]], *, everything: bool) -> Iterator[str]:
    """Until when parts of these builds get fixes, by locks that are here; what is well only where all is asked for."""
    day = clock.now().date()
    for image, build_id in builds:
        paths = (lockfile.path_of(checkout.root, image), checkout.builds(image).build(build_id).lock)
        lock = next((path for path in paths if path.exists() and records.sha256_file(path).startswith(build_id)), None)
        for part in support.of_lock(json.loads(lock.read_text(encoding="utf-8"))) if lock else ():
            if everything or part.state(day) is not SupportState.SUPPORTED:
                yield f"{image} {build_id}: {part.part} {part.version} {part.words(day)}"


def _check(checkout: Checkout, image: str | None, *, as_json: bool) -> int:
    record, failed = pointer_check.look(Account(), list(checkout.definitions(image)))
    print_record(record, pointer_check.show(record), as_json)
    if record.problems:
        raise NotVerified(f"{len(record.problems)} pointers or regions are not as they have to be",
                          hint=_WRITTEN_AGAIN)
    raise_failed(failed, "not every region could be read")
    return 0


@translated()
def cmd_sweep(checkout: Checkout, *, as_json: AsJson = False, region: Regions, dry_run: DryRun = False) -> int:
    """Remove what killed runs left in the account: whatever carries a date of expiry that has passed.

    It asks the regions of all definitions, and those where a bake or a verify of this checkout ran (--region).
    """
    account, used = Account(), [] if region else workspace.noted_regions(checkout.root)
    check_regions(used)
    prepared = sweep.prepare(account, list(dict.fromkeys([*images_by_region(checkout, None, region), *used])))
    print_record(prepared.plan, sweep.show(prepared.plan), as_json)
    if dry_run:
        sweep.check(prepared, {})
    else:
        removed = sweep.execute(account, prepared)
        print(f"{sum(removed.values())} things removed in {len(removed)} regions", file=sys.stderr)
    return 0


@translated()
def cmd_regions(
    checkout: Checkout, image: OptionalImage = None, *, as_json: AsJson = False, region: Regions,
    family: Annotated[list[str], typer.Option(
        "--family", metavar="NAME", help="an instance family, for instance g5 (may be given again)",
        default_factory=list, show_default=False)],
    gpu_hours: Annotated[float | None, typer.Option(
        "--gpu-hours", metavar="N", min=0.01, max=1e7, help="hours of one GPU a month, to be priced")] = None,
    scaling: Annotated[list[str], typer.Option(
        "--scaling", metavar="GPUS=TIMES", default_factory=list, show_default=False,
        help="how much faster so many GPUs are than one, for instance 8=6.2 (default: 8=5)")],
    data: Annotated[str | None, typer.Option(
        "--data", metavar="REGION=GB", help="10^9 bytes a month that the work reads from a region")] = None,
) -> int:
    """Show where families, of IMAGE or by name, exist, what they cost, where a workload costs least."""
    check_regions(region)
    if image and not family:
        family = list(checkout.definition(image).hardware)
    if not family:
        raise BadInput("no family to look for", hint="name an image, or a family by --family")
    if gpu_hours is None and (scaling or data):
        raise BadInput("--scaling and --data say nothing without a workload", hint="give --gpu-hours, too")
    workload = workload_of(gpu_hours, scaling, data or "") if gpu_hours else None
    check_regions([workload.data_region] if workload and workload.data_region else [])
    home = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    record, failed = family_regions.look(Account(), family, region, home, workload)
    print_record(record, family_regions.show(record), as_json)
    raise_failed(failed, "not every region could be read")
    if not any(record.regions.values()):
        raise BadInput(f"no region has a family `{family[0]}`: {nearest(family[0], checkout.families)}",
                       hint="a family is what stands before the dot of an instance type")
    if record.advice and not record.advice.rows:
        raise BadInput(f"no type of {', '.join(family)} has a whole GPU", hint="--gpu-hours is for families with GPUs")
    return 0


@translated()
def cmd_costs(
    checkout: Checkout, image: OptionalImage = None, *, as_json: AsJson = False, region: Regions,
) -> int:
    """Show what images cost this month, what retiring would save, and which commitments end soon."""
    policies = {each.image: RetentionPolicy.of(each.publish) if each.publish else RetentionPolicy()
                for each in checkout.definitions(image)}
    record, failed = costs.look(Account(), images_by_region(checkout, image, region), policies)
    print_record(record, costs_summary.show(record), as_json)
    raise_failed(failed, "not every region could be read")
    return 0
