"""One region of an account as data: what retirement decides over. No call is made here.

Identifiers are EC2's own (`ami-...`, `snap-...`, `lt-...`); times are in UTC. `image` and
`build_id` are the values of goldenami's tags, empty where a thing does not carry them.
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
    """An image of this account. `announced` and `disabled` are when retirement said so, by its
    tags. Everybody may launch a `public` one.

    `signed` says that something is signed of it, `signed_by` the id of the key, by its tags:
    neither is a proof.
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
    signed: bool = False
    signed_by: str = ""


@dataclass(frozen=True)
class AccountSnapshot:
    """A snapshot of this account. `parent` is what an upload of changed blocks rests on, empty for
    a full one.

    `stored_bytes` are its own blocks; None where no tag says so, and the size of the volume bounds
    it. `key` is the ARN of the key that encrypts it, "" where none does.
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
    """One version of a launch template. `image_ref` is what it names: an AMI, `resolve:ssm:...`, or
    nothing.

    `image` is the template's tag. `snapshots` are those that it makes further volumes from (block
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
    """A launch template by id or name; `version` is a number, `$Latest` or `$Default`."""

    template: str
    version: str

    def selects(self, candidate: TemplateVersion) -> bool:
        """Whether `candidate` is the version meant."""
        if self.template not in (candidate.template_id, candidate.template):
            return False
        return {
            "$Latest": candidate.latest,
            "$Default": candidate.default,
            "": candidate.default,
        }.get(self.version, self.version == str(candidate.number))


class LauncherKind(StrEnum):
    """What launches instances by itself, later and again."""

    GROUP = "Auto Scaling group"
    FLEET = "EC2 Fleet"
    SPOT_FLEET = "Spot fleet request"
    SPOT_REQUEST = "Spot instance request"


@dataclass(frozen=True)
class Launcher:
    """The templates that it launches from (overrides included), or images as templates name them.
    `name` is its name or id, `snapshots` are those that it makes further volumes from. A launch
    configuration is a use by itself, whoever launches by it.
    """

    kind: LauncherKind
    name: str
    templates: tuple[TemplateUse, ...] = ()
    image_refs: tuple[str, ...] = ()
    snapshots: tuple[str, ...] = ()

    def versions(self, image: str, default: TemplateVersion | None) -> Iterator[str]:
        """The versions that it names of an image's template, whose default is `default`."""
        names = {default.template, default.template_id} if default else {template_name(image)}
        return (use.version or "$Default" for use in self.templates if use.template in names)


@dataclass(frozen=True)
class AccountInstance:
    """An instance that is not terminated. `template` and `template_version` are the launch
    template's id and number by which it was launched, by EC2's own tags; `since` is when its root
    volume, `volume`, was attached. `expires` is when one of ours should have ended, `image` what it
    is of. `owner` is who launched it, as far as a tag, its group or its key pair says so.
    """

    id: str
    image_id: str
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
    """All that matters in one region. `parameters` are SSM's, by name, also `name:version` where a
    template pins one.

    `configurations` are launch configurations: name to image; `configured` the snapshots that they
    make further volumes from. `volumes` are by id the snapshot that each was made from. `pointers`
    are the ledger's, `published_to` its regions. `shared_snapshots` are the accounts that may make
    volumes from a snapshot, of those that were asked for.
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
    """Whether this pipeline made `ami`: by its tags, and by the record of that build."""
    return (
        bool(ami.image and ami.build_id)
        and parameters.get(build_name(ami.image, ami.build_id)) == ami.id
    )
