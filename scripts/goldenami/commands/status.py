"""The command on status: which builds an account's pointers name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from goldenami.aws.channels import channels
from goldenami.aws.session import translated
from goldenami.commands import (
    AsJson,
    OptionalImage,
    Regions,
    print_record,
    raise_failed,
)
from goldenami.commands.checkout import Checkout
from goldenami.commands.site_page import Answers, write_site
from goldenami.core import clock
from goldenami.core.errors import BadInput, NotVerified
from goldenami.model.definitions.definition import Definition
from goldenami.model.supported import support
from goldenami.model.supported.support import SupportState
from goldenami.release.publish import container_tags
from goldenami.release.retire import group_lag, status, status_view
from goldenami.release.retire.status import Problem, StatusRecord

_WRITTEN_AGAIN = (
    "`golden publish IMAGE` or `golden rollback IMAGE` writes all pointers of an image again; what "
    "else is wrong has its way back in its line"
)


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
        return write_site(checkout, page)
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


def _support_lines(
    checkout: Checkout, builds: list[tuple[str, str]], *, everything: bool
) -> Iterator[str]:
    """Yield how long parts of these builds are supported, by the locks that are here; supported
    parts only if `everything`."""
    day = clock.now().date()
    for image, build_id in builds:
        lock = checkout.lock_of(image, build_id)
        for part in support.of_lock(checkout.root, lock) if lock else ():
            if everything or part.state(day) is not SupportState.SUPPORTED:
                yield f"{image} {build_id}: {part.part} {part.version} {part.words(day)}"
