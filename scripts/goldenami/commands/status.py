"""Commands on what an account holds: which builds its pointers name, who runs them, and what needs
a decision."""

from __future__ import annotations

import os
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from goldenami.aws.channels import channels
from goldenami.aws.services import notify
from goldenami.aws.services.remote_store import S3Store
from goldenami.aws.services.site_bucket import SiteBucket
from goldenami.aws.session import Account, home_region, translated
from goldenami.commands import (
    AsJson,
    DryRun,
    OptionalImage,
    Regions,
    print_record,
    raise_failed,
    run_url,
)
from goldenami.commands.checkout import Checkout
from goldenami.core import clock, records
from goldenami.core.errors import BadInput, GoldenError, NotVerified, Unreachable
from goldenami.core.terminal.progress import Progress
from goldenami.fleet.costs import cost_review
from goldenami.fleet.costs.cost_review import REVIEW_FILE, By
from goldenami.fleet.digest import digest, digest_views, memory
from goldenami.fleet.digest.digest import DIGEST_FILE, DigestRecord, LocalRecords
from goldenami.fleet.digest.findings import Gap, Kind
from goldenami.fleet.digest.memory import News
from goldenami.image.report import site
from goldenami.image.report.site import SITE_FILE, SiteBuild
from goldenami.model.builds.build_folder import ImageFolder
from goldenami.model.builds.security_records import CVE_FILE, CveRecord
from goldenami.model.definitions.definition import Definition
from goldenami.model.supported import support
from goldenami.model.supported.support import SupportState
from goldenami.release.publish import container_tags
from goldenami.release.retire import status
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
            help="instead: the site, a page over all images, costs and the digest, by what is here "
            "or also by the account",
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
    record, failed = status.look(account, images)
    families, definitions = checkout.families, list(checkout.definitions(image))
    problems, images_with_gpus = list(record.problems), set[str]()
    for definition in definitions:
        problems += _dropped_regions(definition, record)
    for definition in definitions:
        problems += status.behind(account.with_short_timeouts(), definition, record)
        if any(name in families and families[name].sm for name in definition.hardware):
            images_with_gpus.add(definition.image)
    status_lines = status.show(record, details=image is not None, with_gpus=images_with_gpus)
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
        for name in (REVIEW_FILE, DIGEST_FILE):
            bucket.pull(folder, name)
    account_status, failed = None, dict[str, GoldenError]()
    if answers is Answers.ACCOUNT:
        record, failed = status.look(checkout.account(), checkout.images_by_region(None, []))
        account_status = record.model_dump(mode="json")
    damaged = site.collect([checkout.builds(image) for image in checkout.images], folder)
    page = _write_page(checkout, folder, damaged, account_status)
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


def _write_page(
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
        parts={
            "costs": cost_review.part_of_site(folder),
            "digest": digest_views.part_of_site(digest.newest(folder)),
        },
    )
    records.write_text(page, html)
    return page


def site_bucket(checkout: Checkout) -> SiteBucket | None:
    """Return the bucket's folder that GOLDEN_SITE_S3 names, or None."""
    location = os.environ.get("GOLDEN_SITE_S3")
    if not location:
        return None
    name, _ = S3Store.location(location, "GOLDEN_SITE_S3")
    return SiteBucket.at(_account_of_all(checkout).bucket(name), location)


def _account_of_all(checkout: Checkout) -> Account:
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


@translated()
def cmd_digest(checkout: Checkout, *, as_json: AsJson = False, dry_run: DryRun = False) -> int:
    """Tell once a week what changed and wants a decision: all of it on the site, and a message of
    what is new."""
    account, progress = _account_of_all(checkout), checkout.progress("digest", "all")
    folder, bucket = checkout.root / SITE, site_bucket(checkout)
    # What would fail at the end fails before everything is read.
    account.allowed.require(home_region())
    notify.check()
    images, gaps = checkout.images_by_region(None, []), _pull_site(bucket, folder)
    with progress.step("look", f"{len(images)} regions"):
        record = digest.look(
            checkout.account(), images, lambda builds: _local_records(checkout, builds)
        )
        account_status, _ = status.look(checkout.account(), images)
    record = record.model_copy(update={"gaps": [*record.gaps, *gaps]})
    if not dry_run:
        record = _with_review(account, folder, record)
    link = " ".join(filter(None, (_address("index.html#digest"), run_url())))
    news, refused = _send(account, record, link, progress, dry_run=dry_run)
    records.write(digest.path_of(folder, record.week), record)
    page = _write_page(checkout, folder, [], account_status.model_dump(mode="json"))
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
    if not channels:
        return memory.news(memory.remembered(account, home), record), []
    with memory.held(account, home) as notes:
        news = memory.news(notes.told, record)
        # Without news, too, one message a week shows that the digest runs.
        if news.new or record.week > notes.told.week:
            notes.add(
                memory.after(notes.told, record, news),
                digest_views.headline(record, news),
                digest_views.text(record, news, link),
                channels,
            )
        sent, refused = notes.deliver(channels)
    progress.say(f"sent: {', '.join(sent) or 'nothing, for all of it was told before'}")
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
            hint="the rest is told; docs/digest.md has the rights that it needs",
        )
    return 0
