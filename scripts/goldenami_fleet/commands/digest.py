"""The command that tells once a week what changed in an account and wants a decision."""

from __future__ import annotations

import os
from pathlib import Path

from goldenami.aws.services import notify
from goldenami.aws.services.site_bucket import SiteBucket
from goldenami.aws.session import Account, home_region, translated
from goldenami.commands import AsJson, DryRun, print_record, run_url
from goldenami.commands.checkout import Checkout
from goldenami.commands.site_page import SITE, account_of_all, site_bucket, write_page
from goldenami.core import records
from goldenami.core.errors import GoldenError, Unreachable
from goldenami.core.terminal.progress import Progress
from goldenami.image.report.site import SITE_FILE
from goldenami.model.builds.security_records import CVE_FILE
from goldenami.release.retire import status

from goldenami_fleet.commands import local_records
from goldenami_fleet.costs import cost_review
from goldenami_fleet.costs.cost_review import REVIEW_FILE, By
from goldenami_fleet.digest import digest, digest_views, memory
from goldenami_fleet.digest.digest import DigestRecord
from goldenami_fleet.digest.findings import Gap, Kind
from goldenami_fleet.digest.memory import News


@translated()
def cmd_digest(checkout: Checkout, *, as_json: AsJson = False, dry_run: DryRun = False) -> int:
    """Tell once a week what changed and wants a decision: all of it on the site, and a message of
    what is new."""
    account, progress = account_of_all(checkout), checkout.progress("digest", "all")
    folder, bucket = checkout.root / SITE, site_bucket(checkout)
    # What would fail at the end fails before everything is read.
    account.allowed.require(home_region())
    notify.check()
    images, gaps = checkout.images_by_region(None, []), _pull_site(bucket, folder)
    with progress.step("look", f"{len(images)} regions"):
        record = digest.read_week(
            checkout.account(),
            images,
            lambda builds: local_records.read(checkout, builds),
            checkout.families,
        )
        account_status, _ = status.read_status(checkout.account(), images)
    record = record.model_copy(update={"gaps": [*record.gaps, *gaps]})
    if not dry_run:
        record = _with_review(account, folder, record)
    link = " ".join(filter(None, (_address("index.html#digest"), run_url())))
    news, refused = _send(account, record, link, progress, dry_run=dry_run)
    records.write(digest.path_of(folder, record.week), record)
    page = write_page(checkout, folder, [], account_status.model_dump(mode="json"))
    if bucket and not dry_run:
        progress.say(f"{bucket.push(folder)} files to {os.environ['GOLDEN_SITE_S3']}")
    lines = [digest_views.headline(record, news), digest_views.text(record, news, str(page))]
    print_record(record, lines, as_json)
    return _raise_failures(record, refused)


def _pull_site(bucket: SiteBucket | None, site: Path) -> list[Gap]:
    """Download from the site's bucket the records of builds that are not here, and of former
    reviews. Return a gap if that fails."""
    try:
        if bucket:
            for name in (SITE_FILE, CVE_FILE, REVIEW_FILE):
                bucket.pull(site, name)
    except GoldenError as error:
        return [
            Gap(what="the site's bucket", why=error.message, kinds=[Kind.VULNERABLE, Kind.ENDED])
        ]
    return []


def _with_review(account: Account, site: Path, record: DigestRecord) -> DigestRecord:
    # One review a quarter: each costs requests to Cost Explorer.
    if not cost_review.is_due(site):
        return record
    try:
        cost_review.saved(account, site, list(By), cost_review.QUARTER)
    except GoldenError as error:
        gap = Gap(what="costs of the quarter", why=error.message, kinds=[])
        return record.model_copy(update={"gaps": [*record.gaps, gap]})
    return record


def _address(path: str) -> str:
    location = os.environ.get("GOLDEN_SITE_S3", "").rstrip("/")
    return f"{location}/{path}" if location else ""


def _send(
    account: Account,
    record: DigestRecord,
    link: str,
    progress: Progress,
    *,
    dry_run: bool,
) -> tuple[News, list[GoldenError]]:
    """Send the digest to every channel. Return the news, and the errors of channels that took
    nothing. Without a channel, nothing counts as reported."""
    home, channels = home_region(), {} if dry_run else notify.channels(account)
    told = memory.remembered(account, home)
    news = memory.news(told, record)
    if not channels:
        return news, []
    # Without news, too, one message a week shows that the digest runs.
    if not news.new and record.week <= told.week:
        progress.say("sent: nothing, for all of it was told before")
        return news, []
    headline, text = digest_views.headline(record, news), digest_views.text(record, news, link)
    refused = notify.send(channels, headline, text)
    if not refused:
        memory.remember(account, home, memory.after(told, record, news))
        progress.say(f"sent: {record.week} to {', '.join(channels)}")
    return news, refused


def _raise_failures(record: DigestRecord, refused: list[GoldenError]) -> int:
    """Raise an error for a channel that took nothing, or for a part that could not be read; the
    rest is done by now."""
    if refused:
        raise refused[0]
    if failed := [gap for gap in record.gaps if gap.is_failure]:
        raise Unreachable(
            f"the digest lacks {failed[0].what}: {failed[0].why}",
            tail="\n".join(f"{gap.what}: {gap.why}" for gap in failed),
            hint="the rest is told; docs/operate/digest.md has the rights that it needs",
        )
    return 0
