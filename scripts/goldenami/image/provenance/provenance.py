"""The signed origin of a published build, for each region: SLSA's provenance.

Subjects are the AMI and its snapshot, the material is the lock, byproducts are the build's records.
Whoever has the public key can compare the account with it (published_provenance.py), or a build's
folder.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goldenami.aws.channels import attestations
from goldenami.aws.channels.attestations import Attestation
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

PROVENANCE = "https://slsa.dev/provenance/v1"
"""Type of the predicate: https://slsa.dev/spec/v1.0/provenance."""
BUILD_TYPE, BUILDER = "urn:goldenami:bake:v1", "urn:goldenami:bake"
CONTAINER_TYPE = "urn:goldenami:container:v1"
MANIFEST = "manifest.json"
LASTING = ("bake.json", MANIFEST, "sbom.cdx.json")
BYPRODUCTS = (*LASTING, "verify.json", "hardening.json", "cve.json")
"""Records whose digests are signed, as far as the build has them. Those after LASTING may be made
again later; `publish` then signs anew."""
LIST = "blocksSha256"
"""Name of a snapshot's digest: that of `disk.blocks`, which has the SHA-256 of each of its
blocks."""


def demanded(root: Path, definition: Definition, account: Account) -> Signer | None:
    """The key for signing, or None. Raises BadInput if the definition requires one and there is
    none."""
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
    """Signs the origin of a build."""

    build: BuildFolder
    key: Signer

    def attest(self, region: str, ami: Image) -> Attestation:
        """The envelope for an AMI. A copy is in the build's folder before the account has it."""
        provenance = dsse.sealed(_statement(self.build, region, ami.ami, ami.snapshot), self.key)
        records.write_text(copy_of(self.build, region), provenance)
        return Attestation(provenance, self.key.public_key.keyid)

    def is_right(self, region: str, ami: Image, attestation: Attestation) -> bool:
        """Whether `attestation` is signed and agrees with the build's records as they are now."""
        try:
            statement = hold(attestation, self.key.public_key, region, ami.ami, ami.snapshot)
        except GoldenError:
            return False
        signed = _records(statement)
        return all(
            signed.get(name) == {"sha256": digest}
            for name, digest in _byproducts(self.build, self.build.read_bake())
        )


def copy_of(build: BuildFolder, region: str) -> Path:
    """The path of a region's envelope in the build's folder."""
    return build.path / f"provenance/{region}.provenance.dsse.json"


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
    """The provenance of a container image; `bill_sha256` is the digest of its bill of materials."""
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
    """Names and digests of the records that are signed."""
    for name in BYPRODUCTS:
        if (build.path / name).exists():
            yield name, records.sha256_file(build.path / name)
        # The bake's record has the digest of a manifest that is no longer here.
        elif name == MANIFEST and bake.manifest_sha256:
            yield name, bake.manifest_sha256


def _subjects(
    build: BuildFolder, bake: BakeRecord, region: str, ami: str, snapshot: str
) -> list[dict[str, Any]]:
    """The AMI and its snapshot, with the digests of their bytes."""
    # A build that was baked on EC2 has no disk here: its bytes are in the list of the snapshot's
    # blocks.
    digest = {"sha256": bake.disk_sha256} if bake.disk_sha256 else {"lockSha256": bake.lock_sha256}
    blocks = {LIST: records.sha256_file(build.blocks)} if build.blocks.exists() else {}
    return [
        {"name": attestations.arn(region, "image", ami), "digest": digest},
        {"name": attestations.arn(region, "snapshot", snapshot), "digest": {**digest, **blocks}},
    ]


def hold(
    attestation: Attestation, key: Key, region: str, ami: str, snapshot: str
) -> dict[str, Any]:
    """The provenance statement of an AMI. Raises NotVerified if it is not signed, or is about
    another AMI or build."""
    statement = dsse.opened(
        attestation.provenance, key, f"the provenance of {ami} in {region}", PROVENANCE
    )
    names = [attestations.arn(region, "image", ami), attestations.arn(region, "snapshot", snapshot)]
    signed = [subject["name"] for subject in statement["subject"]]
    if signed != names:
        wrong = next(name for name in names if name not in signed)
        raise NotVerified(
            f"{wrong} is not what was signed: {' and '.join(signed)}",
            hint="do not launch it: `golden publish IMAGE` makes what was signed",
        )
    return statement


def verify(build: BuildFolder, public_key: Path, names: Collection[str] = BYPRODUCTS) -> list[str]:
    """Compare lock, disk and the records `names` with what was signed when a build was published.
    Returns the regions.

    Raises NotVerified with the difference, BadInput if there is no key or the build was not
    published from here.
    """
    key, regions = signers.read_public(public_key), build.read_published()
    if not regions:
        raise BadInput(
            f"{build.path} was not published from here: there is no {PUBLISH_FILE}",
            hint=f"`golden publish {build.image.image} --build {build.build_id}`",
        )
    for region, entry in sorted(regions.items()):
        path = copy_of(build, region)
        try:
            attestation = Attestation(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise NotVerified(
                f"{error.filename}: the build was published unsigned",
                hint=f"set {KEY}, then `golden publish {build.image.image}` signs it",
            ) from None
        statement = hold(attestation, key, region, entry.ami, entry.snapshot)
        signed = _parts(statement, names)
        current = _parts(_statement(build, region, entry.ami, entry.snapshot), names)
        for part in {**signed, **current}:
            if signed.get(part) != current.get(part):
                raise NotVerified(
                    f"{path}: {part} differs: signed is "
                    f"{signed.get(part, 'none')}, here is {current.get(part, 'none')}",
                    hint=f"{_CHANGED}; a record that a command made again is signed "
                    f"by `golden publish {build.image.image} --build {build.build_id}`",
                )
    _hold_bytes(build, build.read_bake())
    return sorted(regions)


_CHANGED = "the build was changed after it was signed, or this envelope is another build's"


def _hold_bytes(build: BuildFolder, bake: BakeRecord) -> None:
    lock_sha256 = records.sha256_file(build.lock) if build.lock.exists() else "none"
    if lock_sha256 != bake.lock_sha256:
        raise NotVerified(
            f"{build.lock} differs: signed is {bake.lock_sha256}, here is {lock_sha256}",
            hint=_CHANGED,
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
    parts = {
        "the image": definition["externalParameters"],
        "the lock": definition["resolvedDependencies"],
        "the build": run["metadata"],
        "the AMI": statement["subject"],
    }
    return parts | {name: digest for name, digest in _records(statement).items() if name in names}
