"""The command that tells once a week what changed in an account and wants a decision."""

from __future__ import annotations

import os
from pathlib import Path

from goldenami.aws.services import notify
from goldenami.aws.services.site_bucket import SiteBucket
from goldenami.aws.session import Account, home_region, translated
from goldenami.commands import AsJson, DryRun, print_record, run_url
from goldenami.commands.checkout import Checkout
from goldenami.commands.status import SITE, account_of_all, site_bucket, write_page
from goldenami.core import records
from goldenami.core.errors import GoldenError, Unreachable
from goldenami.core.terminal.progress import Progress
from goldenami.image.report.site import SITE_FILE, SiteBuild
from goldenami.model.builds.build_folder import ImageFolder
from goldenami.model.builds.security_records import CVE_FILE, CveRecord
from goldenami.model.supported import support
from goldenami.release.retire import status

from goldenami_fleet.costs import cost_review
from goldenami_fleet.costs.cost_review import REVIEW_FILE, By
from goldenami_fleet.digest import digest, digest_views, memory
from goldenami_fleet.digest.digest import DigestRecord, LocalRecords
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
            checkout.account(), images, lambda builds: _local_records(checkout, builds)
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


def _local_records(checkout: Checkout, builds: list[tuple[str, str]]) -> LocalRecords:
    """Return the support and the vulnerabilities of builds, by the locks and records that are here
    or in the site."""
    records_found = LocalRecords(
        {
            definition.image: definition.publish.keep_last
            for definition in checkout.definitions(None)
            if definition.publish
        },
        {},
        {},
        [],
    )
    for image, build_id in builds:
        build_folder, site_folder = (
            folder.build(build_id).path
            for folder in (checkout.builds(image), ImageFolder(checkout.root / SITE / image))
        )
        site_build = records.read_if_whole(site_folder / SITE_FILE, SiteBuild)
        if lock := checkout.lock_of(image, build_id) or (site_build.lock if site_build else None):
            records_found.parts.setdefault(image, []).extend(support.of_lock(lock))
        else:
            records_found.gaps.append(
                Gap(
                    what=f"support of {image} {build_id}",
                    kinds=[Kind.ENDED],
                    why="its lock is neither here nor in the site",
                    is_failure=False,
                )
            )
        record = records.read_if_whole(build_folder / CVE_FILE, CveRecord) or records.read_if_whole(
            site_folder / CVE_FILE, CveRecord
        )
        if record:
            records_found.cves.setdefault(image, []).append(record)
        else:
            records_found.gaps.append(
                Gap(
                    what=f"vulnerabilities of {image} {build_id}",
                    kinds=[Kind.VULNERABLE],
                    why=f"nobody has asked: `golden cve {image}`",
                    is_failure=False,
                )
            )
    return records_found


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
