"""What publishing, a promotion and a rollback plan, and the record of what came of a publish.

Times are UTC.
"""

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
    """What would be sent: `blocks` of 512 KiB; `parent` is the build whose snapshot has the others.

    `whole` says why the region's older build is no parent.
    """

    blocks: int
    parent: BuildId | None = None
    parent_snapshot: str | None = None
    whole: str = ""

    @property
    def bytes(self) -> int:
        return self.blocks * BLOCK


class Copy(Record):
    """An AMI of another region that is copied; `ami` is empty where this publish makes it first."""

    region: str
    ami: str = ""


class RegionPublishPlan(Record):
    """What is to be done in one region. `ami` exists already; `settings` are what has to be
    corrected on it.

    `encryption` is that of the snapshot which is to be made, `moves` are the channels that move,
    with the AMI that each named before. `template` is the number of the launch template's default
    version, None where there is no template.
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
    astray: tuple[str, ...] = ()

    @property
    def is_done(self) -> bool:
        return self.ami is not None and not (
            self.settings
            or self.record_build
            or self.sign
            or self.moves
            or self.moves_template
            or self.refresh
            or self.astray
        )


class PublishPlan(Record):
    """The whole of a publish, as data. `held_back` says why `latest` stays where it is; empty: it
    moves. `differing` is what it is then, where that is not the same everywhere: a region was
    added, or dropped for a while.

    `dropped` are regions that the definition has no longer. `withdraw` are other builds that a
    region withdrew while another did not answer.
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
    regions: tuple[RegionPublishPlan, ...]

    @property
    def channels(self) -> tuple[Channel, ...]:
        return (Channel.CANDIDATE,) if self.held_back else tuple(Channel)

    @property
    def is_done(self) -> bool:
        return all(region.is_done for region in self.regions)


class Published(Record):
    """What is in one region."""

    ami: str
    snapshot: str
    channels: tuple[Annotated[Channel, Field(strict=False)], ...]
    template: str | None = None
    template_version: int | None = None


class PublishRecord(Record):
    """Where a build is published."""

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
    """The `channels` of one region that move to the AMI of a build that exists there, and the AMIs
    that they named `before`.

    `ledger` is the digest of the region's ledger as the plan saw it. A rollback takes the withdrawn
    build out of the candidate, too. `template_stays`, in a rollback, where a person set the
    default. `refresh` are groups that are asked to follow; a rollback asks all that the definition
    names.
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
    """Pointers that move, as data. `withdraw` are builds that no channel may take again
    unasked.

    `further` is the build before the target of a rollback; `dropped` are regions that the
    definition has no longer. `template` is the launch template. `unreachable` are regions that did
    not say what they withdrew, or what they have, and why.
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
        """Whether the ledgers name the build already: pointers are written and read back all the
        same."""
        return all(move.before_build == self.build_id for move in self.regions)
