"""The weekly digest: one page and one message of what changed and wants a decision."""

from __future__ import annotations

import os
from pathlib import Path

from goldenami.aws import notify
from goldenami.aws.session import Account, translated
from goldenami.aws.site_bucket import SiteBucket
from goldenami.commands import AsJson, DryRun, print_record, run_url
from goldenami.commands.checkout import Checkout
from goldenami.commands.site import SITE, home_region, site_bucket
from goldenami.core import records
from goldenami.core.errors import BadInput, GoldenError, Unreachable
from goldenami.core.terminal.progress import Progress
from goldenami.fleet.costs import cost_review
from goldenami.fleet.costs.cost_review import REVIEW_FILE, By
from goldenami.fleet.digest import digest, digest_message, digest_page, memory
from goldenami.fleet.digest.digest import DIGEST_FILE, DigestRecord, Known
from goldenami.fleet.digest.findings import Gap, Kind
from goldenami.fleet.digest.memory import News
from goldenami.model.builds.build_folder import ImageFolder
from goldenami.model.builds.security_records import CVE_FILE, CveRecord
from goldenami.model.supported import support

QUARTER = 3
"""Months."""
FOLDER = "digest"
"""The folder of all digests in the site."""


@translated()
def cmd_digest(checkout: Checkout, *, as_json: AsJson = False, dry_run: DryRun = False) -> int:
    """Tell once a week what changed and wants a decision: a page, and a message of what is new."""
    account, progress = Account(), checkout.progress("digest", "all")
    site, home, bucket = checkout.root / SITE, home_region(), site_bucket(checkout)
    images, gaps = checkout.images_by_region(None, []), _pulled(bucket, site)
    with progress.step("look", f"{len(images)} regions"):
        record = digest.look(account, images, lambda builds: _known(checkout, builds))
    record = record.model_copy(update={"gaps": [*record.gaps, *gaps]})
    page = site / FOLDER / record.week / "index.html"
    record, review = _with_review(account, site, record)
    pages = [_address(each.relative_to(site)) for each in (page, *review)]
    link = " ".join(filter(None, (*pages, run_url())))
    said, refused = _tell(account, home, record, link, progress, dry_run=dry_run)
    records.write(page.with_name(DIGEST_FILE), record)
    records.write_text(page, digest_page.render(record, said))
    if bucket and not dry_run:
        progress.say(f"{bucket.push(site)} files to {os.environ['GOLDEN_SITE_S3']}")
    lines = [digest_message.headline(record, said), digest_message.text(record, said, str(page))]
    print_record(record, lines, as_json)
    return _end(record, refused)


def _pulled(bucket: SiteBucket | None, site: Path) -> list[Gap]:
    """Have what the site keeps; without it no vulnerability of a build that is not here is
    known."""
    try:
        if bucket:
            bucket.pull(site, CVE_FILE)
            bucket.pull(site, REVIEW_FILE)
    except GoldenError as error:
        return [Gap(what="the site's bucket", why=error.message, kinds=[Kind.VULNERABLE])]
    return []


def _with_review(
    account: Account, site: Path, record: DigestRecord
) -> tuple[DigestRecord, list[Path]]:
    """The page of the costs of a quarter, in the first digest after it."""
    if not cost_review.is_due(site):
        return record, []
    try:
        return record, [cost_review.saved(account, site, list(By), QUARTER)[1]]
    except GoldenError as error:
        gap = Gap(what="costs of the quarter", why=error.message, kinds=[])
        return record.model_copy(update={"gaps": [*record.gaps, gap]}), []


def _address(path: Path) -> str:
    """Where the page lies for others."""
    location = os.environ.get("GOLDEN_SITE_S3", "").rstrip("/")
    return f"{location}/{path}" if location else ""


def _tell(
    account: Account, home: str, record: DigestRecord, link: str, progress: Progress, *,
    dry_run: bool,
) -> tuple[News, list[GoldenError]]:
    """Tell every channel that the environment names; without one nothing counts as told."""
    channels = {} if dry_run else notify.channels(account)
    if not channels:
        return memory.news(memory.remembered(account, home), record), []
    with memory.held(account, home) as kept:
        said = memory.news(kept.told, record)
        if said.new or record.week > kept.told.week:
            kept.add(memory.after(kept.told, record, said), digest_message.headline(record, said),
                     digest_message.text(record, said, link), channels)
        sent, refused = kept.deliver(channels)
    progress.say(f"sent: {', '.join(sent) or 'nothing, for all of it was told before'}")
    return said, refused


def _known(checkout: Checkout, builds: list[tuple[str, str]]) -> Known:
    """Support and vulnerabilities of builds, by the locks and records that are here or in the
    site."""
    parts: dict[str, list[support.PartSupport]] = {}
    cves: dict[str, list[CveRecord]] = {}
    missing: dict[str, str] = {}
    for image, build_id in builds:
        if lock := checkout.lock_of(image, build_id):
            parts.setdefault(image, []).extend(support.of_lock(lock))
        folders = (checkout.builds(image), ImageFolder(checkout.root / SITE / image))
        found = next((path for folder in folders
                      if (path := folder.build(build_id).path / CVE_FILE).exists()), None)
        if found is None:
            missing[f"{image} {build_id}"] = f"nobody has asked: `golden cve {image}`"
            continue
        try:
            cves.setdefault(image, []).append(records.read(found, CveRecord))
        except BadInput as error:
            missing[f"{image} {build_id}"] = error.message
    keep = {each.image: each.publish.keep_last for each in checkout.definitions(None)
            if each.publish}
    return Known(keep, parts, cves, missing)


def _end(record: DigestRecord, refused: list[GoldenError]) -> int:
    """A channel that took nothing, or a part that could not be looked at, is an error after all
    else is done."""
    if refused:
        raise refused[0]
    if failed := [gap for gap in record.gaps if gap.is_failure]:
        raise Unreachable(f"the digest lacks {failed[0].what}: {failed[0].why}",
                          tail="\n".join(f"{gap.what}: {gap.why}" for gap in failed),
                          hint="the rest is told; docs/digest.md has the rights that it needs")
    return 0
