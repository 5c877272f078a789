"""What others launch by against the ledgers: each pointer that is not as it has to be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from goldenami.aws.channels import channels
from goldenami.aws.channels.ledger import Channel, Ledger, withdrawn_in
from goldenami.aws.inventory.region_look import RegionLook
from goldenami.aws.inventory.topology import AmiState
from goldenami.core.records import Record


class Problem(Record):
    """One thing that is not as it has to be; `region` is empty where it is about all."""

    image: str
    region: str
    what: str

    def __str__(self) -> str:
        return f"{self.image}{' in ' if self.region else ''}{self.region}: {self.what}"


def in_region(look: RegionLook, image: str) -> Iterator[str]:
    """What is wrong within one region."""
    ledger, amis, default = look.ledgers[image], look.pointers[image], look.defaults[image]
    for _, text in channels.astray(image, ledger, amis, default.image_ref if default else None):
        yield text
    for channel, ami in amis.items():
        if ami not in look.amis:
            yield f"`{channel}` names {ami}, which does not exist"
        elif look.amis[ami].state is not AmiState.AVAILABLE:
            yield f"`{channel}` names {ami}, which is {look.amis[ami].state}"


def between_regions(image: str, ledgers: Mapping[str, Ledger]) -> Iterator[Problem]:
    """Where the regions contradict each other."""
    withdrawn = withdrawn_in(ledgers)
    for region, ledger in ledgers.items():
        for what in _of_withdrawn(ledger, withdrawn):
            yield Problem(image=image, region=region, what=what)
    if told := channels.differing({region: ledger for region, ledger in ledgers.items()
                                   if ledger.latest}):
        yield Problem(image=image, region="", what=told)


def _of_withdrawn(ledger: Ledger, withdrawn: Mapping[str, list[str]]) -> Iterator[str]:
    """What one region makes of the builds that any region (`withdrawn`: by build) withdrew."""
    for build_id, regions in withdrawn.items():
        where = f"in {', '.join(regions)}"
        for channel in Channel:
            if (entry := ledger.of(channel)) and entry.build_id == build_id:
                yield f"`{channel}` names {build_id}, which was withdrawn {where}"
        if build_id not in ledger.withdrawn:
            yield f"the ledger does not say that {build_id} was withdrawn, as it was {where}"
