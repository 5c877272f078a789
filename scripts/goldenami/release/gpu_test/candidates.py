"""The AMIs of a candidate that is to be tested, and the subnets in which they may be launched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from goldenami.aws import images, tags
from goldenami.aws.channels.channels import ImageInAccount
from goldenami.aws.channels.ledger import LedgerEntry
from goldenami.aws.images import Image
from goldenami.aws.instances import instances
from goldenami.aws.instances.instances import Subnet
from goldenami.aws.regions import for_each_region
from goldenami.core.errors import BadInput
from goldenami.model.builds.gpu_proofs import Asked
from goldenami.model.locked import lockfile


@dataclass(frozen=True)
class Candidates:
    """The candidate's AMIs by region, and the subnets that the definition names, by region and
    zone."""

    build_id: str
    amis: Mapping[str, Image]
    subnets: Mapping[str, Mapping[str, Subnet]]


def read(image: ImageInAccount, only: Sequence[str], lock_sha256: str) -> Candidates:
    """Read the candidate in the regions `only`, by default in those of the definition. Raises
    BadInput if it is not the build of the lock, or of other bytes."""
    build_id = lock_sha256[: lockfile.ID_LENGTH]
    amis = _amis(image, _entries(image, only, build_id), lock_sha256)
    subnets = {
        region: instances.subnets(image.account.ec2(region), image.section.subnets)
        for region in amis
    }
    return Candidates(build_id, amis, subnets)


def check_types(image: ImageInAccount, candidate: Candidates, asked: Asked) -> None:
    """Raise BadInput for an AMI that was published for other classes of machines than are now asked
    for, or whose types somebody changed: EC2 would refuse machines of the test."""
    for region, ami in candidate.amis.items():
        problem = f"the candidate's AMI {ami.ami} in {region}"
        published = Asked.parsed(ami.tags.get(tags.GPU_TEST, ""))
        if ami.has_other_types:
            problem += f" is not as published: somebody changed its types to {ami.instance_types}"
        elif published.classes != asked.classes:
            problem += (
                f" was published for {' '.join(published.classes) or 'no class of machines'}; the "
                f"definition's `instance_types: {image.section.instance_types}` asks for "
                f"{' '.join(asked.classes)}"
            )
        else:
            continue
        raise BadInput(problem, hint=f"`golden publish {image.name}` sets it, without an upload")


def _entries(image: ImageInAccount, only: Sequence[str], build_id: str) -> dict[str, LedgerEntry]:
    regions = list(only) or image.definition.regions
    candidates = dict[str, LedgerEntry]()
    for region, ledger in image.read_ledgers(regions).require_all().items():
        if ledger.candidate:
            candidates[region] = ledger.candidate
    if not candidates:
        raise BadInput(
            f"{image.name} has no candidate in {', '.join(regions) or 'any region'}",
            hint=f"`golden publish {image.name}` makes one",
        )
    for region, entry in candidates.items():
        if entry.build_id != build_id:
            raise BadInput(
                f"the candidate in {region} is build {entry.build_id}, the lock here is of "
                f"{build_id}",
                hint="check out the commit of the candidate (its AMI's tag "
                "goldenami:git-commit), or publish",
            )
    return candidates


def _amis(
    image: ImageInAccount, entries: Mapping[str, LedgerEntry], lock_sha256: str
) -> dict[str, Image]:
    def read(region: str) -> Image | None:
        ami = entries[region].ami
        return images.get(image.account.ec2(region), [ami]).get(ami)

    amis_found = for_each_region(entries, read).require_all()
    amis, digests = dict[str, Image](), {tags.LOCK_SHA256: lock_sha256}
    for region, ami in amis_found.items():
        problem = f"the candidate's AMI {entries[region].ami} in {region} is"
        again = f"`golden publish {image.name}` makes it again"
        if ami is None:
            raise BadInput(f"{problem} gone", hint=again)
        # The first region's digests hold for all: a candidate has the same bytes everywhere.
        for tag in (tags.DISK_SHA256, tags.MANIFEST_SHA256):
            digests.setdefault(tag, ami.tags.get(tag, ""))
        if any(ami.tags.get(tag, "") != value for tag, value in digests.items()):
            removal = images.removal_command(region, ami.ami)
            raise BadInput(f"{problem} of other bytes", hint=f"{removal}, then {again}")
        amis[region] = ami
    return amis
