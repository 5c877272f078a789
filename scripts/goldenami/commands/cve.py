"""Commands on the content of a build and its known vulnerabilities, and on its provenance."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from goldenami.aws.session import translated
from goldenami.commands import AmiOrImage, BuildId, OptionalImage, Regions
from goldenami.commands.checkout import Checkout
from goldenami.core import clock, process
from goldenami.core.errors import BadInput, GoldenError
from goldenami.core.yaml_lines import nearest
from goldenami.image.cve import cve, feeds, waivers
from goldenami.image.cve.feeds import FeedPlaces
from goldenami.image.provenance import provenance, published_provenance
from goldenami.image.report import report
from goldenami.local.host import workspace
from goldenami.model.builds.security_records import CVE_FILE, Feed
from goldenami.model.definitions.definition import CveRule


def cmd_cve(
    checkout: Checkout,
    image: OptionalImage = None,
    *,
    build_id: BuildId = None,
    data: Annotated[
        list[str],
        typer.Option(
            "--data",
            metavar="NAME=PLACE",
            default_factory=list,
            show_default=False,
            help="a list (debian, osv-ubuntu, osv-alpine, osv-pypi, nvidia, kev) from a file or "
            "URL[#sha256=DIGEST]",
        ),
    ],
) -> int:
    """Ask public lists which vulnerabilities a build has, or every image's lock, and whether they
    stop it."""
    if build_id and not image:
        raise BadInput(
            f"of which image is the build {build_id}?", hint="`golden cve IMAGE --build ID`"
        )
    feed_places = _feed_places(data)
    if image:
        problems = [_check_image(checkout, image, build_id, feed_places)]
    else:
        problems = [_check_one_of_all(checkout, name, feed_places) for name in checkout.locked]
    # Every image is checked before the worst problem is raised.
    if problems := [problem for problem in problems if problem]:
        raise cve.worst(problems)
    return 0


def _check_one_of_all(
    checkout: Checkout, image: str, feed_places: FeedPlaces
) -> GoldenError | None:
    try:
        return _check_image(checkout, image, None, feed_places)
    except GoldenError as error:
        error.message = f"{image}: {error.message}"
        return error


def _check_image(
    checkout: Checkout, image: str, build_id: str | None, feed_places: FeedPlaces
) -> GoldenError | None:
    rule = checkout.definition(image).security.cve or CveRule()
    if build_id:
        lock, build = checkout.kept(image, build_id)
    else:
        lock, build = checkout.of_lock(image)
    known_waivers = waivers.load(checkout.root, checkout.images, clock.now().date())
    with workspace.image_lock(checkout.root, image, wait=True):
        record = cve.run(
            cve.Subject(build, lock, known_waivers, rule.fail_on), checkout.store, feed_places
        )
        # The report shows the vulnerabilities, so it is written again.
        if build.report.exists():
            report.written(build)
    for warning in record.warnings:
        print(f"warning: {warning}")
    checked = f"{image} {record.build_id}"
    if not build.is_baked:
        checked += " (by its lock)"
    print(f"{checked}: {cve.summary(record)}", flush=True)
    return cve.failure(record, build.path / CVE_FILE)


@dataclass(frozen=True, kw_only=True)
class ProvenanceOptions:
    """The arguments and options of `golden verify-provenance`."""

    target: AmiOrImage
    build_id: BuildId = None
    region: Regions = field(default_factory=list)
    key: Annotated[Path, typer.Option("--key", metavar="FILE", help="the public key, PEM")]
    blocks: Annotated[
        bool,
        typer.Option(
            "--blocks",
            help="of an AMI: read its snapshot, too, and hold each block to what was signed",
        ),
    ] = False


@translated()
def cmd_verify_provenance(checkout: Checkout, options: ProvenanceOptions) -> int:
    """Hold an AMI, or a build's records, lock and disk here, to what was signed when it was
    published."""
    target, build_id, key = options.target, options.build_id, options.key
    if not target.startswith("ami-"):
        if build_id:
            _, build = checkout.kept(target, build_id)
        else:
            _, build = checkout.baked(target)
        with checkout.progress("verify", target).step("provenance", "reads lock, records and disk"):
            signed = provenance.verify(build, key)
        missing_note = ""
        if not build.disk.exists():
            missing_note = "; its disk is not here, and was not read"
        print(
            f"{target} {build.build_id}: what is signed of it in {', '.join(signed)} is right"
            f"{missing_note}"
        )
        return 0
    account, regions = checkout.account(), checkout.images_by_region(None, options.region)
    signed_ami = published_provenance.verify(account, regions, target, key)
    snapshot = signed_ami.image.snapshot
    blocks_note = ""
    if options.blocks:
        with process.scratch() as scratch:
            progress = checkout.progress("verify", "provenance")
            count = signed_ami.verify_blocks(account, progress, Path(scratch))
        blocks_note = f", and so are the {count} blocks of {snapshot}"
    print(
        f"{target} in {signed_ami.region}: what is signed of it, its tags and those of "
        f"{snapshot} are right{blocks_note}"
    )
    return 0


def _feed_places(words: list[str]) -> FeedPlaces:
    """Parse `NAME=PLACE` and `NAME=PLACE#sha256=DIGEST`, pip's form for a file's digest. Raises
    BadInput for an unknown list."""
    places, digests = dict[Feed, str](), dict[Feed, str]()
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name not in feeds.PLACES:
            names = [feed.value for feed in feeds.PLACES]
            raise BadInput(
                f"--data {word}: no list `{name}`; {nearest(name, names)}", hint="--data NAME=PLACE"
            )
        places[Feed(name)], marked, digest = value.partition("#sha256=")
        if marked:
            digests[Feed(name)] = digest
    return FeedPlaces(places, digests)
