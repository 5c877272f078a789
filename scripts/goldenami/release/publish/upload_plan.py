"""How a build's disk gets into the regions that lack it: what each is sent, and what it has
already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from goldenami.aws import encryption, images, tags
from goldenami.aws.channels import pointers
from goldenami.aws.encryption import SnapshotEncryption
from goldenami.aws.regions import for_each_region
from goldenami.aws.session import Account
from goldenami.aws.snapshots import ebs
from goldenami.model.builds import disk_blocks
from goldenami.model.builds.disk_blocks import BlockMap
from goldenami.model.builds.sparse_disk import BLOCK
from goldenami.model.operation.publish_section import Transfer
from goldenami.release.publish.publish_records import Copy, PublishPlan, RegionPublishPlan, Upload
from goldenami.release.publish.release_gate import VerifiedBuild


@dataclass(frozen=True)
class _Parent:
    """A build in the region from which only a difference is sent, or why there is none."""

    build_id: str | None = None
    snapshot: ebs.Parent | None = None
    unfit: str = ""


def make(account: Account, build: VerifiedBuild, blocks: BlockMap,
         encryptions: dict[str, SnapshotEncryption]) -> dict[str, Upload]:
    """What each region would be sent: the difference to what its candidate or latest holds, where
    that can be told."""
    def plan(region: str) -> Upload:
        parent = _parent(account, region, build, encryptions[region])
        count = ebs.count_to_send(blocks, parent.snapshot)
        return Upload(blocks=count, bytes=count * BLOCK, parent=parent.build_id,
                      whole=parent.unfit,
                      parent_snapshot=parent.snapshot.snapshot_id if parent.snapshot else None)

    return for_each_region(encryptions, plan).require_all()


def encryptions_of(account: Account, regions: Iterable[str], alias: str | None,
                   share_with: tuple[str, ...]) -> dict[str, SnapshotEncryption]:
    """What new snapshots are encrypted by in each region; BadInput where they could not be shared
    as asked for."""
    def look(region: str) -> SnapshotEncryption:
        found = encryption.of_region(account, region, alias)
        encryption.check_shareable(region, share_with, found)
        return found

    return for_each_region(regions, look).require_all()


@dataclass(frozen=True)
class _Source:
    """The region that others get copies from: the AMI that is there already, and the key of its
    snapshot."""

    region: str
    ami: str
    key: str | None

    def serves(self, region: RegionPublishPlan) -> bool:
        """Whether a region can get a copy. EC2 encrypts the copy of what is encrypted, so a region
        without encryption gets none of an encrypted source.
        """
        is_plain = region.encryption is None or region.encryption.key is None
        return region.region != self.region and not (is_plain and self.key is not None)


def with_transfers(account: Account, plan: PublishPlan, uploads: Mapping[str, Upload],
                   transfer: Transfer) -> PublishPlan:
    """The plan with what is sent to each region that lacks the AMI, or of which region it gets a
    copy.

    Where an older build is in a region, it is sent the difference: a copy would take the whole
    disk.
    """
    source = _source(account, plan, uploads)

    def changed(region: RegionPublishPlan) -> RegionPublishPlan:
        upload = uploads.get(region.region)
        if upload is None:
            return region
        if transfer is Transfer.UPLOAD or upload.parent or not source.serves(region):
            return region.model_copy(update={"upload": upload})
        return region.model_copy(update={"copy_of": Copy(region=source.region, ami=source.ami)})

    return plan.model_copy(update={"regions": tuple(changed(region) for region in plan.regions)})


def _source(account: Account, plan: PublishPlan, uploads: Mapping[str, Upload]) -> _Source:
    """One that has the AMI, else the one with the least to send."""
    for region in plan.regions:
        if region.ami and region.snapshot:
            ec2 = account.ec2(region.region)
            return _Source(region.region, region.ami, encryption.snapshot_key(ec2, region.snapshot))
    first = min((region for region in plan.regions if region.region in uploads),
                key=lambda region: uploads[region.region].bytes)
    return _Source(first.region, "", first.encryption.key if first.encryption else None)


def check_shares(account: Account, plan: PublishPlan) -> None:
    """BadInput where an AMI that exists shall be shared with accounts that could not use its
    snapshot."""
    def check(region: str) -> None:
        key = encryption.snapshot_key(account.ec2(region), snapshots[region])
        by_aws = encryption.is_aws_key(account.kms(region), key)
        encryption.check_shareable(region, plan.settings.share_with,
                                   SnapshotEncryption(key=key, by_aws=by_aws))

    snapshots = {planned.region: planned.snapshot for planned in plan.regions if planned.snapshot
                 and planned.settings}
    if plan.settings.share_with:
        for_each_region(snapshots, check).require_all()


def _parent(
    account: Account, region: str, build: VerifiedBuild, wanted: SnapshotEncryption
) -> _Parent:
    """A build whose snapshot is in the region under the same key, and whose list of blocks is here.

    One that was baked on EC2 has no block in its place, and may have a larger volume. A lock may
    have been baked twice, with different bytes where `bake.json` has a note: the list counts if the
    AMI was made of this very disk.
    """
    ec2, amis, unfit = (
        account.ec2(region),
        pointers.read_channels(account.ssm(region), build.bake.image),
        "",
    )
    for image in images.get(ec2, amis.values()).values():
        build_id = image.tags.get(tags.BUILD_ID, "")
        folder = build.folder.image.build(build_id)
        baked = folder.read_bake().disk if folder.is_baked else None
        if image.tags.get(tags.IMAGE) != build.bake.image or baked is None:
            continue
        blocks = disk_blocks.as_baked(folder.blocks, baked)
        if baked.sha256 != image.tags.get(tags.DISK_SHA256) or blocks is None:
            unfit = f"{image.snapshot} is of another bake of build {build_id} than this machine has"
            continue
        unfit = wanted.unfit(image.snapshot, encryption.snapshot_key(ec2, image.snapshot))
        if not unfit:
            return _Parent(build_id, ebs.Parent(image.snapshot, blocks))
    return _Parent(unfit=unfit)
