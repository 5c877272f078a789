"""The record of a GPU test, in an SSM parameter beside the build's own.

`publish`, `promote` and `rollback` ask a `GpuJudge` before `latest` names a build.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from goldenami.aws.channels.ledger import GpuProof
from goldenami.aws.channels.pointers import EVIDENCE, build_name
from goldenami.aws.images import Image
from goldenami.aws.session import Client
from goldenami.aws.tags import Tags
from goldenami.core import records
from goldenami.core.errors import BadInput
from goldenami.model.builds.gpu_proofs import GpuTestRecord


@dataclass(frozen=True)
class Evidence:
    """A build that `latest` is to name: its tags, its AMIs by region, and the records of its GPU
    tests as text, by region."""

    image: str
    build_id: str
    tags: Tags
    amis: Mapping[str, Image]
    records: Mapping[str, str]

    @property
    def all_tags(self) -> dict[str, Tags]:
        return {"the build": self.tags, **{ami.ami: ami.tags for ami in self.amis.values()}}


class GpuFinding(NamedTuple):
    """Whether a build is proven on a GPU. `problem` is why its test's record does not count, or
    ""."""

    proof: GpuProof
    problem: str = ""


def parameter(image: str, build_id: str) -> str:
    """The name of the parameter: `/golden-ami/<image>/<build id>/gpu-test`."""
    return f"{build_name(image, build_id)}{EVIDENCE}"


def write(ssm: Client, record: GpuTestRecord) -> None:
    """Store the record in a region."""
    ssm.put_parameter(
        Name=parameter(record.image, record.build_id),
        Value=record.model_dump_json(),
        Type="String",
        # A record has 2 to 5 KiB. Above a standard parameter's 4 KiB it becomes an advanced one,
        # for $0.05 a month.
        Tier="Intelligent-Tiering",
        Overwrite=True,
        Description="golden gpu-test: which GPUs this build was tested on",
    )


def parsed(text: str, image: str, build_id: str) -> GpuTestRecord:
    """Parse the record in a parameter's value. Raises BadInput if it is no record of that build."""
    parameter_text = f"the parameter {parameter(image, build_id)}"
    remedy = f"remove it, then run `golden gpu-test {image}`"
    record = records.read_shared(text, GpuTestRecord, parameter_text, remedy)
    if (record.image, record.build_id) != (image, build_id):
        raise BadInput(f"{parameter_text} is of {record.image} {record.build_id}", hint=remedy)
    return record


def summary(text: str | None, image: str, build_id: str) -> str:
    """The GPUs that a build was tested on, by its parameter's value; "" if there is no value, or
    why it cannot be read."""
    try:
        return str(parsed(text, image, build_id)) if text else ""
    except BadInput as error:
        return error.message
