"""The command on what an account holds: which builds its names lead to, and who runs them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from goldenami.aws.channels import channels
from goldenami.aws.session import Account, translated
from goldenami.commands import AsJson, OptionalImage, Regions, print_record, raise_failed
from goldenami.commands.checkout import Checkout
from goldenami.core import clock
from goldenami.core.errors import BadInput, NotVerified
from goldenami.model.supported import support
from goldenami.model.supported.support import SupportState
from goldenami.release.publish import container_tags
from goldenami.release.retire import pointer_check, status

_WRITTEN_AGAIN = (
    "`golden publish IMAGE` or `golden rollback IMAGE` writes all pointers of an image again"
)


@translated()
def cmd_status(
    checkout: Checkout, image: OptionalImage = None, *, as_json: AsJson = False, region: Regions,
    check: Annotated[bool, typer.Option(
        "--check",
        help="only whether the pointers are right, for a monitor: 0 yes, 6 no, 4 or 8 a region is "
             "silent",
    )] = False,
) -> int:
    """Show the builds behind latest, candidate and template in each region; of one IMAGE its AMIs,
    too."""
    if check and region:
        raise BadInput("--check holds the regions of a definition to each other: it takes no "
                       "--region",
                       hint="name an IMAGE, or leave --region out")
    if check:
        return _check(checkout, image, as_json=as_json)
    record, failed = status.look(Account(), checkout.images_by_region(image, region))
    families = checkout.families
    dropped = [f"{one.image} in {name}: {channels.DROPPED}"
               for one in checkout.definitions(image) if one.publish
               for name in channels.dropped(one, (
                   each.published_to for there in record.regions.values() for each in there
                   if each.image == one.image))]
    with_gpus = {one.image for one in checkout.definitions(image)
                 if any(name in families and families[name].sm for name in one.hardware)}
    shown = status.show(record, details=image is not None, with_gpus=with_gpus)
    support_of = _support(checkout, status.pointed(record), everything=image is not None)
    tags = container_tags.standing(Account(), checkout.definitions(image))
    record = record.model_copy(update={"containers": {
        name: found.latest_build for name, (_, found) in tags.done.items() if found.latest}})
    containers = container_tags.show_standing(tags.done)
    print_record(record, [*shown, *containers, *dropped, *support_of], as_json)
    if lost := record.lost():
        raise NotVerified(f"{len(lost)} pointers name nothing", tail="\n".join(lost),
                          hint=_WRITTEN_AGAIN)
    raise_failed(failed | tags.failed, "not every region could be read")
    return 0


def _support(
    checkout: Checkout, builds: list[tuple[str, str]], *, everything: bool
) -> Iterator[str]:
    """Until when parts of these builds get fixes, by locks that are here; what is well only where
    all is asked for."""
    day = clock.now().date()
    for image, build_id in builds:
        lock = checkout.lock_of(image, build_id)
        for part in support.of_lock(lock) if lock else ():
            if everything or part.state(day) is not SupportState.SUPPORTED:
                yield f"{image} {build_id}: {part.part} {part.version} {part.words(day)}"


def _check(checkout: Checkout, image: str | None, *, as_json: bool) -> int:
    record, failed = pointer_check.look(Account(), list(checkout.definitions(image)))
    print_record(record, pointer_check.show(record), as_json)
    if record.problems:
        raise NotVerified(f"{len(record.problems)} pointers or regions are not as they have to be",
                          hint=_WRITTEN_AGAIN)
    raise_failed(failed, "not every region could be read")
    return 0
