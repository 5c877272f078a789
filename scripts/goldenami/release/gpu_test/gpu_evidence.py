"""Whether the record of a test on GPUs proves what `latest` is to name: of these bytes, of this
time, and signed.

It counts for the AMIs alone that carry the digests which it names. What it has to show, the AMIs
say, whose tags `publish` writes; `gpu-test` writes the record.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goldenami.aws import images, tags
from goldenami.aws.channels import evidence
from goldenami.aws.channels.evidence import Evidence, GpuFinding
from goldenami.aws.channels.ledger import GpuProof
from goldenami.aws.images import Image
from goldenami.aws.session import Account
from goldenami.core import clock, records
from goldenami.core.errors import GoldenError
from goldenami.image.provenance import dsse, signers
from goldenami.model.builds.gpu_proofs import Asked, GpuTestRecord, TestedGpu, required
from goldenami.model.definitions.definition import Definition
from goldenami.model.supported import hardware

if TYPE_CHECKING:  # it imports boto3
    from securesystemslib.signer import Signer

PREDICATE = "urn:goldenami:gpu-test:v2"
SKEW = timedelta(minutes=5)
"""By how much this machine's clock and AWS's may differ."""


def signed(record: GpuTestRecord, key: Signer | None) -> GpuTestRecord:
    """The record with its signature, where there is a key."""
    if key is None:
        return record
    return record.model_copy(update={"signature": dsse.sealed(_statement(record), key)})


def _statement(record: GpuTestRecord) -> dict[str, Any]:
    digest = records.sha256_text(record.model_copy(update={"signature": ""}).model_dump_json())
    subject = {
        "name": evidence.parameter(record.image, record.build_id),
        "digest": {"sha256": digest},
    }
    return dsse.statement(PREDICATE, [subject], {"result": "PASSED"})


@dataclass(frozen=True)
class GpuJudge:
    """Says what is known on a GPU of what `latest` is to name."""

    root: Path
    account: Account
    definition: Definition

    @cached_property
    def key(self) -> Signer | None:
        return signers.of_environment(self.root, self.account)

    def __call__(self, given: Evidence) -> GpuFinding:
        """`TESTED` where one region's record proves it; else what is wrong with the first."""
        asked = self._asked(given)
        if asked is not None and not asked.architectures:
            return GpuFinding(GpuProof.NONE)
        if asked is None:
            return GpuFinding(
                GpuProof.UNTESTED,
                "what a test has to show is not known: its AMIs do not say it alike",
            )
        first, nonces = "", set[str]()
        for text in dict.fromkeys(given.records.values()):
            record = evidence.parsed(text, given.image, given.build_id)
            problem = next(filter(None, self._problems(record, given, asked)), "")
            if record.nonce in nonces:
                problem = "another region has another record of the same test"
            nonces.add(record.nonce)
            if not problem:
                return GpuFinding(GpuProof.TESTED)
            first = first or f"its record does not count: {problem}"
        return GpuFinding(GpuProof.UNTESTED, first)

    def _asked(self, given: Evidence) -> Asked | None:
        said = {own.get(tags.GPU_TEST, "") for own in given.all_tags.values()}
        if said == {""} and not hardware.architectures(self.root, self.definition.hardware):
            return Asked((), ())
        return Asked.parsed(said.pop()) if len(said) == 1 and "" not in said else None

    def _problems(self, record: GpuTestRecord, given: Evidence, asked: Asked) -> Iterator[str]:
        """Why a record is no proof, the cheapest to find first; empty texts are none."""
        needed = required(self.root, asked.roles)
        yield from record.problems(asked.architectures, needed, hardware.load(self.root))
        yield "" if needed else "no check on a GPU is known that it has to show"
        yield self._unsigned(record, given)
        for what, own in given.all_tags.items():
            if unlike := _unlike(record, own):
                yield f"{unlike}, {what} is not"
        made = list[str]()
        for machine in record.machines:
            ami = self._tested(machine, given)
            if ami is None or _unlike(record, ami.tags):
                yield f"{machine.ami} in {machine.region}, where it ran, is no AMI of these bytes"
                return
            made.append(str(ami.raw["CreationDate"]))
        since = max(map(datetime.fromisoformat, made))
        if not since - SKEW <= datetime.fromisoformat(record.at) <= clock.now() + SKEW:
            yield f"it is of {record.at}, not of the time between {clock.stamp(since)} and now"

    def _tested(self, machine: TestedGpu, given: Evidence) -> Image | None:
        there = given.amis.get(machine.region)
        if there and there.ami == machine.ami:
            return there
        if machine.region not in {*given.amis, *self.definition.regions}:
            return None
        return images.get(self.account.ec2(machine.region), [machine.ami]).get(machine.ami)

    def _unsigned(self, record: GpuTestRecord, given: Evidence) -> str:
        if self.key is None:
            is_signed = any(tags.PROVENANCE_SHA256 in own for own in given.all_tags.values())
            if is_signed or self.definition.security.signed:
                return f"the build is signed, and {signers.KEY} names no key to hold it to"
            return ""
        if not record.signature:
            return "it is not signed"
        try:
            found = dsse.opened(record.signature, self.key.public_key, "it", PREDICATE)
        except GoldenError as error:
            return error.message
        return "" if found == _statement(record) else "it was changed after it was signed"


def _unlike(record: GpuTestRecord, own: tags.Tags) -> str:
    """Of which other lock or bytes the record is than what has these tags. What was baked on EC2
    has no disk here: its manifest says what it is."""
    said = {
        tags.LOCK_SHA256: record.lock_sha256,
        tags.DISK_SHA256: record.disk_sha256,
        tags.MANIFEST_SHA256: record.manifest_sha256,
    }
    if not (record.disk_sha256 or record.manifest_sha256):
        return "it names neither a disk nor a manifest"
    for name, digest in said.items():
        if digest != own.get(name):
            return f"it is of {name.partition(':')[2]} {str(digest)[:12]}"
    return ""
