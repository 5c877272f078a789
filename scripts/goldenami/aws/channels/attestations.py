"""A build's signed provenance in the account: an SSM parameter beside the build's own, and a digest
in the AMI's tags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from goldenami.aws import tags
from goldenami.aws.calls import NOT_YET, wait_for
from goldenami.aws.channels.pointers import PROVENANCE, build_name
from goldenami.aws.images import Image
from goldenami.aws.session import Client
from goldenami.core import records


@dataclass(frozen=True)
class Attestation:
    """The signed envelope as text: where the build comes from (SLSA's provenance). `key_id` is the
    id of the signing key, or "" if it was read from the account."""

    provenance: str
    key_id: str = ""

    @property
    def digest(self) -> str:
        """The SHA-256 of the provenance, which AMI and snapshot carry as a tag."""
        return records.sha256_text(self.provenance)


def parameter(image: str, build_id: str) -> str:
    """The name of the parameter for the envelope."""
    return f"{build_name(image, build_id)}{PROVENANCE}"


def found(values: Mapping[str, str], image: str, build_id: str) -> Attestation | None:
    """Pick the envelope from parameters' values by name, or None if it is missing."""
    provenance = values.get(parameter(image, build_id))
    return Attestation(provenance) if provenance else None


def write(ssm: Client, ec2: Client, name: str, ami: Image, attestation: Attestation) -> None:
    """Store the envelope in the region and tag AMI and snapshot."""
    ssm.put_parameter(
        Name=name,
        Value=attestation.provenance,
        Type="String",
        # An envelope of one AMI has 2 to 3 KiB. Above a standard parameter's 4 KiB it becomes an
        # advanced one, for $0.05 a month.
        Tier="Intelligent-Tiering",
        Overwrite=True,
        Description="golden publish: signed, a DSSE envelope",
    )
    # The tags come last, so that they never name an envelope that is not there.
    mark = tags.to_list(
        {tags.PROVENANCE_SHA256: attestation.digest, tags.SIGNED_BY: attestation.key_id}
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
