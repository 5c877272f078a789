"""`status --check`: whether what others launch by is as it has to be, for a monitor that has little
patience."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from goldenami.aws.channels import channels
from goldenami.aws.channels.ledger import Channel, Ledger, withdrawn_in
from goldenami.aws.inventory.region_look import RegionLook, looks
from goldenami.aws.inventory.topology import AmiState
from goldenami.aws.regions import for_each_region
from goldenami.aws.session import HASTY_ATTEMPTS, Account
from goldenami.core import clock
from goldenami.core.errors import GoldenError
from goldenami.core.records import Record
from goldenami.model.builds.build_records import Utc
from goldenami.model.definitions.definition import Definition


class Problem(Record):
    """One thing that is not as it has to be; `region` is empty where it is about all."""

    image: str
    region: str
    what: str


class CheckRecord(Record):
    """The answer: `latest` is the build that each image's regions name; regions without an answer
    are `unreachable`.

    It is `correct` with no problem and every region read.
    """

    schema_version: Literal[1] = 1
    asked_at: Utc
    correct: bool
    latest: dict[str, dict[str, str]]
    problems: list[Problem]
    unreachable: dict[str, str]


@dataclass(frozen=True)
class _Found:
    """What a region says of an image."""

    ledger: Ledger
    problems: list[str]


def look(
    account: Account, definitions: list[Definition]
) -> tuple[CheckRecord, dict[str, GoldenError]]:
    """Ask the regions of every definition, at once; one that does not answer within seconds is
    given up."""
    by_name = {definition.image: definition for definition in definitions}
    wanted: dict[str, list[str]] = {}
    for definition in definitions:
        for region in definition.regions:
            wanted.setdefault(region, []).append(definition.image)
    asks = looks(account.with_short_timeouts(HASTY_ATTEMPTS), wanted,
                 lambda look: {image: _told(look, by_name[image]) for image in look.images})
    results = for_each_region(asks, lambda region: asks[region]())
    found = {definition.image: {region: of[definition.image] for region, of in results.done.items()
                                if definition.image in of} for definition in definitions
             if definition.publish}
    problems = [problem for definition in definitions if definition.publish
                for problem in _problems(definition, found[definition.image])]
    return CheckRecord(
        asked_at=clock.stamp(), correct=not problems and not results.failed, problems=problems,
        latest={image: {region: each.ledger.latest.build_id for region, each in by_region.items()
                        if each.ledger.latest} for image, by_region in found.items()},
        unreachable=results.causes), results.failed


def _told(look: RegionLook, definition: Definition) -> _Found:
    image = definition.image
    ledger, amis, default = look.ledgers[image], look.pointers[image], look.defaults[image]
    problems = [text for _, text in channels.astray(
        definition, ledger, amis, default.image_ref if default else None)]
    for channel, ami in amis.items():
        if ami not in look.amis:
            problems.append(f"`{channel}` names {ami}, which does not exist")
        elif look.amis[ami].state is not AmiState.AVAILABLE:
            problems.append(f"`{channel}` names {ami}, which is {look.amis[ami].state}")
    if Channel.LATEST not in amis:
        problems.append("`latest` does not exist")
    return _Found(ledger, problems)


def _problems(definition: Definition, found: Mapping[str, _Found]) -> Iterator[Problem]:
    image, ledgers = definition.image, {region: each.ledger for region, each in found.items()}
    withdrawn = withdrawn_in(ledgers)
    for region, each in found.items():
        said = [*each.problems, *_of_withdrawn(each.ledger, withdrawn)]
        yield from (Problem(image=image, region=region, what=what) for what in said)
    if told := channels.differing({region: each.ledger for region, each in found.items()
                                   if each.ledger.latest}):
        yield Problem(image=image, region="", what=told)
    for region in channels.dropped(definition, (ledger.regions for ledger in ledgers.values())):
        yield Problem(image=image, region=region, what=channels.DROPPED)


def _of_withdrawn(ledger: Ledger, withdrawn: Mapping[str, list[str]]) -> Iterator[str]:
    """What one region makes of the builds that any region (`withdrawn`: by build) withdrew."""
    for build_id, regions in withdrawn.items():
        where = f"in {', '.join(regions)}"
        for channel in Channel:
            if (entry := ledger.of(channel)) and entry.build_id == build_id:
                yield f"`{channel}` names {build_id}, which was withdrawn {where}"
        if build_id not in ledger.withdrawn:
            yield f"the ledger does not say that {build_id} was withdrawn, as it was {where}"


def show(record: CheckRecord) -> Iterator[str]:
    """The answer for a person."""
    for problem in record.problems:
        yield f"{problem.image}{' in ' if problem.region else ''}{problem.region}: {problem.what}"
    for region in record.unreachable:  # the error that follows says why
        yield f"{region} is unreachable"
    if record.correct:
        yield f"every pointer of {', '.join(record.latest) or 'no image'} is as it has to be"
