"""Where a published build comes from, signed, for each region: SLSA's provenance, and a summary of
its verification.

Subjects are the AMI and its snapshot, the material is the lock, byproducts are the build's
records. Whoever has the public key can hold the account to it (published_provenance.py), or a
build's folder.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goldenami.aws.channels import attestations
from goldenami.aws.channels.attestations import Attestations
from goldenami.aws.images import Image
from goldenami.aws.session import Account
from goldenami.core import clock, records
from goldenami.core.errors import BadInput, GoldenError, NotVerified
from goldenami.image.provenance import dsse, signers
from goldenami.image.provenance.signers import KEY
from goldenami.model.builds import disk_blocks
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.build_records import PUBLISH_FILE, BakeRecord, checkout_commit
from goldenami.model.builds.container_records import ContainerRecord
from goldenami.model.definitions.definition import Definition

if TYPE_CHECKING:  # it imports boto3
    from securesystemslib.signer import Key, Signer

PROVENANCE, VERIFICATION = (
    "https://slsa.dev/provenance/v1",
    "https://slsa.dev/verification_summary/v1",
)
"""Types of predicates: https://slsa.dev/spec/v1.0/provenance,
https://slsa.dev/spec/v1.0/verification_summary."""
BUILD_TYPE, BUILDER, VERIFIER = (
    "urn:goldenami:bake:v1",
    "urn:goldenami:bake",
    "urn:goldenami:verify",
)
CONTAINER_TYPE = "urn:goldenami:container:v1"
LEVELS = ("SLSA_BUILD_LEVEL_1", "GOLDENAMI_VERIFIED")
"""What a summary claims. Level 2 wants a build platform that nobody can tamper with: a machine of
ours is none."""
MANIFEST = "manifest.json"
LASTING = ("bake.json", MANIFEST, "sbom.cdx.json", "sbom.spdx.json")
BYPRODUCTS = (*LASTING, "verify.json", "hardening.json", "cve.json")
"""Records whose digests are in it, as far as the build has them. Those behind LASTING may be made
again later; `publish` then signs anew."""
LIST = "blocksSha256"
"""Of a snapshot: the digest of `disk.blocks`, which has the SHA-256 of each of its blocks."""


def demanded(root: Path, definition: Definition, account: Account) -> Signer | None:
    """The key to sign with; BadInput where the definition wants one, and there is none."""
    key = signers.of_environment(root, account)
    if key is None and definition.security.signed:
        raise BadInput(
            f"{definition.image} is published with signed provenance alone, and {KEY} names no key",
            hint=f"set {KEY} to the file of an ECDSA P-256 key, outside the checkout, "
            "or to a key of KMS",
        )
    return key


@dataclass(frozen=True)
class Attestor:
    """Signs where a build comes from. `policy` is the image's definition."""

    build: BuildFolder
    key: Signer
    policy: Path

    def attest(self, region: str, ami: Image) -> Attestations:
        """Both envelopes for an AMI; copies are in the build's folder before the account has
        them."""
        provenance = dsse.sealed(_statement(self.build, region, ami.ami, ami.snapshot), self.key)
        made = Attestations(
            provenance,
            dsse.sealed(self._summary(region, ami, provenance), self.key),
            self.key.public_key.keyid,
        )
        for path, text in zip(
            copies(self.build, region), (made.provenance, made.verification), strict=True
        ):
            records.write_text(path, text)
        return made

    def is_right(self, region: str, ami: Image, found: Attestations) -> bool:
        """Whether it is signed as the build's records are now."""
        try:
            statement = hold(found, self.key.public_key, region, ami.ami, ami.snapshot)
        except GoldenError:
            return False
        signed = _records(statement)
        return all(
            signed.get(name) == {"sha256": digest}
            for name, digest in _byproducts(self.build, self.build.read_bake())
        )

    def _summary(self, region: str, ami: Image, provenance: str) -> dict[str, Any]:
        bake, folder = self.build.read_bake(), self.policy.parent
        subjects = _subjects(self.build, bake, region, ami.ami, ami.snapshot)
        return dsse.statement(
            VERIFICATION,
            subjects,
            {
                "verifier": {"id": VERIFIER},
                "timeVerified": clock.stamp(),
                "slsaVersion": "1.0",
                "resourceUri": attestations.arn(region, "image", ami.ami),
                "policy": {
                    "uri": f"packer/{folder.name}/{self.policy.name}",
                    "digest": {"sha256": records.sha256_file(self.policy)},
                },
                "inputAttestations": [
                    {
                        "uri": attestations.parameters(bake.image, bake.build_id)[0],
                        "digest": {"sha256": records.sha256_text(provenance)},
                    }
                ],
                "verificationResult": "PASSED",
                "verifiedLevels": list(LEVELS),
            },
        )


def copies(build: BuildFolder, region: str) -> tuple[Path, Path]:
    """Where the build's folder has both envelopes of a region."""
    return (
        build.path / f"provenance/{region}.provenance.dsse.json",
        build.path / f"provenance/{region}.verification.dsse.json",
    )


def _statement(build: BuildFolder, region: str, ami: str, snapshot: str) -> dict[str, Any]:
    bake = build.read_bake()
    return dsse.statement(
        PROVENANCE,
        _subjects(build, bake, region, ami, snapshot),
        _predicate(
            bake,
            {
                "buildType": BUILD_TYPE,
                "externalParameters": {"image": bake.image, "builder": bake.builder.value},
            },
            {"packer": bake.host.packer, "python": bake.host.python},
            bake.git_commit,
            _byproducts(build, bake),
        ),
    )


def of_container(
    record: ContainerRecord, git_commit: str, python: str, bill_sha256: str
) -> dict[str, Any]:
    """Where a container image comes from; `bill_sha256` is of its bill of materials."""
    subject = {"name": record.image, "digest": {"sha256": record.digest}}
    return dsse.statement(
        PROVENANCE,
        [subject],
        _predicate(
            record,
            {"buildType": CONTAINER_TYPE, "externalParameters": {"image": record.image}},
            {"python": python},
            git_commit,
            [("sbom.cdx.json", bill_sha256)],
        ),
    )


def _predicate(
    record: BakeRecord | ContainerRecord,
    definition: dict[str, Any],
    versions: dict[str, str],
    git_commit: str,
    byproducts: Iterable[tuple[str, str]],
) -> dict[str, Any]:
    ends = datetime.fromisoformat(record.started_at) + timedelta(seconds=record.seconds)
    origins = [{"name": "lock.json", "digest": {"sha256": record.lock_sha256}}]
    if commit := checkout_commit(git_commit):
        origins.append({"name": "checkout", "digest": {"gitCommit": commit}})
    return {
        "buildDefinition": {**definition, "resolvedDependencies": origins},
        "runDetails": {
            "builder": {"id": BUILDER, "version": versions},
            "metadata": {
                "invocationId": record.build_id,
                "startedOn": record.started_at,
                "finishedOn": clock.stamp(ends),
            },
            "byproducts": [
                {"name": name, "digest": {"sha256": digest}} for name, digest in byproducts
            ],
        },
    }


def _byproducts(build: BuildFolder, bake: BakeRecord) -> Iterator[tuple[str, str]]:
    """A manifest that is here no more is the one of the bake."""
    for name in BYPRODUCTS:
        if (build.path / name).exists():
            yield name, records.sha256_file(build.path / name)
        elif name == MANIFEST and bake.manifest_sha256:
            yield name, bake.manifest_sha256


def _subjects(
    build: BuildFolder, bake: BakeRecord, region: str, ami: str, snapshot: str
) -> list[dict[str, Any]]:
    """One that was baked on EC2 has no disk here: the list of its snapshot's blocks has its
    bytes."""
    digest = {"sha256": bake.disk_sha256} if bake.disk_sha256 else {"lockSha256": bake.lock_sha256}
    blocks = {LIST: records.sha256_file(build.blocks)} if build.blocks.exists() else {}
    return [
        {"name": attestations.arn(region, "image", ami), "digest": digest},
        {"name": attestations.arn(region, "snapshot", snapshot), "digest": {**digest, **blocks}},
    ]


def hold(found: Attestations, key: Key, region: str, ami: str, snapshot: str) -> dict[str, Any]:
    """The statement of where an AMI comes from; NotVerified where it is not signed, or of
    another."""
    statement = dsse.opened(
        found.provenance, key, f"the provenance of {ami} in {region}", PROVENANCE
    )
    summary = dsse.opened(
        found.verification, key, f"the verification summary of {ami} in {region}", VERIFICATION
    )
    names = [attestations.arn(region, "image", ami), attestations.arn(region, "snapshot", snapshot)]
    signed = [subject["name"] for subject in statement["subject"]]
    if signed != names:
        wrong = next(name for name in names if name not in signed)
        raise NotVerified(
            f"{wrong} is not what was signed: {' and '.join(signed)}",
            hint="do not launch it: `golden publish IMAGE` makes what was signed",
        )
    (given,) = summary["predicate"]["inputAttestations"]
    if (summary["subject"], given["digest"], summary["predicate"]["verificationResult"]) != (
        statement["subject"],
        {"sha256": found.digest},
        "PASSED",
    ):
        raise NotVerified(
            f"the verification summary of {ami} in {region} is of another build",
            hint="`golden publish IMAGE` signs both again",
        )
    return statement


def verify(build: BuildFolder, public_key: Path, names: Collection[str] = BYPRODUCTS) -> list[str]:
    """Hold lock, disk and the records of these `names` to what was signed when a build was
    published; returns the regions.

    NotVerified says what differs, BadInput that there is no key.
    """
    key, regions = signers.read_public(public_key), build.read_published()
    if not regions:
        raise BadInput(
            f"{build.path} was not published from here: there is no {PUBLISH_FILE}",
            hint=f"`golden publish {build.image.image} --build {build.build_id}`",
        )
    for region, entry in sorted(regions.items()):
        try:
            found = Attestations(
                *(path.read_text(encoding="utf-8") for path in copies(build, region))
            )
        except FileNotFoundError as error:
            raise NotVerified(
                f"{error.filename}: the build was published unsigned",
                hint=f"set {KEY}, then `golden publish {build.image.image}` signs it",
            ) from None
        statement = hold(found, key, region, entry.ami, entry.snapshot)
        signed, here = (
            _parts(statement, names),
            _parts(_statement(build, region, entry.ami, entry.snapshot), names),
        )
        for part in {**signed, **here}:
            if signed.get(part) != here.get(part):
                raise NotVerified(
                    f"{copies(build, region)[0]}: {part} differs: signed is "
                    f"{signed.get(part, 'none')}, here is {here.get(part, 'none')}",
                    hint=f"{_CHANGED}; a record that a command made again is signed "
                    f"by `golden publish {build.image.image} --build "
                    f"{build.build_id}`",
                )
    _hold_bytes(build, build.read_bake())
    return sorted(regions)


_CHANGED = "the build was changed after it was signed, or this envelope is another build's"


def _hold_bytes(build: BuildFolder, bake: BakeRecord) -> None:
    here = records.sha256_file(build.lock) if build.lock.exists() else "none"
    if here != bake.lock_sha256:
        raise NotVerified(
            f"{build.lock} differs: signed is {bake.lock_sha256}, here is {here}", hint=_CHANGED
        )
    if bake.disk and build.disk.exists() and not disk_blocks.is_as_baked(build.disk, bake.disk):
        raise NotVerified(
            f"{build.disk} differs from the one that was signed, {bake.disk.sha256}", hint=_CHANGED
        )


def _records(statement: dict[str, Any]) -> dict[str, Any]:
    return {
        row["name"]: row["digest"] for row in statement["predicate"]["runDetails"]["byproducts"]
    }


def _parts(statement: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    predicate = statement["predicate"]
    run, definition = predicate["runDetails"], predicate["buildDefinition"]
    found = {
        "the image": definition["externalParameters"],
        "the lock": definition["resolvedDependencies"],
        "the build": run["metadata"],
        "the AMI": statement["subject"],
    }
    return found | {name: digest for name, digest in _records(statement).items() if name in names}
