"""The site: a page over all images, costs and the digest, in a folder or in a bucket."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Any

from goldenami import plugged
from goldenami.aws.services.remote_store import S3Store
from goldenami.aws.services.site_bucket import SiteBucket
from goldenami.aws.session import Account
from goldenami.commands import (
    raise_failed,
)
from goldenami.commands.checkout import Checkout
from goldenami.core import clock, records
from goldenami.core.errors import BadInput, GoldenError
from goldenami.image.report import site
from goldenami.image.report.site import SITE_FILE
from goldenami.release.retire import status

SITE = "build/site"
"""Folder of the site in the checkout."""


class Answers(StrEnum):
    """The sources of the page over all images."""

    HERE = "here"
    ACCOUNT = "account"


def write_site(checkout: Checkout, answers: Answers) -> int:
    """Write the site, also to its bucket, and print the path of its page. Raises an error about a
    region that did not answer, or a damaged build, when all else is written."""
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
        checkout.root,
        checkout.images,
        site.builds(folder, damaged),
        clock.stamp(),
        {"status": account_status, **plugged.site_parts(folder)},
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
