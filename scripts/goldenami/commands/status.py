"""Commands on what an account holds: which builds its pointers name, and a page over all images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from goldenami import plugged
from goldenami.aws.channels import channels
from goldenami.aws.services.remote_store import S3Store
from goldenami.aws.services.site_bucket import SiteBucket
from goldenami.aws.session import Account, translated
from goldenami.commands import (
    AsJson,
    OptionalImage,
    Regions,
    print_record,
    raise_failed,
)
from goldenami.commands.checkout import Checkout
from goldenami.core import clock, records
from goldenami.core.errors import BadInput, GoldenError, NotVerified
from goldenami.image.report import site
from goldenami.image.report.site import SITE_FILE
from goldenami.model.definitions.definition import Definition
from goldenami.model.supported import support
from goldenami.model.supported.support import SupportState
from goldenami.release.publish import container_tags
from goldenami.release.retire import group_lag, status, status_view
from goldenami.release.retire.status import Problem, StatusRecord

SITE = "build/site"
"""Folder of the site in the checkout."""
_WRITTEN_AGAIN = (
    "`golden publish IMAGE` or `golden rollback IMAGE` writes all pointers of an image again; what "
    "else is wrong has its way back in its line"
)


class Answers(StrEnum):
    """The sources of the page over all images."""

    HERE = "here"
    ACCOUNT = "account"


@translated()
def cmd_status(
    checkout: Checkout,
    image: OptionalImage = None,
    *,
    as_json: AsJson = False,
    region: Regions,
    page: Annotated[
        Answers | None,
        typer.Option(
            "--site",
            help="instead: the site, over all images, costs and the digest, by what is here or "
            "also by the account",
        ),
    ] = None,
) -> int:
    """Show the builds behind latest, candidate and template in each region, and whether these
    pointers are right: 0 yes, 6 no, 4 or 8 a region is silent. Of one IMAGE its AMIs, too."""
    if page:
        if image or region or as_json:
            raise BadInput(
                "--site is of all images: it takes no IMAGE, --region or --json",
                hint="leave them out",
            )
        return _write_site(checkout, page)
    images = checkout.images_by_region(image, region)
    account = checkout.account(also=images)
    record, failed = status.read_status(account, images)
    families, definitions = checkout.families, list(checkout.definitions(image))
    problems, images_with_gpus = list(record.problems), set[str]()
    for definition in definitions:
        problems += _dropped_regions(definition, record)
    for definition in definitions:
        problems += group_lag.behind(account.with_short_timeouts(), definition, record)
        if any(name in families and families[name].sm for name in definition.hardware):
            images_with_gpus.add(definition.image)
    status_lines = status_view.lines(record, details=image is not None, with_gpus=images_with_gpus)
    support_lines = _support_lines(checkout, status.pointed(record), everything=image is not None)
    container_tags_read = container_tags.standing(account, definitions)
    latest_containers = {
        name: tag.latest_build for name, (_, tag) in container_tags_read.done.items() if tag.latest
    }
    record = record.model_copy(update={"problems": problems, "containers": latest_containers})
    containers = container_tags.show_standing(container_tags_read.done)
    print_record(record, [*status_lines, *containers, *map(str, problems), *support_lines], as_json)
    # What is wrong outranks regions that did not answer.
    if problems:
        raise NotVerified(f"{len(problems)} things are not as they have to be", hint=_WRITTEN_AGAIN)
    raise_failed(failed | container_tags_read.failed, "not every region could be read")
    return 0


def _dropped_regions(definition: Definition, record: StatusRecord) -> list[Problem]:
    """Return a problem for each region that ledgers know and that the definition no longer
    names."""
    if definition.publish is None:
        return []
    image_rows = [row for rows in record.regions.values() for row in rows]
    regions_published_to = [row.published_to for row in image_rows if row.image == definition.image]
    return [
        Problem(image=definition.image, region=region, what=channels.DROPPED)
        for region in channels.dropped(definition, regions_published_to)
    ]


def _write_site(checkout: Checkout, answers: Answers) -> int:
    folder, location = checkout.root / SITE, os.environ.get("GOLDEN_SITE_S3")
    bucket, progress = site_bucket(checkout), checkout.progress("site", "all")
    if bucket:
        progress.say(f"{bucket.pull(folder, SITE_FILE)} earlier builds from {location}")
        for name in plugged.site_records():
            bucket.pull(folder, name)
    account_status, failed = None, dict[str, GoldenError]()
    if answers is Answers.ACCOUNT:
        record, failed = status.read_status(checkout.account(), checkout.images_by_region(None, []))
        account_status = record.model_dump(mode="json")
    damaged = site.collect([checkout.builds(image) for image in checkout.images], folder)
    page = write_page(checkout, folder, damaged, account_status)
    if bucket:
        progress.say(f"{bucket.push(folder)} files to {location}")
    print(page)
    # The page is written first: an error must not take what could be read.
    raise_failed(failed, "the page is written, but not every region could be read")
    if damaged:
        raise BadInput(
            f"the page is written, but {len(damaged)} builds are left out: {damaged[0].message}",
            tail="\n".join(error.message for error in damaged),
            hint=damaged[0].hint,
        )
    return 0


def write_page(
    checkout: Checkout,
    folder: Path,
    damaged: list[GoldenError],
    account_status: dict[str, Any] | None,
) -> Path:
    """Write the site's page by the records in its folder, and return its path. Errors about builds
    that are left out are added to `damaged`."""
    page = folder / "index.html"
    html = site.render(
        checkout.images,
        site.builds(folder, damaged),
        clock.stamp(),
        status=account_status,
        parts=plugged.site_parts(folder),
    )
    records.write_text(page, html)
    return page


def site_bucket(checkout: Checkout) -> SiteBucket | None:
    """Return the bucket's folder that GOLDEN_SITE_S3 names, or None."""
    location = os.environ.get("GOLDEN_SITE_S3")
    if not location:
        return None
    name, _ = S3Store.location(location, "GOLDEN_SITE_S3")
    return SiteBucket.at(account_of_all(checkout).bucket(name), location)


def account_of_all(checkout: Checkout) -> Account:
    """Return the account, limited to regions that every image allows."""
    return checkout.account(*checkout.definitions(None))


def _support_lines(
    checkout: Checkout, builds: list[tuple[str, str]], *, everything: bool
) -> Iterator[str]:
    """Yield how long parts of these builds are supported, by the locks that are here; supported
    parts only if `everything`."""
    day = clock.now().date()
    for image, build_id in builds:
        lock = checkout.lock_of(image, build_id)
        for part in support.of_lock(lock) if lock else ():
            if everything or part.state(day) is not SupportState.SUPPORTED:
                yield f"{image} {build_id}: {part.part} {part.version} {part.words(day)}"
