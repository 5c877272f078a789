"""The command on costs: what images cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import typer
from goldenami.aws.session import translated
from goldenami.commands import AsJson, OptionalImage, Regions, print_record, raise_failed
from goldenami.commands.checkout import Checkout
from goldenami.commands.site_page import SITE, site_bucket
from goldenami.core.errors import BadInput
from goldenami.release.retire.retention import RetentionPolicy

from goldenami_fleet.costs import cost_review, costs, gpu_hours
from goldenami_fleet.costs.cost_review import By


@dataclass(frozen=True, kw_only=True)
class CostsOptions:
    """The arguments and options of `golden costs`."""

    image: OptionalImage = None
    as_json: AsJson = False
    region: Regions = field(default_factory=list)
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            metavar="PARTS",
            help="instead: the whole bill by account, region, type, owner, also for the site",
        ),
    ] = None
    months: Annotated[
        int | None,
        typer.Option(
            "--months",
            min=1,
            max=gpu_hours.YEAR,
            help=f"with --by: so many whole months (default: {cost_review.QUARTER}); alone: "
            "GPU-hours by owner, paid and used",
        ),
    ] = None


@translated()
def cmd_costs(checkout: Checkout, options: CostsOptions) -> int:
    """Show what images cost this month, what retiring would save, and which commitments end
    soon."""
    image, region, months = options.image, options.region, options.months
    if (options.by is not None or months) and (image or region):
        raise BadInput(
            "--by and --months are of the whole bill: they take no IMAGE and no --region",
            hint="leave them out",
        )
    if options.by is not None:
        return _review(
            checkout,
            cost_review.parts(options.by),
            months or cost_review.QUARTER,
            as_json=options.as_json,
        )
    if months is not None:
        regions = checkout.images_by_region(None, [])
        hours = gpu_hours.read(checkout.account(), checkout.families, regions, months)
        print_record(hours, hours.lines(), options.as_json)
        return 0
    policies = {
        definition.image: RetentionPolicy.of(definition.publish)
        if definition.publish
        else RetentionPolicy()
        for definition in checkout.definitions(image)
    }
    images = checkout.images_by_region(image, region)
    record, failed = costs.read_costs(checkout.account(also=images), images, policies)
    print_record(record, costs.lines(record), options.as_json)
    raise_failed(failed, "not every region could be read")
    return 0


def _review(checkout: Checkout, by: list[By], months: int, *, as_json: bool) -> int:
    account, site = checkout.account(), checkout.root / SITE
    # A wrong GOLDEN_SITE_S3 is refused before the bill is asked for, which costs money.
    bucket = site_bucket(checkout)
    review, path = cost_review.saved(account, site, by, months)
    if bucket:
        bucket.push(site)
    print_record(review, [*cost_review.lines(review), str(path)], as_json)
    return 0
