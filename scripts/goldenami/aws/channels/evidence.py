"""The proof of a test on a GPU in the account: beside the build's parameter, where every machine can read it."""

from __future__ import annotations

from collections.abc import Iterable

from goldenami.aws.channels.pointers import EVIDENCE, build_name, read
from goldenami.aws.session import Account, Client
from goldenami.core.errors import BadInput
from goldenami.model.gpu_proofs import GpuTestRecord


def parameter(image: str, build_id: str) -> str:
    """The name of the parameter: `/golden-ami/<image>/<build id>/gpu-test`."""
    return f"{build_name(image, build_id)}{EVIDENCE}"


def write(ssm: Client, record: GpuTestRecord) -> None:
    """Keep the record in a region. It has 2 to 4 KiB; more than a standard parameter's 4 KiB costs $0.05 a month."""
    ssm.put_parameter(Name=parameter(record.image, record.build_id), Value=record.model_dump_json(), Type="String",
                      Tier="Intelligent-Tiering", Overwrite=True,
                      Description="golden gpu-test: which GPUs this build was tested on")


def parsed(text: str, image: str, build_id: str) -> GpuTestRecord:
    """The record that is a parameter's value; BadInput where it is no such record of that build."""
    try:
        record = GpuTestRecord.model_validate_json(text)
        if (record.image, record.build_id) != (image, build_id):
            raise ValueError(f"it is of {record.image} {record.build_id}")
    except ValueError as error:
        raise BadInput(f"the parameter {parameter(image, build_id)} is not what gpu-test writes: {error}",
                       hint=f"remove it, then run `golden gpu-test {image}`") from None
    return record


def summary(text: str | None, image: str, build_id: str) -> str:
    """What a parameter's value says, for a person: on which GPUs, and who vouches; nothing where there is none."""
    try:
        return str(parsed(text, image, build_id)) if text else ""
    except BadInput as error:
        return error.message.splitlines()[0]


def find(account: Account, regions: Iterable[str], image: str, build_id: str) -> GpuTestRecord | None:
    """The record of a build in the first region that has one; one is enough, the AMIs hold the same bytes."""
    name = parameter(image, build_id)
    for region in regions:
        if text := read(account.ssm(region), [name]).get(name):
            return parsed(text, image, build_id)
    return None
