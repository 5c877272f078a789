"""Commands that remove an account's old AMIs, and what killed runs left behind."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Annotated

import typer

from goldenami.aws.channels import channels
from goldenami.aws.session import check_regions, translated
from goldenami.commands import AsJson, DryRun, ImageName, Regions, print_record, settings_of
from goldenami.commands.checkout import Checkout
from goldenami.core.errors import BadInput
from goldenami.core.yaml_lines import nearest
from goldenami.local.host import workspace
from goldenami.release.publish import container_tags, registry_pushes
from goldenami.release.retire import retire, sweep
from goldenami.release.retire.retention import RetentionPolicy

_LEAST = {"keep_last": 1, "max_age_days": 0, "disable_after_days": 0, "deregister_after_days": 0}
"""The limits that --set may change, with the least value of each."""
_MOST = 3650


@dataclass(frozen=True, kw_only=True)
class RetireOptions:
    """The arguments and options of `golden retire`."""

    image: ImageName
    as_json: AsJson = False
    region: Regions = field(default_factory=list)
    dry_run: DryRun = False
    release_shared: Annotated[
        bool,
        typer.Option(
            "--release-shared",
            help="also what is shared with other accounts, if none launched it for 30 days",
        ),
    ] = False
    instead: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="NAME=N",
            default_factory=list,
            show_default=False,
            help="other limits: keep_last, max_age_days, disable_after_days, deregister_after_days",
        ),
    ] = field(default_factory=list)


@translated()
def cmd_retire(checkout: Checkout, options: RetireOptions) -> int:
    """Take what nobody uses one step further: deprecate, disable, deregister; say why the rest
    stays.

    `--set` gives other limits than the definition and the waits of 14 days between two steps.
    """
    image = options.image
    definition = checkout.definition(image)
    publish = channels.publish_section(definition)
    regions, progress = options.region or publish.regions, checkout.progress("retire", image)
    account = checkout.account(definition, also=regions)
    check_regions(regions)
    if publish.account:
        account.with_short_timeouts().expect(publish.account, regions[0])
    policy = RetentionPolicy.of(
        publish, release_shared=options.release_shared, **_limits(options.instead)
    )
    prepared = retire.with_dropped(
        retire.prepare(account, image, regions, policy, progress), definition
    )
    # Tags are removed only if every region was read: elsewhere a build may still be in use.
    all_regions_read = not (options.region or prepared.unreachable or prepared.plan.dropped)
    registry_names = list[str]()
    if all_regions_read:
        registry_names = publish.registries
    with registry_pushes.opened(account, registry_names) as registries:
        removable_tags = container_tags.gone(registries, retire.staying(prepared.plan))
        lines = list(retire.lines(prepared.plan))
        for name, tags in removable_tags.items():
            lines += [f"  {name}: remove {tag}" for tag in tags]
        print_record(prepared.plan, lines, options.as_json)
        if options.dry_run:
            retire.check(prepared, {})
            return 0
        retire.execute(account, prepared, progress)
        for name, tags in removable_tags.items():
            for tag, digest in tags.items():
                registries[name].remove(digest)
                progress.say(f"{name}: removed {tag}")
    progress.remember()
    return 0


def _limits(words: list[str]) -> dict[str, int]:
    limits = dict[str, int]()
    for name, value in settings_of(words).items():
        if name not in _LEAST:
            raise BadInput(
                f"--set {name}: no such limit; {nearest(name, _LEAST)}",
                hint=f"of: {', '.join(_LEAST)}",
            )
        if not value.isdecimal() or not _LEAST[name] <= int(value) <= _MOST:
            raise BadInput(
                f"--set {name}={value}: not a number from {_LEAST[name]} to {_MOST}",
                hint="correct it",
            )
        limits[name] = int(value)
    return limits


@translated()
def cmd_sweep(
    checkout: Checkout, *, as_json: AsJson = False, region: Regions, dry_run: DryRun = False
) -> int:
    """Remove what killed runs left in the account: what carries a date of expiry, if that has
    passed or its run on this machine has ended.

    It asks the regions of all definitions, and those where a bake or a verify of this checkout ran
    (--region). A region that cannot be read is named at the end, by exit code 4 or 8; the others
    are swept. What a killed self-test left takes an administrator's credentials.
    """
    all_regions = list(dict.fromkeys(region))
    if not region:
        noted_regions = workspace.noted_regions(checkout.root)
        all_regions = list({**checkout.images_by_region(None, []), **dict.fromkeys(noted_regions)})
    check_regions(all_regions)
    account = checkout.account(also=all_regions)
    prepared = sweep.prepare(account, all_regions)
    print_record(prepared.plan, sweep.lines(prepared.plan), as_json)
    if dry_run:
        sweep.check(prepared, {})
    else:
        removed = sweep.execute(account, prepared)
        print(f"{sum(removed.values())} things removed in {len(removed)} regions", file=sys.stderr)
    return 0
