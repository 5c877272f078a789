"""Signing what a publish makes: in each region, after its AMI is as asked for and before a pointer moves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from goldenami.aws import tags
from goldenami.aws.channels import attestations
from goldenami.aws.channels.attestations import Attestations
from goldenami.aws.channels.channels import RegionBuild
from goldenami.aws.images import Image
from goldenami.aws.regions import for_each_region
from goldenami.aws.session import Account


class Signs(Protocol):
    """What signs where a build comes from: `publish` knows neither the keys nor what is signed."""

    def attest(self, region: str, ami: Image) -> Attestations:
        """Sign for the AMI of a region."""
        ...

    def is_right(self, region: str, ami: Image, found: Attestations) -> bool:
        """Whether what the account has is signed by the same key, and of this AMI."""
        ...


def lacking(account: Account, states: Mapping[str, RegionBuild], signs: Signs | None) -> set[str]:
    """The regions in which the build is to be signed: one more call for each that seems to be, none without a key."""
    if signs is None:
        return set()

    def is_signed(region: str) -> bool:
        image, found = states[region].image, states[region].attested
        if image is None or found is None or image.tags.get(tags.PROVENANCE_SHA256) != found.digest:
            return False
        on_snapshot = attestations.snapshot_tags(account.ec2(region), image).get(tags.PROVENANCE_SHA256)
        return on_snapshot == found.digest and signs.is_right(region, image, found)

    signed = for_each_region(states, is_signed).require_all()
    return {region for region, is_right in signed.items() if not is_right}


def sign(account: Account, region: str, image: str, build_id: str, ami: Image, signs: Signs) -> None:
    """Sign for a region's AMI, and keep it in the account."""
    made = signs.attest(region, ami)
    attestations.write(account.ssm(region), account.ec2(region), image, build_id, ami, made)
