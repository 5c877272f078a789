"""The section `publish` of a definition."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from goldenami.core.records import Lax, Section
from goldenami.model.operation.cluster_section import Monitoring
from goldenami.model.supported.allowed_types import TypeRule

Repository = Annotated[
    str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*(:\d{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+$")
]
"""A registry and a name in it, without a tag (OCI distribution specification, "Pulling
manifests")."""
REGION = r"^[a-z]{2,4}(-[a-z]+)+-\d{1,2}$"
"""Names of regions, such as eu-west-1, us-gov-west-1 and eusc-de-east-1."""
SELFTEST = SELFTEST_IMAGE, SELFTEST_TAG = "golden-selftest", "goldenami:selftest"
"""The image of `golden selftest`, and the tag on all that it makes. Only its definition may set
it."""
TagKey = Annotated[str, Field(pattern=r"^[\w .:/=+@-]+$", max_length=127)]
TagValue = Annotated[str, Field(max_length=255)]
"""Tags on EC2 ("Tag your Amazon EC2 resources", restrictions), one character shorter than there: an
upload begins with them (EBS direct APIs, "Tag")."""


class VolumeType(StrEnum):
    """Types of EBS volumes for a root disk."""

    GP3 = "gp3"
    IO2 = "io2"


class MetadataOptions(Section):
    """Options of an instance's metadata service. It always wants a token (IMDSv2)."""

    hop_limit: Annotated[int, Field(ge=1, le=64)] = 2
    """hops that an answer may go; 2 reaches containers"""
    instance_tags: bool = False
    """tell the instance its own tags"""


class LaunchTemplate(Section):
    """The image's launch template. Without `instance_type`, each launch names one.

    Limits of IOPS, throughput and initialization rate are from "Amazon EBS volume types" and
    "Initialize Amazon EBS volumes" of the EBS user guide.
    """

    security_groups: list[str] = Field(default_factory=list, max_length=16)
    """names, looked up in each region, or ids in a definition of one region"""
    instance_profile: Annotated[str, Field(pattern=r"^[\w+=,.@-]+$", max_length=128)] | None = None
    """name of an instance profile"""
    key: str | None = None
    """name of a key pair in each region"""
    user_data_file: str | None = None
    """path in this repository of the user data, at most 16 KiB"""
    metadata_options: MetadataOptions = MetadataOptions()
    """what the metadata service answers"""
    monitoring: Lax[Monitoring] | None = None
    """how often EC2 sends metrics; default: `detailed` with a section `cluster`, else `basic`"""
    volume_type: Lax[VolumeType] = VolumeType.GP3
    """the root volume's"""
    volume_size_gib: Annotated[int, Field(ge=2, le=65536)] | None = None
    """GiB; default: the disk's size"""
    iops: Annotated[int, Field(ge=3000, le=256000)] = 3000
    """of the volume"""
    throughput: Annotated[int, Field(ge=125, le=2000)] = 125
    """MiB/s of the volume"""
    initialization_rate: Annotated[int, Field(ge=100, le=300)] | None = None
    """MiB/s at which EBS loads the snapshot's blocks, for a price that docs/launching.md names"""
    instance_type: Annotated[str, Field(pattern=r"^[a-z0-9-]+\.[a-z0-9-]+$")] | None = None
    """type of a launch that names none"""


class InstanceRefresh(Section):
    """Auto Scaling groups that take a new `latest` at once, by a refresh that rolls back if it
    fails."""

    groups: Annotated[list[str], Field(min_length=1)]
    """names of Auto Scaling groups"""
    min_healthy_percent: Annotated[int, Field(ge=0, le=100)] = 90
    """part of a group that stays healthy while it is refreshed"""
    warmup_seconds: Annotated[int, Field(ge=0, le=21600)] = 300
    """until a new instance counts"""
    checkpoint_percent: Annotated[int, Field(ge=1, le=99)] | None = None
    """part of a group after which the refresh pauses"""
    checkpoint_delay_seconds: Annotated[int, Field(ge=0, le=172800)] = 3600
    """how long it pauses"""
    alarms: Annotated[list[str], Field(max_length=10, default_factory=list)]
    """names of CloudWatch alarms that end a refresh and roll it back"""


class Transfer(StrEnum):
    """How a disk gets to further regions: by copying one upload, or by an upload to each."""

    COPY = "copy"
    UPLOAD = "upload"


_PRINCIPAL = (
    r"^(\d{12}|arn:aws[a-z-]*:organizations::\d{12}:(organization/o-[a-z0-9]{10,32}"
    r"|ou/o-[a-z0-9]{10,32}/ou-[0-9a-z]{4,32}-[a-z0-9]{8,32}))$"
)
"""An account, an organization or an organizational unit (EC2 API reference, LaunchPermission;
Organizations, ARNs)."""


class Publish(Section):
    """Where the image is published and for how long it is kept. No part of it shapes the image."""

    regions: Annotated[list[Annotated[str, Field(pattern=REGION)]], Field(min_length=1)]
    """where it is published"""
    account: Annotated[str, Field(pattern=r"^\d{12}$")] | None = None
    """the only account that it is published to, whatever the credentials are"""
    left_regions: list[str] = Field(default_factory=list)
    """had the image once; what they have stays"""
    keep_last: Annotated[int, Field(ge=1, le=100)] = 3
    """newest builds that `retire` keeps whatever their age"""
    max_age_days: Annotated[int, Field(ge=1, le=3650)] = 180
    """days that any build stays"""
    deprecate_after_days: Annotated[int, Field(ge=1, le=3650)] = 90
    """days until EC2 calls an AMI deprecated"""
    soak_hours: Annotated[int, Field(ge=0, le=720)] = 0
    """hours that a candidate stands before `promote` takes it; 0: `publish` moves `latest`
    itself"""
    deregistration_protection: bool = False
    """EC2 lets nobody deregister the AMIs, `retire` included"""
    share_with: Annotated[
        list[Annotated[str, Field(pattern=_PRINCIPAL)]], Field(default_factory=list)
    ]
    """accounts, organizations and their units, by number or ARN"""
    kms_key: Annotated[str, Field(pattern=r"^alias/[A-Za-z0-9/_-]+$", max_length=256)] | None = None
    """alias of a key in each region; without it the account's default decides on encryption"""
    subnets: list[str] = Field(default_factory=list)
    """where `gpu-test` and the EC2 builder launch: ids, or values of the tag Name; without it in
    the default network"""
    tags: dict[TagKey, TagValue] = Field(default_factory=dict, max_length=30)
    """tags that the company demands, on what is made in EC2, and on the cluster, from then on"""
    registries: list[Repository] = Field(default_factory=list)
    """where its container image is pushed to, such as `registry.company.example/team/image`"""
    transfer: Lax[Transfer] = Transfer.COPY
    """how the disk gets to further regions"""
    instance_types: Lax[TypeRule] = TypeRule.PROVED
    """on which types EC2 launches the AMIs, but for bare metal: `proved`: those of `hardware:` of
    whose class (architecture; one GPU, several, or NVSwitches) the test on a GPU takes a machine,
    the cheapest of each architecture; `declared`: all of `hardware:`, so that the test takes a
    machine of each class; `any`: whatever somebody tries"""
    launch_template: LaunchTemplate = LaunchTemplate()
    """how its launch template launches it"""
    instance_refresh: InstanceRefresh | None = None
    """Auto Scaling groups that follow `latest`"""
