"""What `bake` and `verify` write of a build in `build/<image>/<build id>/`, and every later stage
reads. Times are wall-clock seconds, sizes are bytes, digests are hex SHA-256."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from goldenami.core.records import Lax, Record, Sha256

BAKE_FILE = "bake.json"
VERIFY_FILE = "verify.json"
PUBLISH_FILE = "publish.json"
LOCK_FILE = "lock.json"
"""The copy of the lock that a build was baked from: a later report compares packages with it."""
REPORT_FILE = "report.html"
SUMMARY_FILE = "report.md"
BLOCKS_FILE = "disk.blocks"
"""The SHA-256 of each block of the disk: what `verify` compares and an upload goes by."""
COVERAGE_FILE = "coverage.json"

ROLES_JOINED_BY = "+"
"""Between the roles in the name of a bake's phase, so that a chart can draw them beneath it."""


def _utc(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"is not an ISO 8601 time: {text!r}") from None
    if moment.utcoffset() != timedelta(0):
        raise ValueError(f"is not in UTC (write +00:00 or Z): {text!r}")
    return text


BuildId = Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Bytes = Annotated[int, Field(ge=0)]
Utc = Annotated[str, AfterValidator(_utc)]


class Outcome(StrEnum):
    """What a check found. One that could not look is `unreachable`, never `correct`."""

    CORRECT = "correct"
    INCORRECT = "incorrect"
    MISSING = "missing"
    UNREACHABLE = "unreachable"


class Verdict(StrEnum):
    """Whether the image may be published."""

    VERIFIED = "verified"
    NOT_VERIFIED = "not verified"


class Accel(StrEnum):
    """What ran the boots that verify looked at: one of QEMU's accelerators, or an EC2 instance."""

    KVM = "kvm"
    TCG = "tcg"
    EC2 = "ec2"


class Host(Record):
    """The machine that baked. `tools` are the versions of what made the disk and no lock fixes, by
    package; `distribution` is whose they are (`debian-13`)."""

    cpus: Annotated[int, Field(ge=1)]
    accel: str | None = None
    python: str
    packer: str
    tools: dict[str, str] = Field(default_factory=dict)
    distribution: str = ""


class Timing(Record):
    """One step and its duration."""

    name: str
    seconds: Seconds


class Component(Record):
    """One part of the image and its bytes on the root file system."""

    name: str
    bytes: Bytes


class Disk(Record):
    """The sealed disk image. `note` says why its bytes depend on more than the lock, if they do.
    `blocks_sha256` is the digest of `disk.blocks`, which the bake wrote."""

    path: str
    bytes_apparent: Bytes
    bytes_allocated: Bytes
    sha256: Sha256
    blocks_sha256: Sha256
    note: str = ""


class BuilderKind(StrEnum):
    """Where the roles ran: in a container here, or on an EC2 instance of the publisher's image."""

    LOCAL = "local"
    EC2 = "ec2"


class Ami(Record):
    """What the EC2 builder made instead of a disk: an AMI of one region and its snapshot. `base` is
    the publisher's AMI that it began from: the one part of such a build that the lock does not fix.
    `blocks_sha256` is the digest of `disk.blocks`, as the snapshot was read."""

    id: str
    region: str
    snapshot: str
    base: str
    volume_gib: Annotated[int, Field(ge=1)]
    blocks_sha256: Sha256 | None = None


def checkout_commit(git_commit: str) -> str:
    """The commit that `git_commit` begins with; "" where it names none."""
    commit = git_commit.partition("+")[0]
    return commit if re.fullmatch("[0-9a-f]{40,64}", commit) else ""


class BakeRecord(Record):
    """What `bake` did. `phases` follow one another; `roles` are in the order in which they ran.

    `seconds` is all of it by the clock. `largest` are the packages and wheels that take most.
    `packages_count` are those of the tree, of an AMI with the publisher's. A build has a disk
    here, or an AMI in EC2, as its builder makes them; an AMI has no `layers`. Of one whose
    disk could not be read nothing is known by file: no `components` and no `manifest_sha256`.
    """

    schema_version: Literal[1] = 1
    builder: Lax[BuilderKind] = BuilderKind.LOCAL
    image: str
    build_id: BuildId
    lock_sha256: Sha256
    git_commit: str
    started_at: Utc
    host: Host
    phases: list[Timing]
    roles: list[Timing]
    seconds: Seconds
    components: list[Component]
    disk: Disk | None = None
    ami: Ami | None = None
    packages_count: Annotated[int, Field(ge=0)]
    largest: list[Component] = Field(default_factory=list)
    layers: list[str]
    manifest_sha256: Sha256 | None = None

    @property
    def checkout_commit(self) -> str:
        return checkout_commit(self.git_commit)

    @property
    def disk_sha256(self) -> str | None:
        return self.disk.sha256 if self.disk else None

    @property
    def ami_id(self) -> str | None:
        return self.ami.id if self.ami else None

    @model_validator(mode="after")
    def _made_by_its_builder(self) -> Self:
        made = {BuilderKind.LOCAL: self.disk and self.manifest_sha256, BuilderKind.EC2: self.ami}
        if not made[self.builder] or (self.disk and self.ami):
            raise ValueError(
                f"a build by {self.builder.value} has a disk and its manifest, or an "
                "AMI, but not both"
            )
        return self

    @model_validator(mode="after")
    def _id_is_the_locks(self) -> Self:
        if not self.lock_sha256.startswith(self.build_id):
            raise ValueError(
                f"build_id {self.build_id} does not begin lock_sha256 {self.lock_sha256}"
            )
        return self


class Finding(Record):
    """Code that a declared machine cannot run: `extension` is what the CPU lacks (a name of
    architectures.py, or another that no baseline has), `sm_NN` for a GPU without device code, or
    `unreadable` for an unreadable file."""

    file: str
    symbol: str
    extension: str
    count: Annotated[int, Field(ge=1)]
    example: str


class CodeFile(Record):
    """An ELF file that the gate read: `extensions` beyond plain x86-64 and their instructions,
    `sass` and `ptx` the architectures of its device code."""

    path: str
    sha256: Sha256
    instructions: Annotated[int, Field(ge=0)]
    extensions: dict[str, int]
    sass: list[str]
    ptx: list[str]


class CoverageRecord(Record):
    """What the coverage check saw. `allowed` counts what each allowance's reason excused, 0 where
    nothing needed it."""

    schema_version: Literal[1] = 1
    folders: list[str]
    features: list[str]
    sm: list[str]
    files: list[CodeFile]
    findings: list[Finding]
    allowed: dict[str, int]


class Boot(Record):
    """One boot of the sealed disk, from power-on to the first SSH session."""

    firmware: str
    seconds_to_ssh: Seconds


class Check(Record):
    """`detail` is the message (of a correct one: the figures that its test recorded). Of a
    comparison that failed `expected` and `actual` are its sides."""

    id: str
    role: str
    title: str
    outcome: Lax[Outcome]
    detail: str = ""
    expected: str = ""
    actual: str = ""
    seconds: Seconds

    @classmethod
    def of_boot(
        cls, name: str, title: str, passed: bool, detail: str, seconds: float = 0.0
    ) -> Check:
        """A check of no role; `detail` counts where it failed."""
        return cls(
            id=f"boot/{name}",
            role="boot",
            title=title,
            outcome=Outcome.CORRECT if passed else Outcome.INCORRECT,
            detail="" if passed else detail,
            seconds=seconds,
        )


class VerifyRecord(Record):
    """What `verify` saw. `seconds` spans all boots and checks; `disk_sha256` or `ami` is what it
    booted.
    """

    schema_version: Literal[1] = 1
    image: str
    build_id: BuildId
    verdict: Lax[Verdict]
    accel: Lax[Accel]
    boots: list[Boot]
    checks: list[Check]
    seconds: Seconds
    disk_sha256: Sha256 | None = None
    ami: str | None = None

    @model_validator(mode="after")
    def _verdict_is_earned(self) -> Self:
        """Nothing else guards `publish`."""
        wrong = [check.id for check in self.checks if check.outcome is not Outcome.CORRECT]
        if self.verdict is Verdict.VERIFIED and (wrong or not self.checks):
            raise ValueError(
                "verdict is verified but "
                f"{wrong[0] + ' is not correct' if wrong else 'no check ran'}"
            )
        return self
