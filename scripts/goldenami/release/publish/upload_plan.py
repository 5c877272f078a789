"""Plans how a build's disk gets into the regions that lack it: by which key it is encrypted, and
whether it is uploaded in whole, in part, or copied from another region."""

from __future__ import annotations

from collections.abc import Mapping

from goldenami.aws import images, tags
from goldenami.aws.channels import pointers
from goldenami.aws.channels.channels import ImageInAccount, ImageInRegion
from goldenami.aws.regions import for_each_region
from goldenami.aws.session import Account
from goldenami.aws.snapshots import ebs, encryption
from goldenami.aws.snapshots.encryption import SnapshotEncryption
from goldenami.core.errors import BadInput, NotVerified
from goldenami.core.terminal.progress import Progress
from goldenami.model.builds import disk_blocks
from goldenami.model.builds.disk_blocks import BlockMap
from goldenami.model.operation.publish_section import Transfer
from goldenami.release.publish.publish_records import Copy, PublishPlan, RegionPublishPlan, Upload
from goldenami.release.publish.release_gate import VerifiedBuild


def with_encryption(account: Account, plan: PublishPlan) -> PublishPlan:
    """Add the encryption of the snapshots that are to be made to the plan. Raises BadInput if a key
    cannot be used, or not by the accounts that the AMI is to be shared with."""
    partners = plan.settings.share_with
    plans = {planned.region: planned for planned in plan.regions}

    def encryption_in(region: str) -> SnapshotEncryption | None:
        planned = plans[region]
        if planned.ami is None:
            new = encryption.of_region(account, region, plan.kms_key)
            encryption.check_shareable(region, partners, new)
            return new
        # The key of an existing snapshot is only checked, if pointers move to it or it is shared.
        is_for_others = planned.settings and partners
        if planned.snapshot and (planned.moves or planned.moves_template or is_for_others):
            existing = encryption.of_snapshot(account, region, planned.snapshot)
            encryption.check_shareable(region, partners, existing)
        return None

    by_region = for_each_region(plans, encryption_in).require_all()
    regions = []
    for region, planned in plans.items():
        regions.append(planned.model_copy(update={"encryption": by_region[region]}))
    return plan.model_copy(update={"regions": tuple(regions)})


def with_transfers(
    image: ImageInAccount, plan: PublishPlan, build: VerifiedBuild, progress: Progress
) -> PublishPlan:
    """Add to the plan what is sent to each region that lacks the AMI, or from which region it gets
    a copy."""
    lacking = dict[str, SnapshotEncryption]()
    for planned in plan.regions:
        if planned.encryption is not None and planned.copy_of is None:
            lacking[planned.region] = planned.encryption
    if not lacking:
        return plan
    with progress.step("list the disk's blocks"):
        blocks = _listed_blocks(build)
    uploads = for_each_region(
        lacking, lambda region: _upload(image.in_region(region), build, blocks, lacking[region])
    ).require_all()
    source, key = _source(image.account, plan, uploads)
    copies = image.section.transfer is Transfer.COPY

    def changed(planned: RegionPublishPlan) -> RegionPublishPlan:
        region = planned.region
        if (upload := uploads.get(region)) is None:
            return planned
        # EC2 encrypts the copy of an encrypted snapshot, and would choose a key itself in a region
        # where new snapshots are not encrypted.
        is_served = region != source.region and (key is None or lacking[region].key is not None)
        # With a parent only the difference is sent, and a copy would take the whole disk.
        if copies and is_served and not upload.parent:
            return planned.model_copy(update={"copy_of": source})
        return planned.model_copy(update={"upload": upload})

    return plan.model_copy(update={"regions": tuple(map(changed, plan.regions))})


def _listed_blocks(build: VerifiedBuild) -> BlockMap:
    """The bake's list of the verified disk's blocks. Raises NotVerified if the list is not
    of that disk."""
    # The disk is not read here: each block is sent with its SHA-256 from the list, and EBS refuses
    # a block that does not have it.
    baked = build.bake.disk
    if baked is None or not build.disk.exists():
        raise BadInput(
            f"{build.disk} does not exist", hint="bake it again: the same lock gives the same disk"
        )
    listed = disk_blocks.as_baked(build.folder.blocks, baked)
    if listed is None:
        raise NotVerified(
            f"{build.folder.blocks} is not of the disk that was verified",
            hint=f"`make bake IMAGE={build.bake.image} FORCE=1` makes both again",
        )
    return listed


def _source(
    account: Account, plan: PublishPlan, uploads: Mapping[str, Upload]
) -> tuple[Copy, str | None]:
    """The AMI that other regions get copies of, and its snapshot's key: an AMI that exists, or else
    that of the region with the least to send."""
    for region in plan.regions:
        if region.ami and region.snapshot:
            return (
                Copy(region=region.region, ami=region.ami),
                encryption.of_snapshot(account, region.region, region.snapshot).key,
            )
    sending = [region for region in plan.regions if region.region in uploads]
    first = min(sending, key=lambda region: uploads[region.region].blocks)
    key = None
    if first.encryption:
        key = first.encryption.key
    return Copy(region=first.region), key


def _upload(
    image: ImageInRegion,
    build: VerifiedBuild,
    blocks: BlockMap,
    planned_encryption: SnapshotEncryption,
) -> Upload:
    """The upload to a region: the difference to a build whose snapshot is in the region under the
    same key and whose list of blocks is on this machine; or else the whole disk."""
    unfit = ""
    amis = pointers.read_channels(image.ssm, image.name)
    for ami in images.get(image.ec2, amis.values()).values():
        build_id = ami.tags.get(tags.BUILD_ID, "")
        folder = build.folder.image.build(build_id)
        baked = None
        if folder.is_baked:
            baked = folder.read_bake().disk
        # A build without a disk was baked on EC2: its blocks are in other places, and its volume
        # may be larger.
        if ami.tags.get(tags.IMAGE) != image.name or baked is None:
            continue
        listed = disk_blocks.as_baked(folder.blocks, baked)
        # A lock may have been baked twice, with different bytes (`bake.json` has a note then), so
        # the list counts only if the AMI was made of this very disk.
        if baked.sha256 != ami.tags.get(tags.DISK_SHA256) or listed is None:
            unfit = f"{ami.snapshot} is of another bake of build {build_id} than this machine has"
            continue
        unfit = planned_encryption.unfit(
            ami.snapshot, encryption.snapshot_key(image.ec2, ami.snapshot)
        )
        if not unfit:
            count = ebs.count_to_send(blocks, ebs.Parent(ami.snapshot, listed))
            return Upload(blocks=count, parent=build_id, parent_snapshot=ami.snapshot)
    return Upload(blocks=ebs.count_to_send(blocks, None), whole=unfit)
