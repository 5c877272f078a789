"""Image definitions: packer/images/*.yml, the only facts that a person writes."""

from __future__ import annotations

import re
from datetime import date
from enum import StrEnum
from typing import Annotated, Any, Self
from urllib.parse import unquote, urlsplit

from pydantic import Field, model_validator

from goldenami.core.records import Record
from goldenami.model.builds.container_records import Repository
from goldenami.model.builds.hardening_records import HardeningLevel
from goldenami.model.builds.security_records import Rating
from goldenami.model.definitions import role_order
from goldenami.model.definitions.update_policy import Watch
from goldenami.model.operation.cluster_section import ClusterSection, Monitoring
from goldenami.model.operation.residency import Residency
from goldenami.model.supported.platforms import Distribution
from goldenami.packages.mirrors import Address, Fingerprint, LoginVariable, VendorArchive
from goldenami.packages.pypi import PrivateIndex
from goldenami.packages.registries import WantedContainer

REQUIRED_ROLES = ("os_updates", "kernel", "provenance", "seal")
ADDED = (IMMUTABLE, CONTAINERS) = ("immutable", "containers")
"""The roles that the keys of these names add, and nothing else does."""
DRIVER_MODULES = "nvidia"
"""The name of the driver's modules among those that a lock compiles."""
NEWEST, ANY = "newest", "any"
"""Driver branch and flavour that leave the choice to the compiler."""


class KernelFlavour(StrEnum):
    """Kernel packages by purpose: `cloud` is Debian's, `aws` is Ubuntu's."""

    CLOUD = "cloud"
    AWS = "aws"


class Base(Record):
    """What the image starts from."""

    distribution: Annotated[Distribution, Field(strict=False)]
    """Debian or Ubuntu"""
    release: str
    """its codename, such as trixie"""
    architecture: str = "amd64"
    """by Debian's name"""
    backports: bool = False
    """take kernels and drivers from the release's backports, too"""


class ModuleSource(Record):
    """A tarball by its address and SHA-256."""

    url: Annotated[str, Field(pattern=r"^https?://[^/\s@]+/\S*[^/\s]$")]
    """where it is"""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """its SHA-256, in hex digits"""


class KernelModule(Record):
    """An out-of-tree kernel module, compiled from its DKMS source when the lock is made."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9+.-]+$")]
    """what the lock calls it: `golden-NAME-modules-KERNEL` is the package in the image"""
    package: str | None = None
    """a DKMS package of the archives, such as v4l2loopback-dkms"""
    source: ModuleSource | None = None
    """or a tarball that holds a dkms.conf"""
    build_packages: list[str] = Field(default_factory=list)
    """what compiling needs besides gcc, make and the kernel's headers, such as cmake"""


class VolumeType(StrEnum):
    """EBS volumes that a root disk may be launched on."""

    GP3 = "gp3"
    IO2 = "io2"


class MetadataOptions(Record):
    """What an instance's metadata service answers; it wants a token (IMDSv2) whatever is said
    here."""

    hop_limit: Annotated[int, Field(ge=1, le=64)] = 2
    """hops that an answer may go; 2 reaches containers"""
    instance_tags: bool = False
    """tell the instance its own tags"""


class LaunchTemplate(Record):
    """How the image's launch template launches it. Without `instance_type` each launch names its
    own.

    Limits are those of "Amazon EBS volume types" and "Initialize Amazon EBS volumes": IOPS, MiB/s,
    MiB/s.
    """

    security_groups: list[str] = Field(default_factory=list, max_length=16)
    """names, looked up in each region, or ids in a definition of one region"""
    instance_profile: Annotated[str, Field(pattern=r"^[\w+=,.@-]{1,128}$")] | None = None
    """name of an instance profile"""
    key: str | None = None
    """name of a key pair in each region"""
    user_data_file: str | None = None
    """path in this repository of the user data, at most 16 KiB"""
    metadata_options: MetadataOptions = MetadataOptions()
    """what the metadata service answers"""
    monitoring: Annotated[Monitoring, Field(strict=False)] | None = None
    """how often EC2 sends metrics; default: `detailed` with a section `cluster`, else `basic`"""
    volume_type: Annotated[VolumeType, Field(strict=False)] = VolumeType.GP3
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

class InstanceRefresh(Record):
    """Auto Scaling groups that take a new `latest` at once, by a refresh that rolls itself back."""

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
    """How a disk gets to further regions: by copies of one upload, or always from this machine."""

    COPY = "copy"
    UPLOAD = "upload"


_PRINCIPAL = (r"^(\d{12}|arn:aws[a-z-]*:organizations::\d{12}:(organization/o-[a-z0-9]{10,32}"
              r"|ou/o-[a-z0-9]{10,32}/ou-[0-9a-z]{4,32}-[a-z0-9]{8,32}))$")
"""An account, an organization or a unit of one (EC2 API reference, LaunchPermission; Organizations,
ARNs)."""


class Publish(Record):
    """Where the image is published and for how long it is kept. No part of it shapes the image.

    `kms_key` is an alias that has to exist in each region; without it, the account's default
    decides on encryption. `soak_hours` is how long a candidate has to stand before `promote` takes
    it; 0: `publish` moves `latest` itself. `left_regions` had the image once: what they have stays
    as it is, on purpose.
    """

    regions: Annotated[list[Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")]],
                       Field(min_length=1)]
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
    """hours that a candidate stands before `promote` takes it; 0: `publish` moves `latest` itself"""
    deregistration_protection: bool = False
    """EC2 lets nobody deregister the AMIs, `retire` included"""
    share_with: Annotated[list[Annotated[str, Field(pattern=_PRINCIPAL)]],
                          Field(default_factory=list)]
    """accounts, organizations and their units, by number or ARN"""
    kms_key: Annotated[str, Field(pattern=r"^alias/[A-Za-z0-9/_-]{1,250}$")] | None = None
    """alias of a key in each region; without it the account's default decides on encryption"""
    registries: list[Repository] = Field(default_factory=list)
    """where its container image is pushed to, such as `registry.company.example/team/image`"""
    transfer: Annotated[Transfer, Field(strict=False)] = Transfer.COPY
    """how the disk gets to further regions"""
    launch_template: LaunchTemplate = LaunchTemplate()
    """how its launch template launches it"""
    instance_refresh: InstanceRefresh | None = None
    """Auto Scaling groups that follow `latest`"""


class CveRule(Record):
    """That a build is published and promoted only with a recent record of `cve` that passes."""

    fail_on: Annotated[Rating, Field(strict=False)] = Rating.HIGH
    """the rating from which on also a vulnerability stops a build that nothing mends"""
    max_age_hours: Annotated[int, Field(ge=1, le=168)] = 24
    """hours ago that the lists may have been asked"""


class HardeningGate(Record):
    """That a build is published and promoted only where enough rules of a guide to hardening
    pass."""

    level: Annotated[HardeningLevel, Field(strict=False)] = HardeningLevel.INTERMEDIARY
    """level of ANSSI's BP-028"""
    minimum: Annotated[int, Field(ge=1, le=1000)]
    """rules of that level that have to pass; one that is waived does not count"""


class Security(Record):
    """What has to be shown of a build before others launch it. No part of it shapes the image."""

    cve: CveRule | None = None
    """vulnerabilities; without it nothing is asked for"""
    hardening: HardeningGate | None = None
    """rules of a guide; without it nothing is asked for"""
    signed: bool = False
    """nothing is published without signed provenance"""


class PythonIndex(Record):
    """A company's package index beside the usual one. A project comes from one of the two, never
    from where its version is higher: else whoever gives its name to a public package is installed.
    """

    url: Annotated[str, Field(pattern=r"^https?://[^/@\s]+(/\S*)?$")]
    """address of its simple API, without a login"""
    packages: Annotated[list[Annotated[str, Field(pattern=r"^[a-z0-9*-]+$")]],
                        Field(min_length=1)]
    """projects that come from it and from nowhere else, such as `company-*`"""
    login: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")] = ""
    """environment variable that holds its `user:password`"""

    def opened(self) -> PrivateIndex:
        """The index as packages are resolved from it."""
        return PrivateIndex(self.url.rstrip("/"), tuple(self.packages), self.login)


class DriftAllowance(Record):
    """A path that may differ from the bake on an instance, until a day on which somebody looks at
    it again."""

    path: str
    """the path; `*` is any name, `**` any path below"""
    reason: Annotated[str, Field(min_length=10)]
    """why it may"""
    until: date
    """the last day"""


class ListenAllowance(Record):
    """A port that may be heard on an instance, until a day on which somebody looks at it again."""

    port: Annotated[str, Field(pattern=r"^(tcp|udp)/[1-9][0-9]{0,4}$")]
    """the port, such as tcp/8000"""
    reason: Annotated[str, Field(min_length=10)]
    """why it may"""
    until: date
    """the last day"""


class DriftSection(Record):
    """What `golden drift` lets pass besides its own policy. No part of it shapes the image."""

    allow: list[DriftAllowance] = Field(default_factory=list)
    """paths that may differ from the bake"""
    listen: list[ListenAllowance] = Field(default_factory=list)
    """ports that may be heard besides the image's own"""


class Install(StrEnum):
    """How a file becomes part of the image, other than by lying there."""

    DEB = "deb"


class Download(Record):
    """A file by its address, and where it goes: one of `install`, `path` and `unpack`."""

    url: Address
    """its address"""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """of its bytes"""
    login: LoginVariable | None = None
    """name of an environment variable that holds `user:password`"""
    signature: Address | None = None
    """address of its detached signature"""
    key: str | None = None
    """the key of the signature: an address, or a file of this repository"""
    fingerprint: Fingerprint | None = None
    """of the key, whole"""
    install: Annotated[Install, Field(strict=False)] | None = None
    """a package, with what it depends on"""
    path: str | None = None
    """a single file: its place"""
    owner: str = "root"
    """of the single file"""
    group: str = "root"
    """of the single file"""
    mode: Annotated[str, Field(pattern=r"^[0-7]{4}$")] = "0644"
    """of the single file, in octal digits"""
    unpack: str | None = None
    """a tarball: the folder that it is unpacked into"""
    strip: Annotated[int, Field(ge=0, le=9)] = 0
    """folders that its names lose in front"""

    @property
    def name(self) -> str:
        """The file's own, as its address has it."""
        last = unquote(urlsplit(self.url).path.rpartition("/")[2])
        return re.sub(r"[^\w.+~-]", "_", last) or "file"

    @model_validator(mode="after")
    def _goes_to_one_place(self) -> Self:
        if sum(each is not None for each in (self.install, self.path, self.unpack)) != 1:
            raise ValueError("wants one of `install: deb`, `path` and `unpack`")
        for kind, names in (("path", {"owner", "group", "mode"}), ("unpack", {"strip"})):
            if getattr(self, kind) is None and (stray := names & self.model_fields_set):
                raise ValueError(f"`{min(stray)}` is for `{kind}`")
        given = {self.signature is None, self.key is None, self.fingerprint is None}
        if len(given) != 1:
            raise ValueError("`signature`, `key` and `fingerprint` need each other")
        return self


class Definition(Record):
    """One image, as written by a person."""

    image: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,62}$")]
    """its name, and that of the file"""
    description: str
    """one line, shown in EC2"""
    goldenami: str = ""
    """versions of goldenami that it is for, such as `>=1.2`; another one refuses it"""
    base: Base
    """what the image starts from"""
    kernel: Annotated[KernelFlavour, Field(strict=False)]
    """kernel packages by purpose: `cloud` is Debian's, `aws` is Ubuntu's"""
    disk_size_gib: Annotated[int, Field(ge=2, le=1024)]
    """GiB of the root disk"""
    hardware: Annotated[list[str], Field(min_length=1)]
    """instance families, rows of packer/hardware.yml"""
    frameworks: list[str] = Field(default_factory=list)
    """names of recipes, for the role `frameworks`"""
    extra_repos: list[VendorArchive] = Field(default_factory=list)
    """apt repositories beside the distribution's"""
    downloads: list[Download] = Field(default_factory=list)
    """files by their address, which the role `customize` brings"""
    containers: list[WantedContainer] = Field(default_factory=list)
    """images of containers, which the engine has at the first boot: names, or `image` and `login`"""
    python_packages: list[str] = Field(default_factory=list)
    """requirements of further Python packages, such as `transformers==4.57.0`"""
    python_index: PythonIndex | None = None
    """a company's package index beside the usual one"""
    kernel_modules: list[KernelModule] = Field(default_factory=list)
    """out-of-tree modules beside the driver: `name`, and a DKMS `package` of the archives, or the
    `source` (`url`, `sha256`) of a tarball with a dkms.conf; `build_packages` that it compiles with"""
    immutable: bool = False
    """the root is read-only and checked block by block; what an instance writes is kept apart"""
    roles: dict[str, dict[str, Any] | None]
    """roles in any order, each with its variables or nothing; the README of a role lists them"""
    publish: Publish | None = None
    """where and how it is published; without it the image stays here"""
    cluster: ClusterSection | None = None
    """machines that run before somebody needs them"""
    residency: Residency | None = None
    """regions that it may be in"""
    watch: Watch = Watch()
    """which new releases become a new lock"""
    security: Security = Security()
    """what has to be shown of a build before it is published"""
    drift: DriftSection = DriftSection()
    """what may differ on an instance"""

    def variables(self, role: str) -> dict[str, Any]:
        """What the definition sets for `role` (nothing: an empty mapping)."""
        return {name: value for name, value in (self.roles.get(role) or {}).items()
                if name not in role_order.OWN_KEYS}

    def packages(self, role: str) -> list[str]:
        """What the definition says that an own role installs, beside what the role says itself."""
        return list((self.roles.get(role) or {}).get("packages") or [])

    @property
    def regions(self) -> list[str]:
        """The regions that the image is published to: none without a section `publish`."""
        return self.publish.regions if self.publish else []

    @property
    def steps(self) -> list[list[str]]:
        """The roles of each step that this image has, in the order in which they are applied."""
        added = {IMMUTABLE: self.immutable, CONTAINERS: self.containers}
        named = {*self.roles, *(role for role, wanted in added.items() if wanted)}
        found = [[role for role in step if role in named] for step in role_order.steps(self.roles)]
        return [roles for roles in found if roles]

    @property
    def role_names(self) -> list[str]:
        """The image's roles in that order."""
        return [role for step in self.steps for role in step]
