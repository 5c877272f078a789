"""The plans of a publish, a promotion and a rollback, and the record of a publish. Times are
UTC."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from goldenami.aws.channels.ledger import Channel, GpuProof
from goldenami.aws.images import AmiSettings, ImageSpec
from goldenami.aws.snapshots.encryption import SnapshotEncryption
from goldenami.core.records import Record, Sha256
from goldenami.model.builds.build_records import BuildId, Utc
from goldenami.model.builds.sparse_disk import BLOCK


class Upload(Record):
    """An upload: the number of `blocks` of 512 KiB to send. `parent` is the build whose snapshot
    has the other blocks, or None if all are sent; `whole` is why the region's older build is no
    parent."""

    blocks: int
    parent: BuildId | None = None
    parent_snapshot: str | None = None
    whole: str = ""

    @property
    def bytes(self) -> int:
        return self.blocks * BLOCK


class Copy(Record):
    """The AMI of another region that is copied. `ami` is "" if this publish makes it first."""

    region: str
    ami: str = ""


class RegionPublishPlan(Record):
    """The plan for one region. `ami` is the AMI that exists already, or None; `settings` are the
    differences that have to be corrected on it.

    `encryption` is that of the snapshot to be made. `moves` are the channels that move, with the
    AMI that each named before. `template` is the number of the launch template's default version,
    or None if there is no template. `misplaced` are pointers that differ from the ledger.
    """

    region: str
    ami: str | None = None
    snapshot: str | None = None
    encryption: SnapshotEncryption | None = None
    upload: Upload | None = None
    copy_of: Copy | None = None
    settings: tuple[str, ...] = ()
    record_build: bool = False
    sign: bool = False
    moves: dict[Channel, str | None] = Field(default_factory=dict)
    template: int | None = None
    template_ami: str | None = None
    moves_template: bool = False
    refresh: tuple[str, ...] = ()
    ledger: Sha256
    misplaced: tuple[str, ...] = ()

    @property
    def is_done(self) -> bool:
        return self.ami is not None and not (
            self.settings
            or self.record_build
            or self.sign
            or self.moves
            or self.moves_template
            or self.refresh
            or self.misplaced
        )


class PublishPlan(Record):
    """The plan of a publish. `held_back` is why `latest` stays where it is, or "" if it moves.
    `differing` says what `latest` is in each region if it stays and the regions differ, as after a
    region was added or dropped for a while.

    `dropped` are regions that are not in the definition any more. `withdraw` are other builds that
    a region withdrew while another did not answer.
    """

    image: str
    build_id: BuildId
    account: str
    baked_at: Utc
    spec: ImageSpec
    settings: AmiSettings
    gpu: Annotated[GpuProof, Field(strict=False)]
    held_back: str = ""
    differing: str = ""
    kms_key: str | None = None
    withdraw: tuple[BuildId, ...] = ()
    dropped: tuple[str, ...] = ()
    missing_families: dict[str, list[str]] = Field(default_factory=dict)
    refused_machines: dict[str, dict[str, int]] = Field(default_factory=dict)
    regions: tuple[RegionPublishPlan, ...]

    @property
    def channels(self) -> tuple[Channel, ...]:
        return (Channel.CANDIDATE,) if self.held_back else tuple(Channel)

    @property
    def is_done(self) -> bool:
        return all(region.is_done for region in self.regions)


class Published(Record):
    """The AMI that was published in one region, its snapshot, and the pointers that name it."""

    ami: str
    snapshot: str
    channels: tuple[Annotated[Channel, Field(strict=False)], ...]
    template: str | None = None
    template_version: int | None = None


class PublishRecord(Record):
    """The record of a publish: where a build was published."""

    schema_version: Literal[1] = 1
    image: str
    build_id: BuildId
    lock_sha256: Sha256
    disk_sha256: Sha256 | None = None
    account: str
    gpu: Annotated[GpuProof, Field(strict=False)]
    published_at: Utc
    by: str
    held_back: str = ""
    regions: dict[str, Published]


class RegionMove(Record):
    """The move of one region's `channels` to an existing AMI. `before` are the AMIs that they named
    before.

    `ledger` is the digest of the region's ledger when the plan was made. `template_stays` is True
    in a rollback if a person set the template's default. `refresh` are the groups to refresh; a
    rollback refreshes all that the definition names instead.
    """

    region: str
    ami: str
    baked_at: Utc
    gpu: Annotated[GpuProof, Field(strict=False)]
    ledger: Sha256
    channels: tuple[Channel, ...] = (Channel.LATEST,)
    before_build: BuildId | None = None
    before: dict[Channel, str | None]
    template_before: int | None = None
    template_stays: bool = False
    refresh: tuple[str, ...] = ()


class MovePlan(Record):
    """The plan of a promotion or rollback. `withdraw` are builds that no channel may name again
    unasked.

    `template` is the launch template's name. `further` is the build before the target of a
    rollback. `dropped` are regions that are not in the definition any more. `unreachable` are
    regions that could not be read or that lack the build, and why.
    """

    image: str
    build_id: BuildId
    account: str
    template: str = ""
    withdraw: tuple[BuildId, ...] = ()
    further: BuildId | None = None
    dropped: tuple[str, ...] = ()
    unreachable: dict[str, str] = Field(default_factory=dict)
    regions: tuple[RegionMove, ...]

    @property
    def is_repeated(self) -> bool:
        """Whether all ledgers name the build already. Pointers are written and read back all the
        same."""
        return all(move.before_build == self.build_id for move in self.regions)
