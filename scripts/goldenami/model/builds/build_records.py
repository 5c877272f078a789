"""Records of a build in `build/<image>/<build id>/`, which `bake` and `verify` write and later
stages read. Times are wall-clock seconds, sizes are bytes, digests are hex SHA-256."""

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
"""Copy of the lock from which the build was baked; a later report compares packages with it."""
REPORT_FILE = "report.html"
SUMMARY_FILE = "report.md"
BLOCKS_FILE = "disk.blocks"
"""SHA-256 of each block of the disk, which `verify` compares and an upload uses."""
COVERAGE_FILE = "coverage.json"

ROLES_JOINED_BY = "+"
"""Separator of the roles in the name of a bake's phase, so that a chart can draw them below it."""


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
    """Outcome of a check. One that could not be done is `unreachable`, never `correct`."""

    CORRECT = "correct"
    INCORRECT = "incorrect"
    MISSING = "missing"
    UNREACHABLE = "unreachable"


class Verdict(StrEnum):
    """Whether the image may be published."""

    VERIFIED = "verified"
    NOT_VERIFIED = "not verified"


class Accel(StrEnum):
    """Where `verify` booted the image: with one of QEMU's accelerators, or on an EC2 instance."""

    KVM = "kvm"
    TCG = "tcg"
    EC2 = "ec2"


class Host(Record):
    """The machine that baked. `tools` has the versions, by package, of those of its programs that
    made the disk, which no lock fixes; `distribution` is theirs (`debian-13`)."""

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
    """A part of the image and its size on the root file system."""

    name: str
    bytes: Bytes


class Disk(Record):
    """The sealed disk image. `note` says why its bytes depend on more than the lock, or is "".
    `blocks_sha256` is the digest of `disk.blocks`, as the bake wrote it."""

    path: str
    bytes_apparent: Bytes
    bytes_allocated: Bytes
    sha256: Sha256
    blocks_sha256: Sha256
    note: str = ""


class BuilderKind(StrEnum):
    """Where the roles ran: in a container here, or on an EC2 instance of the distribution's
    image."""

    LOCAL = "local"
    EC2 = "ec2"


class Ami(Record):
    """The result of the EC2 builder: an AMI of one region and its snapshot. `base` is the
    distribution's AMI from which it began, the only part of such a build that the lock does not
    fix. `blocks_sha256` is the digest of `disk.blocks`, made by reading the snapshot."""

    id: str
    region: str
    snapshot: str
    base: str
    volume_gib: Annotated[int, Field(ge=1)]
    blocks_sha256: Sha256 | None = None


def checkout_commit(git_commit: str) -> str:
    """Return the commit at the start of `git_commit`, or "" if there is none."""
    commit = git_commit.partition("+")[0]
    return commit if re.fullmatch("[0-9a-f]{40,64}", commit) else ""


class BakeRecord(Record):
    """Result of `bake`. `phases` and `roles` are in the order in which they ran.

    `seconds` is the duration of the whole bake. `largest` are the packages and wheels that take
    most space. `packages_count` counts those of the tree; for an AMI the distribution's are
    included. A build has a disk here or an AMI in EC2, depending on its builder. An AMI has no
    `layers`; if its disk could not be read, it has no `components` and no `manifest_sha256`.
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
        outputs = {BuilderKind.LOCAL: self.disk and self.manifest_sha256, BuilderKind.EC2: self.ami}
        if not outputs[self.builder] or (self.disk and self.ami):
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
    """Code that a declared machine cannot run. `extension` is the one that the CPU lacks (a name of
    architectures.py, or another that no baseline has), `sm_NN` for a GPU without device code, or
    `unreadable` for a file that could not be read."""

    file: str
    symbol: str
    extension: str
    count: Annotated[int, Field(ge=1)]
    example: str


class CodeFile(Record):
    """An ELF file that the coverage check read. `extensions` counts instructions of each extension
    beyond plain x86-64; `sass` and `ptx` are the architectures of its device code."""

    path: str
    sha256: Sha256
    instructions: Annotated[int, Field(ge=0)]
    extensions: dict[str, int]
    sass: list[str]
    ptx: list[str]


class CoverageRecord(Record):
    """Result of the coverage check. `allowed` counts the findings that each allowance excused, by
    its reason, and has 0 for an unneeded one."""

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
    """Result of one check. `detail` is the message, or the recorded figures of a correct check.
    `expected` and `actual` are the two sides of a failed comparison."""

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
        """Return a check of the boot itself. `detail` is used only if it failed."""
        outcome = Outcome.INCORRECT
        if passed:
            outcome, detail = Outcome.CORRECT, ""
        return cls(
            id=f"boot/{name}",
            role="boot",
            title=title,
            outcome=outcome,
            detail=detail,
            seconds=seconds,
        )


class VerifyRecord(Record):
    """Result of `verify`. `seconds` spans all boots and checks. It booted the disk of `disk_sha256`
    or the AMI `ami`.
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
        # `publish` trusts the verdict alone, so a record with a wrong one must not be readable.
        failed_ids = [check.id for check in self.checks if check.outcome is not Outcome.CORRECT]
        if self.verdict is Verdict.VERIFIED:
            if failed_ids:
                raise ValueError(f"verdict is verified but {failed_ids[0]} is not correct")
            if not self.checks:
                raise ValueError("verdict is verified but no check ran")
        return self
