"""Judges whether the record of a GPU test proves the build that `latest` is to name: that it is of
these bytes, recent, and signed.

`gpu-test` writes the record. It counts only for AMIs that carry the digests in it. What a test has
to prove is in the AMIs' tags, which `publish` writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
from goldenami.aws.regions import for_each_region
from goldenami.aws.session import Account
from goldenami.core import clock, records
from goldenami.core.errors import GoldenError
from goldenami.image.provenance import dsse, signers
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.gpu_proofs import ATTEST_FILE, Asked, GpuTestRecord, TestedGpu, required
from goldenami.model.definitions.definition import Definition
from goldenami.model.supported import hardware

if TYPE_CHECKING:  # it imports boto3
    from securesystemslib.signer import Signer

PREDICATE = "urn:goldenami:gpu-test:v2"
SKEW = timedelta(minutes=5)
"""How much this machine's clock and AWS's may differ."""


def signed(record: GpuTestRecord, key: Signer | None) -> GpuTestRecord:
    """The record, signed if there is a key."""
    if key is None:
        return record
    return record.model_copy(update={"signature": dsse.sealed(_statement(record), key)})


def _statement(record: GpuTestRecord) -> dict[str, Any]:
    """The in-toto statement that is signed for a record: that the test passed."""
    digest = records.sha256_text(record.model_copy(update={"signature": ""}).model_dump_json())
    subject = {
        "name": evidence.parameter(record.image, record.build_id),
        "digest": {"sha256": digest},
    }
    return dsse.statement(PREDICATE, [subject], {"result": "PASSED"})


def keep(folder: BuildFolder, record: GpuTestRecord) -> None:
    """Keep the record beside the build, whose report shows it."""
    records.write(folder.path / ATTEST_FILE, record)


def write(account: Account, regions: Iterable[str], record: GpuTestRecord) -> None:
    """Write the record to every region."""
    for_each_region(regions, lambda name: evidence.write(account.ssm(name), record)).require_all(
        "the test passed and is not recorded everywhere",
        f"run `golden gpu-test {record.image}` again",
    )


@dataclass(frozen=True)
class GpuJudge:
    """Decides whether a build that `latest` is to name is proven on a GPU."""

    root: Path
    account: Account
    definition: Definition

    @cached_property
    def key(self) -> Signer | None:
        return signers.of_environment(self.root, self.account)

    def __call__(self, build: Evidence) -> GpuFinding:
        """Return TESTED if one region's record proves the build; else UNTESTED, with what is wrong
        with the first record. NONE if the image has no GPU."""
        requirements = self._requirements(build)
        if requirements is not None and not requirements.classes:
            return GpuFinding(GpuProof.NONE)
        if requirements is None:
            return GpuFinding(
                GpuProof.UNTESTED,
                "what a test has to show is not known: its AMIs do not say it alike",
            )
        first, nonces = "", set[str]()
        for text in dict.fromkeys(build.records.values()):
            record = evidence.parsed(text, build.image, build.build_id)
            problem = next(filter(None, self._problems(record, build, requirements)), "")
            # Each test has its own nonce: two different records with one were not both written by
            # that test.
            if record.nonce in nonces:
                problem = "another region has another record of the same test"
            nonces.add(record.nonce)
            if not problem:
                return GpuFinding(GpuProof.TESTED)
            first = first or f"its record does not count: {problem}"
        return GpuFinding(GpuProof.UNTESTED, first)

    def _requirements(self, build: Evidence) -> Asked | None:
        """The requirements for a test, from the tags of build and AMIs, or None if they differ.
        They are empty if there are no such tags and the definition declares no GPU."""
        texts = {own_tags.get(tags.GPU_TEST, "") for own_tags in build.all_tags.values()}
        if texts == {""} and not hardware.architectures(self.root, self.definition.hardware):
            return Asked((), ())
        if len(texts) > 1 or "" in texts:
            return None
        return Asked.parsed(texts.pop())

    def _problems(
        self, record: GpuTestRecord, build: Evidence, requirements: Asked
    ) -> Iterator[str]:
        """Yield why a record is no proof, or "" for each check that passes."""
        # The checks that cost the least come first, as callers stop at the first problem.
        needed = required(self.root, requirements.roles)
        yield from record.problems(requirements.classes, needed, hardware.load(self.root))
        if not needed:
            yield "no check on a GPU is known that it has to show"
        yield self._unsigned(record, build)
        for holder, own_tags in build.all_tags.items():
            if unlike := _unlike(record, own_tags):
                yield f"{unlike}, {holder} is not"
        created = list[str]()
        for machine in record.machines:
            ami = self._tested(machine, build)
            if ami is None or _unlike(record, ami.tags):
                yield f"{machine.ami} in {machine.region}, where it ran, is no AMI of these bytes"
                return
            created.append(str(ami.raw["CreationDate"]))
        since = max(map(datetime.fromisoformat, created))
        if not since - SKEW <= datetime.fromisoformat(record.at) <= clock.now() + SKEW:
            yield f"it is of {record.at}, not of the time between {clock.stamp(since)} and now"

    def _tested(self, machine: TestedGpu, build: Evidence) -> Image | None:
        """The AMI that a machine of the test ran, or None if it does not exist any more."""
        ami = build.amis.get(machine.region)
        if ami and ami.ami == machine.ami:
            return ami
        # The record may name any region: only those of the build and the definition are asked.
        if machine.region not in {*build.amis, *self.definition.regions}:
            return None
        return images.get(self.account.ec2(machine.region), [machine.ami]).get(machine.ami)

    def _unsigned(self, record: GpuTestRecord, build: Evidence) -> str:
        """Why the record's signature is not good, or ""."""
        if self.key is None:
            is_signed = any(
                tags.PROVENANCE_SHA256 in own_tags for own_tags in build.all_tags.values()
            )
            if is_signed or self.definition.security.signed:
                return f"the build is signed, and {signers.KEY} names no key to hold it to"
            return ""
        if not record.signature:
            return "it is not signed"
        try:
            statement = dsse.opened(record.signature, self.key.public_key, "it", PREDICATE)
        except GoldenError as error:
            return error.message
        if statement != _statement(record):
            return "it was changed after it was signed"
        return ""


def _unlike(record: GpuTestRecord, own_tags: tags.Tags) -> str:
    """Which lock or bytes the record is of, if they differ from those in the tags, or ""."""
    digests = {
        tags.LOCK_SHA256: record.lock_sha256,
        tags.DISK_SHA256: record.disk_sha256,
        tags.MANIFEST_SHA256: record.manifest_sha256,
    }
    # A build that was baked on EC2 has no disk, and is identified by its manifest.
    if not (record.disk_sha256 or record.manifest_sha256):
        return "it names neither a disk nor a manifest"
    for name, digest in digests.items():
        if digest != own_tags.get(name):
            return f"it is of {name.partition(':')[2]} {str(digest)[:12]}"
    return ""
