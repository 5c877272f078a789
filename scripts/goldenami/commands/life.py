"""Commands on what an account holds: what goes, what was left behind, what there is, what it costs."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from goldenami.aws import regions
from goldenami.aws.channels import channels
from goldenami.aws.session import Account, check_regions, translated
from goldenami.commands import ROOT, Add
from goldenami.core import records
from goldenami.core.cache_paths import CachePaths
from goldenami.core.errors import GoldenError
from goldenami.core.progress import Progress
from goldenami.lifecycle import regions as family_regions
from goldenami.lifecycle import retire, status, sweep
from goldenami.lifecycle.retention import RetentionPolicy
from goldenami.local import workspace
from goldenami.model import definition, definition_file


def _folder(image: str) -> Path:
    return ROOT / "build" / image


def _policy(args: argparse.Namespace, asked: definition.Publish) -> RetentionPolicy:
    """The definition's policy with what the command line says otherwise."""
    given = {"keep_last": asked.keep_last, "max_age_days": asked.max_age_days}
    given |= {name: value for name in RetentionPolicy.model_fields if (value := getattr(args, name, None)) is not None}
    return RetentionPolicy.model_validate(given)


def cmd_retire(args: argparse.Namespace) -> int:
    """Take what nobody uses any more one step further: deprecate, disable, deregister; say why the rest stays."""
    wanted = channels.publish_section(definition_file.load(ROOT, definition_file.path_of(ROOT, args.image)))
    account, progress = Account(), Progress.of("retire", args.image, CachePaths.default())
    names = args.region or wanted.regions
    check_regions(names)
    with translated():
        if args.restore:
            return _restore(args, account, names, progress)
        with progress.step("look at the regions"):
            prepared = retire.prepare(account, args.image, names, _policy(args, wanted))
        if args.json:
            print(records.canonical(prepared.plan.model_dump(mode="json")), end="", flush=True)
        else:
            print("\n".join(retire.show(prepared.plan)), flush=True)
        if args.dry_run:
            retire.check(prepared, {})
            return 0
        retire.execute(account, prepared, _folder(args.image), progress)
    progress.remember()
    return 0


def _restore(args: argparse.Namespace, account: Account, names: list[str], progress: Progress) -> int:
    plan = retire.prepare_restore(account, args.image, names, args.restore)
    print(records.canonical(plan.model_dump(mode="json")) if args.json else "\n".join(retire.show_restore(plan)),
          end="" if args.json else "\n", flush=True)
    if not args.dry_run:
        retire.restore(account, plan, progress)
    return 0


def _by_region(image: str | None, only: list[str]) -> dict[str, list[str]]:
    """The images that are published to each region, by their definitions; `only`: these regions, declared or not."""
    paths = [definition_file.path_of(ROOT, image)] if image else sorted((ROOT / "packer/images").glob("*.yml"))
    found: dict[str, list[str]] = {}
    for wanted in (definition_file.load(ROOT, path) for path in paths):
        for region in only or (wanted.publish.regions if wanted.publish else []):
            found.setdefault(region, []).append(wanted.image)
    check_regions(found)
    return found


def _raise(failed: dict[str, GoldenError], what: str) -> None:
    if failed:
        raise regions.combined_error(failed, what, "then run again", {})


def cmd_status(args: argparse.Namespace) -> int:
    """Show the builds behind latest, candidate and template, who runs which, and what each costs a month."""
    with translated():
        record, failed = status.look(Account(), _by_region(args.image, args.region))
    print(records.canonical(record.model_dump(mode="json")) if args.json else "\n".join(status.show(record)),
          end="" if args.json else "\n", flush=True)
    _raise(failed, "not every region could be read")
    return 0


def cmd_sweep(args: argparse.Namespace) -> int:
    """Remove what killed runs left in the account: whatever carries a date of expiry that has passed.

    It asks the regions of all definitions, and those where a bake or a verify of this checkout ran (`--region`).
    """
    account, used = Account(), [] if args.region else workspace.noted_regions(ROOT)
    check_regions(used)
    with translated():
        prepared = sweep.prepare(account, list(dict.fromkeys([*_by_region(None, args.region), *used])))
        print(records.canonical(prepared.plan.model_dump(mode="json")) if args.json else
              "\n".join(sweep.show(prepared.plan)), end="" if args.json else "\n", flush=True)
        if args.dry_run:
            sweep.check(prepared, {})
        else:
            removed = sweep.execute(account, prepared)
            print(f"{sum(removed.values())} things removed in {len(removed)} regions", file=sys.stderr)
    return 0


def cmd_regions(args: argparse.Namespace) -> int:
    """Show where an instance family exists and what an hour of each of its types costs there."""
    check_regions(args.region)
    home = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    with translated():
        record, failed = family_regions.look(Account(), args.family, args.region, home)
    print(records.canonical(record.model_dump(mode="json")) if args.json else
          "\n".join(family_regions.show(record)), end="" if args.json else "\n", flush=True)
    _raise(failed, "not every region could be read")
    return 0


def register(add: Add) -> None:
    """Add the commands of this module to the command line."""
    retires = add("retire", cmd_retire, "1")
    statuses, sweeps, families = add("status", cmd_status, "?"), add("sweep", cmd_sweep), add("regions", cmd_regions)
    families.add_argument("--family", metavar="NAME", required=True, help="an instance family, for instance g5")
    for command in (retires, statuses, sweeps, families):
        command.add_argument("--json", action="store_true", help="print JSON")
        command.add_argument("--region", action="append", default=[], help="only this region (may be given again)")
    for command in (retires, sweeps):
        command.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    retires.add_argument("--restore", metavar="AMI", help="take an AMI (or build id) back that was not deregistered")
    retires.add_argument("--release-shared", action="store_true", default=None,
                         help="also what is shared with other accounts, once none launched it for 30 days")
    for name, text in (("keep-last", "newest builds that stay whatever their age"),
                       ("max-age-days", "days that any build stays"),
                       ("disable-after-days", "days between announcement and disabling"),
                       ("deregister-after-days", "days between disabling and deregistration")):
        retires.add_argument(f"--{name}", type=int, metavar="N", help=f"{text} (instead of the definition's)")
