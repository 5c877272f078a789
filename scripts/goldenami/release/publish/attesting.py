"""Signing what a publish makes: in each region, after its AMI is as asked for and before a pointer
moves."""

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
from goldenami.core.errors import NotVerified
from goldenami.model.definitions.definition import Definition


class Signs(Protocol):
    """What signs where a build comes from: `publish` knows neither the keys nor what is signed."""

    def attest(self, region: str, ami: Image) -> Attestations:
        """Sign for the AMI of a region."""
        ...

    def is_right(self, region: str, ami: Image, found: Attestations) -> bool:
        """Whether what the account has is signed by the same key, and of this AMI."""
        ...


def lacking(account: Account, states: Mapping[str, RegionBuild], signs: Signs | None) -> set[str]:
    """The regions in which the build is to be signed: one more call for each that seems to be, none
    without a key."""
    if signs is None:
        return set()

    def is_signed(region: str) -> bool:
        image, found = states[region].image, states[region].attested
        if image is None or found is None or image.tags.get(tags.PROVENANCE_SHA256) != found.digest:
            return False
        on_snapshot = attestations.snapshot_tags(account.ec2(region), image).get(
            tags.PROVENANCE_SHA256
        )
        return on_snapshot == found.digest and signs.is_right(region, image, found)

    signed = for_each_region(states, is_signed).require_all()
    return {region for region, is_right in signed.items() if not is_right}


def check_signed(definition: Definition, states: Mapping[str, RegionBuild]) -> None:
    """NotVerified where the definition wants builds signed, and the account has nothing signed of
    one that it has.

    Who signed it nobody can tell here, without the public key: `verify-provenance` does.
    """
    unsigned = [region for region, state in states.items()
                if state.image and (state.attested is None
                                    or state.image.tags.get(tags.PROVENANCE_SHA256)
                                    != state.attested.digest)]
    if definition.security.signed and unsigned:
        raise NotVerified(f"the candidate of {definition.image} is not signed in "
                          f"{', '.join(unsigned)}",
                          hint=f"`golden publish {definition.image}` signs it, with the key that "
                               "signs")


def sign(
    account: Account, region: str, image: str, build_id: str, ami: Image, signs: Signs
) -> None:
    """Sign for a region's AMI, and keep it in the account."""
    made = signs.attest(region, ami)
    attestations.write(account.ssm(region), account.ec2(region), image, build_id, ami, made)
