"""The page of a build, written by each command after which it says more, and the site over all
images."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from goldenami.aws.remote_store import S3Store
from goldenami.aws.session import Account, translated
from goldenami.aws.site_bucket import SiteBucket
from goldenami.commands import raise_failed
from goldenami.commands.checkout import Checkout
from goldenami.core import clock, records
from goldenami.core.errors import BadInput, GoldenError
from goldenami.core.terminal.progress import Progress
from goldenami.image.report import report, site, site_folder
from goldenami.image.report.site_folder import SITE_FILE
from goldenami.image.verify import verify
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.release.retire import status

SITE = "build/site"
"""The folder of the site in the checkout."""


def written(build: BuildFolder) -> Path:
    """Write page and summary of a build, beside the one before it; returns the page's path."""
    return report.write_report(build, verify.previous(build))


def tell(build: BuildFolder, progress: Progress) -> None:
    """Write the report again, and say where; records of an earlier build may be wrong."""
    try:
        progress.say(f"report: {written(build)}")
    except BadInput as error:
        progress.say(f"no report: {error.message}")


@translated()
def cmd_site(
    checkout: Checkout, *,
    account: Annotated[bool, typer.Option(
        "--account",
        help="ask the account, too, where each build runs and what its snapshots cost")] = False,
) -> int:
    """Make one static page over all images, build/site, with each report; GOLDEN_SITE_S3 keeps
    it."""
    folder, location = checkout.root / SITE, os.environ.get("GOLDEN_SITE_S3")
    bucket = site_bucket(checkout)
    progress = checkout.progress("site", "all")
    if bucket:
        progress.say(f"{bucket.pull(folder, SITE_FILE)} earlier builds from {location}")
    damaged = site_folder.collect([checkout.builds(image) for image in checkout.images], folder)
    asked, failed = _status(checkout) if account else (None, {})
    page = folder / "index.html"
    records.write_text(page, site.render(
        checkout.images, site_folder.builds(folder, damaged), clock.stamp(), status=asked))
    if bucket:
        progress.say(f"{bucket.push(folder)} files to {location}")
    print(page)
    raise_failed(failed, "the page is written, but not every region could be read")
    if damaged:
        raise BadInput(f"the page is written, but {len(damaged)} builds are left out: "
                       f"{damaged[0].message}",
                       tail="\n".join(error.message for error in damaged), hint=damaged[0].hint)
    return 0


def site_bucket(checkout: Checkout) -> SiteBucket | None:
    """The folder of a bucket that GOLDEN_SITE_S3 names, if any."""
    location = os.environ.get("GOLDEN_SITE_S3")
    if not location:
        return None
    name, _ = S3Store.location(location, "GOLDEN_SITE_S3")
    return SiteBucket.at(checkout.account().bucket(name), location)


def home_region() -> str:
    """The region that the environment names, as every AWS tool takes it."""
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"


def _status(checkout: Checkout) -> tuple[dict[str, Any], dict[str, GoldenError]]:
    images = checkout.images_by_region(None, [])
    record, failed = status.look(Account(), images)
    return record.model_dump(mode="json"), failed
