"""The proof of a test on a GPU in the account: beside the build's parameter, where every machine can read it."""

from __future__ import annotations

from collections.abc import Iterable

from goldenami.aws.channels.ledger import GpuProof
from goldenami.aws.channels.pointers import EVIDENCE, build_name, read
from goldenami.aws.session import Account, Client
from goldenami.core.errors import BadInput
from goldenami.model.gpu_proofs import GpuTestRecord


def parameter(image: str, build_id: str) -> str:
    """The name of the parameter: `/golden-ami/<image>/<build id>/gpu-test`."""
    return f"{build_name(image, build_id)}{EVIDENCE}"


def write(ssm: Client, record: GpuTestRecord) -> None:
    """Keep the record in a region. A standard parameter holds 4 KiB: a machine takes 250 bytes."""
    ssm.put_parameter(Name=parameter(record.image, record.build_id), Value=record.model_dump_json(), Type="String",
                      Overwrite=True, Description="golden gpu-test: which GPUs this build was tested on")


def look(ssm: Client, image: str, build_id: str) -> GpuTestRecord | None:
    """The record of a build in a region; None where it has none. BadInput where it is no such record."""
    name = parameter(image, build_id)
    text = read(ssm, [name]).get(name)
    if text is None:
        return None
    try:
        return GpuTestRecord.model_validate_json(text)
    except ValueError as error:
        raise BadInput(f"the parameter {name} is not what gpu-test writes: {error}",
                       hint=f"remove it, then run `golden gpu-test {image}`") from None


def attested(account: Account, regions: Iterable[str], image: str, build_id: str) -> GpuProof:
    """What the account's regions say of a build on a GPU: one record is enough, the AMIs hold the same bytes."""
    for region in regions:
        record = look(account.ssm(region), image, build_id)
        if record is not None and record.build_id == build_id:
            return GpuProof.BY_HAND if record.by_hand else GpuProof.TESTED
    return GpuProof.UNTESTED
