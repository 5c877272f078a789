"""The check that an AMI of the account is what was signed when it was published: envelope, AMI,
snapshot, tags, blocks. Any machine with the public key can run it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goldenami.aws import images, tags
from goldenami.aws.channels import attestations, pointers
from goldenami.aws.images import Image
from goldenami.aws.regions import combined_error, for_each_region
from goldenami.aws.session import Account, translated
from goldenami.aws.snapshots.snapshot_disk import SnapshotDisk
from goldenami.core import records
from goldenami.core.errors import BadInput, NotVerified, Unreachable
from goldenami.core.terminal.progress import Progress
from goldenami.image.provenance import provenance, signers
from goldenami.image.provenance.provenance import LIST
from goldenami.model.builds.build_records import checkout_commit


@dataclass(frozen=True)
class SignedAmi:
    """An AMI that agrees with its signed `statement`."""

    region: str
    image: Image
    statement: dict[str, Any]

    def verify_blocks(self, account: Account, progress: Progress, scratch: Path) -> int:
        """Compare each block of the snapshot with the signed list. Returns the number of blocks.

        Raises NotVerified if one differs, Unreachable if the snapshot or the list cannot be had.
        """
        snapshot, region = self.image.snapshot, self.region
        signed_digest = self.statement["subject"][1]["digest"].get(LIST)
        if signed_digest is None:
            raise Unreachable(
                f"no list of blocks was signed of {snapshot}",
                hint="it was baked on EC2 by a version that read no snapshots: bake it again",
            )
        disk = SnapshotDisk(account.ebs(region), snapshot)
        disk.list()
        with progress.transfer(f"{region} {snapshot}", disk.bytes_listed) as advance:
            blocks = disk.hashed(scratch / "snapshot.blocks", advance)
        if records.sha256_file(blocks.path) != signed_digest:
            raise NotVerified(
                f"the blocks of {snapshot} in {region} are not those that were signed",
                hint="do not launch it; a new build and publish make a new snapshot",
            )
        return blocks.count()


def verify(account: Account, regions: Iterable[str], ami: str, public_key: Path) -> SignedAmi:
    """The AMI with its signed statement, after all but its blocks were compared.

    Raises NotVerified with the difference, Unreachable for what cannot be read, and BadInput if
    there is no key, or no such AMI in `regions`.
    """
    key = signers.read_public(public_key)
    region, image = _find(account, list(regions), ami)
    name, build_id = image.tags.get(tags.IMAGE), image.tags.get(tags.BUILD_ID)
    if not (name and build_id):
        raise NotVerified(
            f"{ami} in {region} has no tags of a build: nothing says where it comes from",
            hint="`golden publish IMAGE` sets the tags of its AMIs again",
        )
    with translated(region):
        values = pointers.read(account.ssm(region), [attestations.parameter(name, build_id)])
        snapshot_tags = attestations.snapshot_tags(account.ec2(region), image)
    attestation = attestations.found(values, name, build_id)
    if attestation is None:
        reason = "was published unsigned"
        if tags.PROVENANCE_SHA256 in {**image.tags, **snapshot_tags}:
            reason = "has lost what was signed of it"
        raise NotVerified(
            f"{ami} in {region} {reason}",
            hint=f"set {signers.KEY}, then `golden publish {name} --build {build_id}` signs it",
        )
    statement = provenance.hold(attestation, key, region, image.ami, image.snapshot)
    signed = {tags.PROVENANCE_SHA256: attestation.digest, **_signed_tags(statement)}
    for resource, own_tags in ((image.ami, image.tags), (image.snapshot, snapshot_tags)):
        # Of this tag only the commit is signed, not what stands beside it.
        current = {**own_tags}
        if commit := own_tags.get(tags.GIT_COMMIT):
            current[tags.GIT_COMMIT] = checkout_commit(commit)
        for tag, value in signed.items():
            if current.get(tag) != value:
                raise NotVerified(
                    f"the tag {tag} of {resource} in {region} is "
                    f"{current.get(tag, 'gone')}, signed is {value}",
                    hint=f"`golden publish {name} --build {build_id}` sets it "
                    "again; who changed it?",
                )
    return SignedAmi(region, image, statement)


def _find(account: Account, regions: list[str], ami: str) -> tuple[str, Image]:
    # A region that does not answer is given up within ten seconds: another may have the AMI.
    quick_account = account.with_short_timeouts()
    results = for_each_region(
        regions, lambda region: images.get(quick_account.ec2(region), [ami]).get(ami)
    )
    for region, image in results.done.items():
        if image is not None:
            return region, image
    if results.failed:
        raise combined_error(results.failed, f"{ami} was not found", "then run again", {})
    raise BadInput(
        f"there is no AMI {ami} of this account in "
        f"{', '.join(regions) or 'any region of a definition'}",
        hint="--region names another region",
    )


def _signed_tags(statement: dict[str, Any]) -> dict[str, str]:
    predicate = statement["predicate"]
    dependencies = {
        row["name"]: row["digest"] for row in predicate["buildDefinition"]["resolvedDependencies"]
    }
    byproducts = {
        row["name"]: row["digest"]["sha256"] for row in predicate["runDetails"]["byproducts"]
    }
    build = tags.of_build(
        predicate["buildDefinition"]["externalParameters"]["image"],
        dependencies["lock.json"]["sha256"],
        predicate["runDetails"]["metadata"]["invocationId"],
        dependencies.get("checkout", {}).get("gitCommit", ""),
    )
    disk_sha256 = statement["subject"][0]["digest"].get("sha256")
    return {**build, **tags.of_bytes(disk_sha256, byproducts.get("manifest.json"))}
