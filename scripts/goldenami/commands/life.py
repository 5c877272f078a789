"""Commands on what an account holds: what goes, what was left behind, what there is, what it costs."""

from __future__ import annotations

import argparse
from pathlib import Path

from goldenami import channels, definition, records, retire, store
from goldenami.aws.session import Account, check_regions, translated
from goldenami.commands import ROOT, Add
from goldenami.progress import Progress
from goldenami.retention import Policy


def _folder(image: str) -> Path:
    return ROOT / "build" / image


def _policy(args: argparse.Namespace, asked: definition.Publish) -> Policy:
    """The definition's policy with what the command line says otherwise."""
    given = {"keep_last": asked.keep_last, "max_age_days": asked.max_age_days}
    given |= {name: value for name in Policy.model_fields if (value := getattr(args, name, None)) is not None}
    return Policy.model_validate(given)


def cmd_retire(args: argparse.Namespace) -> int:
    """Take what nobody uses any more one step further: deprecate, disable, deregister; say why the rest stays."""
    wanted = channels.published(definition.load(ROOT, definition.path_of(ROOT, args.image)))
    account, progress = Account(), Progress.of("retire", args.image, store.default_root())
    regions = args.region or wanted.regions
    check_regions(regions)
    with translated():
        if args.restore:
            for region in regions:
                progress.say(f"{region}: {retire.restore(account, region, args.image, args.restore)} is as it was")
            return 0
        with progress.step("look at the regions"):
            prepared = retire.prepare(account, args.image, regions, _policy(args, wanted))
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


def register(add: Add) -> None:
    """Add the commands of this module to the command line."""
    retires = add("retire", cmd_retire, "1")
    retires.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    retires.add_argument("--json", action="store_true", help="print the plan as JSON")
    retires.add_argument("--region", action="append", default=[], help="only this region (may be given again)")
    retires.add_argument("--restore", metavar="AMI", help="take an AMI (or build id) back that was not deregistered")
    retires.add_argument("--release-shared", action="store_true", default=None,
                         help="also what is shared with other accounts, once none launched it for 30 days")
    for name, text in (("keep-last", "newest builds that stay whatever their age"),
                       ("max-age-days", "days that any build stays"),
                       ("disable-after-days", "days between announcement and disabling"),
                       ("deregister-after-days", "days between disabling and deregistration")):
        retires.add_argument(f"--{name}", type=int, metavar="N", help=f"{text} (instead of the definition's)")
