"""A build's signed attestations in the account: two SSM parameters beside the build's own, and a
digest in the AMI's tags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from goldenami.aws import tags
from goldenami.aws.calls import NOT_YET, wait_for
from goldenami.aws.channels.pointers import PROVENANCE, VERIFICATION, build_name
from goldenami.aws.images import Image
from goldenami.aws.session import Client
from goldenami.core import records


@dataclass(frozen=True)
class Attestations:
    """The signed envelopes as text: where the build comes from (SLSA's provenance), and that it was
    verified. `key_id` is the id of the signing key, or "" if they were read from the account."""

    provenance: str
    verification: str
    key_id: str = ""

    @property
    def digest(self) -> str:
        """The SHA-256 of the provenance, which AMI and snapshot carry as a tag."""
        return records.sha256_text(self.provenance)


EnvelopeNames = tuple[str, str]
"""The names of the parameters with a build's provenance and verification."""


def parameters(image: str, build_id: str) -> EnvelopeNames:
    """The names of the parameters for both envelopes."""
    name = build_name(image, build_id)
    return f"{name}{PROVENANCE}", f"{name}{VERIFICATION}"


def found(values: Mapping[str, str], image: str, build_id: str) -> Attestations | None:
    """Pick both envelopes from parameters' values by name, or None if one is missing."""
    provenance, verification = (values.get(name) for name in parameters(image, build_id))
    if not provenance or not verification:
        return None
    return Attestations(provenance, verification)


def write(
    ssm: Client, ec2: Client, names: EnvelopeNames, ami: Image, attestations: Attestations
) -> None:
    """Store both envelopes in the region and tag AMI and snapshot."""
    # The tags come last, so that they never name an envelope that is not there.
    texts = (attestations.provenance, attestations.verification)
    for name, text in zip(names, texts, strict=True):
        ssm.put_parameter(
            Name=name,
            Value=text,
            Type="String",
            # An envelope of one AMI has 2 to 3 KiB. Above a standard parameter's 4 KiB it becomes
            # an advanced one, for $0.05 a month.
            Tier="Intelligent-Tiering",
            Overwrite=True,
            Description="golden publish: signed, a DSSE envelope",
        )
    mark = tags.to_list(
        {tags.PROVENANCE_SHA256: attestations.digest, tags.SIGNED_BY: attestations.key_id}
    )
    ec2.create_tags(Resources=[ami.ami, ami.snapshot], Tags=mark)


def snapshot_tags(ec2: Client, ami: Image) -> tags.Tags:
    """The tags of the AMI's snapshot."""
    answer = wait_for(lambda: ec2.describe_snapshots(SnapshotIds=[ami.snapshot]), *NOT_YET)
    return tags.from_list(answer["Snapshots"][0].get("Tags"))


@cache
def _partition(region: str) -> str:
    import botocore.session  # noqa: PLC0415 - 0.2 s that most commands need not wait for

    return str(botocore.session.Session().get_partition_for_region(region))


def arn(region: str, kind: str, name: str) -> str:
    """The ARN of an image or a snapshot. Neither contains an account's number."""
    return f"arn:{_partition(region)}:ec2:{region}::{kind}/{name}"
