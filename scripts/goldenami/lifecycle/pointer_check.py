"""`status --check`: whether what others launch by is as it has to be, for a monitor that has little patience."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from goldenami.aws import images
from goldenami.aws.channels import channels, launch_data, pointers
from goldenami.aws.channels.lease import read_lease
from goldenami.aws.channels.ledger import Channel, Ledger
from goldenami.aws.inventory.topology import AmiState
from goldenami.aws.regions import for_each_region
from goldenami.aws.session import Account, translated
from goldenami.core import clock
from goldenami.core.errors import GoldenError
from goldenami.core.records import Record
from goldenami.model.build_records import Utc
from goldenami.model.definition import Definition


class Problem(Record):
    """One thing that is not as it has to be; `region` is empty where it is about all."""

    image: str
    region: str
    what: str


class CheckRecord(Record):
    """The answer: `latest` is the build that each image's regions name; regions without an answer are `unreachable`.

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


def look(account: Account, definitions: list[Definition]) -> tuple[CheckRecord, dict[str, GoldenError]]:
    """Ask the regions of every definition, at once; one that does not answer within seconds is given up."""
    wanted: dict[str, list[Definition]] = {}
    for definition in definitions:
        for region in definition.regions:
            wanted.setdefault(region, []).append(definition)
    impatient = account.with_short_timeouts()
    results = for_each_region(wanted, lambda region: {
        definition.image: _look(impatient, region, definition) for definition in wanted[region]},
        listening=impatient)
    found = {definition.image: {region: of[definition.image] for region, of in results.done.items()
                                if definition.image in of} for definition in definitions if definition.publish}
    problems = [problem for definition in definitions if definition.publish
                for problem in _problems(definition, found[definition.image])]
    return CheckRecord(
        asked_at=clock.stamp(), correct=not problems and not results.failed, problems=problems,
        latest={image: {region: each.ledger.latest.build_id for region, each in by_region.items()
                        if each.ledger.latest} for image, by_region in found.items()},
        unreachable=results.causes), results.failed


def _look(account: Account, region: str, definition: Definition) -> _Found:
    """Four calls."""
    image = definition.image
    with translated(region):
        ledger = read_lease(account.dynamodb(region), image).ledger
        amis = pointers.read_channels(account.ssm(region), image)
        template = pointers.default_version(account.ec2(region), launch_data.template_of(definition))
        there = images.get(account.ec2(region), amis.values())
    problems = [text for _, text in channels.astray(definition, ledger, amis, template)]
    for channel, ami in amis.items():
        if ami not in there:
            problems.append(f"`{channel}` names {ami}, which does not exist")
        elif there[ami].state != AmiState.AVAILABLE:
            problems.append(f"`{channel}` names {ami}, which is {there[ami].state}")
    problems += [f"`{channel}` names {entry.build_id}, which was withdrawn" for channel in Channel
                 if (entry := ledger.of(channel)) and entry.build_id in ledger.withdrawn]
    if Channel.LATEST not in amis:
        problems.append("`latest` does not exist")
    return _Found(ledger, problems)


def _problems(definition: Definition, found: Mapping[str, _Found]) -> Iterator[Problem]:
    image = definition.image
    for region, each in found.items():
        yield from (Problem(image=image, region=region, what=what) for what in each.problems)
    if told := channels.differing({region: each.ledger for region, each in found.items() if each.ledger.latest}):
        yield Problem(image=image, region="", what=told)
    for region in channels.dropped(definition, (each.ledger for each in found.values())):
        yield Problem(image=image, region=region, what=channels.DROPPED)


def show(record: CheckRecord) -> Iterator[str]:
    """The answer for a person."""
    for problem in record.problems:
        yield f"{problem.image}{' in ' if problem.region else ''}{problem.region}: {problem.what}"
    for region, cause in record.unreachable.items():
        yield f"{region} is unreachable: {cause}"
    if record.correct:
        yield f"every pointer of {', '.join(record.latest) or 'no image'} is as it has to be"
