"""One region of an account as data, from which retirement decides. No call is made here.

Identifiers are EC2's own (`ami-...`, `snap-...`, `lt-...`); times are in UTC. `image` and
`build_id` are the values of goldenami's tags, or "" if a resource does not carry them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from goldenami.aws.channels.pointers import EVIDENCE, PREFIX, build_name, template_name
from goldenami.aws.images import AmiState

AMI_ID = re.compile(r"\bami-[0-9a-f]{8,17}\b")
_RECORD = re.compile(
    rf"^{PREFIX}/(?P<image>[a-z0-9][a-z0-9.-]{{1,62}})/(?P<build_id>[0-9a-f]{{12}})$"
)


class SnapshotState(StrEnum):
    """States of a snapshot ("Snapshot", Amazon EC2 API reference)."""

    PENDING = "pending"
    COMPLETED = "completed"
    ERROR = "error"
    RECOVERABLE = "recoverable"
    RECOVERING = "recovering"


@dataclass(frozen=True)
class AccountAmi:
    """An image of this account. `announced` and `disabled` are the times of these steps of its
    retirement, from its tags. Everybody may launch it if it is `public`.

    `other_types` is True if somebody changed the types that EC2 launches it on. `signed` is True if
    its tags name a signed provenance, and `signed_by` is the key's id by its tags. Neither is a
    proof.
    """

    id: str
    name: str
    created: datetime
    state: AmiState = AmiState.AVAILABLE
    image: str = ""
    build_id: str = ""
    snapshots: tuple[str, ...] = ()
    deprecated: datetime | None = None
    announced: datetime | None = None
    disabled: datetime | None = None
    protected: bool = False
    last_launched: datetime | None = None
    shared_with: tuple[str, ...] = ()
    public: bool = False
    other_types: bool = False
    signed: bool = False
    signed_by: str = ""


@dataclass(frozen=True)
class AccountSnapshot:
    """A snapshot of this account. `parent` is the snapshot to which an upload added only the
    changed blocks, or "" if all blocks were sent.

    `stored_bytes` are those of its own blocks, or None if no tag says so; then the size of the
    volume is their upper bound. `key` is the ARN of the key that encrypts it, or "".
    """

    id: str
    started: datetime
    state: SnapshotState = SnapshotState.COMPLETED
    image: str = ""
    build_id: str = ""
    expires: datetime | None = None
    parent: str = ""
    volume_gib: int = 0
    full_bytes: int | None = None
    stored_bytes: int | None = None
    key: str = ""


@dataclass(frozen=True)
class TemplateVersion:
    """One version of a launch template. `image_ref` is an AMI, `resolve:ssm:...`, or "".

    `image` is the template's tag. `snapshots` are those from which it makes further volumes (block
    device mappings).
    """

    template_id: str
    template: str
    number: int
    image_ref: str
    default: bool = False
    latest: bool = False
    image: str = ""
    snapshots: tuple[str, ...] = ()

    @property
    def ours(self) -> bool:
        return bool(self.image) and self.template == template_name(self.image)


@dataclass(frozen=True)
class TemplateUse:
    """A launcher's choice of a template, by id or name. `version` is a number, `$Latest`,
    `$Default`, or "" for the default."""

    template: str
    version: str

    def selects(self, candidate: TemplateVersion) -> bool:
        """Whether this use means the version `candidate`."""
        if self.template not in (candidate.template_id, candidate.template):
            return False
        return {
            "$Latest": candidate.latest,
            "$Default": candidate.default,
            "": candidate.default,
        }.get(self.version, self.version == str(candidate.number))


class LauncherKind(StrEnum):
    """Kinds of resources that launch instances by themselves, later and repeatedly."""

    GROUP = "Auto Scaling group"
    FLEET = "EC2 Fleet"
    SPOT_FLEET = "Spot fleet request"
    SPOT_REQUEST = "Spot instance request"


@dataclass(frozen=True)
class Launcher:
    """Something that launches instances, by the templates that it uses (overrides included), or by
    images, named as in templates.

    `name` is its name or id, `snapshots` are those from which it makes further volumes, `types` the
    instance types that it chooses from, if it does not leave the type to a template. A group's
    launch configuration is not here: that counts as a use by itself, whoever launches by it.
    """

    kind: LauncherKind
    name: str
    templates: tuple[TemplateUse, ...] = ()
    image_refs: tuple[str, ...] = ()
    snapshots: tuple[str, ...] = ()
    types: tuple[str, ...] = ()

    def versions(self, image: str, default: TemplateVersion | None) -> Iterator[str]:
        """The versions of an image's template that it names. `default` is the template's default
        version, or None."""
        names = {default.template, default.template_id} if default else {template_name(image)}
        return (use.version or "$Default" for use in self.templates if use.template in names)


@dataclass(frozen=True)
class AccountInstance:
    """An instance that is not terminated.

    `template` and `template_version` are the id and number of the launch template that launched it,
    by EC2's own tags. `since` is when its root volume, `volume`, was attached. `expires` and
    `image` are set on an instance of ours: when it should have ended, and its image. `owner` is who
    launched it, as far as a tag, its group or its key pair says so.
    """

    id: str
    image_id: str
    type: str = ""
    state: str = "running"
    group: str = ""
    template: str = ""
    template_version: str = ""
    since: datetime | None = None
    volume: str = ""
    expires: datetime | None = None
    image: str = ""
    owner: str = ""


@dataclass(frozen=True)
class Topology:
    """Everything in one region that can refer to an AMI.

    `parameters` are the values of SSM parameters by name, or by `name:version` if a template pins
    one. `configurations` are the images of launch configurations by name, `configured` the
    snapshots from which they make further volumes. `volumes` are the snapshot of each volume, by
    its id. `pointers` are the AMIs that the ledger names, `published_to` its regions.
    `shared_snapshots` are the accounts that may make volumes from a snapshot, for those snapshots
    that `inventory.with_shares` asked for.
    """

    region: str
    amis: tuple[AccountAmi, ...] = ()
    snapshots: tuple[AccountSnapshot, ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)
    templates: tuple[TemplateVersion, ...] = ()
    launchers: tuple[Launcher, ...] = ()
    configurations: Mapping[str, str] = field(default_factory=dict)
    configured: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    instances: tuple[AccountInstance, ...] = ()
    volumes: Mapping[str, str] = field(default_factory=dict)
    pointers: Mapping[str, str] = field(default_factory=dict)
    published_to: tuple[str, ...] = ()
    shared_snapshots: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def is_record(parameter: str) -> bool:
    """Whether a parameter has the name of a build's record."""
    return _RECORD.match(parameter) is not None


def is_evidence(parameter: str) -> bool:
    """Whether a parameter has the name of a GPU test's record."""
    return parameter.endswith(EVIDENCE) and is_record(parameter.removesuffix(EVIDENCE))


def records_of(parameters: Mapping[str, str], image: str) -> dict[str, str]:
    """The AMI of each recorded build of `image`, by build id."""
    return {
        match["build_id"]: value
        for name, value in parameters.items()
        if (match := _RECORD.match(name)) and match["image"] == image and AMI_ID.fullmatch(value)
    }


def is_ours(ami: AccountAmi, parameters: Mapping[str, str]) -> bool:
    """Whether this pipeline made `ami`: its tags name a build, and that build's record names it."""
    return (
        bool(ami.image and ami.build_id)
        and parameters.get(build_name(ami.image, ami.build_id)) == ami.id
    )
