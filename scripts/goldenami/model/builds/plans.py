"""What one process hands to another, which runs in its own namespaces (`local/programs/`): a plan
as `plan.json` in its work folder, a result as `result.json` beside it."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from goldenami.core.records import Record, Sha256
from goldenami.model.builds.build_records import (
    Accel,
    Ami,
    Boot,
    BuildId,
    Bytes,
    Check,
    Disk,
    Seconds,
)
from goldenami.model.builds.container_records import ContainerLayer
from goldenami.model.builds.hardening_records import HardeningScan
from goldenami.model.builds.part_facts import PartFacts
from goldenami.model.roles.recipes import Allowance, Patch


class ProgramPlan(Record):
    """What every program gets: a work folder of its own, and the log that its tools write to."""

    work: Path
    log: Path


class Tree(Record):
    """A root tree: the suite's name, the repository's folder and the packages beyond the essential
    ones."""

    suite: str
    repository: Path
    include: list[str]
    architecture: str = "amd64"


class TreePlan(ProgramPlan):
    """Work on a base tree, which is kept as the layer `base_key` in the folder `layers`."""

    tree: Tree
    base_key: Sha256
    layers: Path


# --- bake ---


class BakeStep(Record):
    """Roles that run in one container. `key` names its layer, `view` what apt sees of the
    repository; `variables` is the roles' file. `replaces` are the dummy packages that give way to
    the real ones."""

    name: str
    key: Sha256
    view: str
    variables: Path
    installs: bool
    replaces: list[str]


class CoverageRequest(Record):
    """What the coverage check looks at: the folders of a tree, what every declared machine has,
    what is allowed.

    `known` is the folder of what it read of files before, by their content.
    """

    folders: list[str]
    features: list[str]
    sm: list[str]
    allow: list[Allowance]
    known: Path | None = None


class CodePlan(ProgramPlan):
    """A layer whose code is read."""

    tree: Path
    coverage: CoverageRequest


class BakePlan(TreePlan):
    """A bake of `lock` with the roles of the checkout `root`; `packages` are the lock's versions by
    name."""

    root: Path
    lock: Path
    image: str
    build_id: BuildId
    lock_sha256: Sha256
    source_date_epoch: int
    disk_size_gib: int
    packages: dict[str, str]
    steps: list[BakeStep]
    coverage: CoverageRequest
    layers_limit_bytes: Bytes


class ContainerPlan(BakePlan):
    """A container image of a lock's part, in the folder `layout`. `groups` name the image's layer
    of each step; `keeps` are the packages that stay, with what they need. The rest is for OCI's
    configuration: `created` is a time of ISO 8601."""

    layout: Path
    groups: list[str]
    keeps: list[str]
    created: str
    environment: dict[str, str]
    entrypoint: list[str]
    labels: dict[str, str]


class ContainerResult(Record):
    """The content of a container image; `parts` are its packages and wheels, as in `TreeFacts`."""

    digest: Sha256
    layers: list[ContainerLayer]
    parts: dict[str, PartFacts]


class BakeResult(Record):
    """What a builder made: a disk, or an AMI. `sizes` are the bytes by package, "" for what none
    owns; of a disk `layers` are those that were there already."""

    disk: Disk | None = None
    ami: Ami | None = None
    sizes: dict[str, Bytes] = Field(default_factory=dict)
    layers: list[str] = Field(default_factory=list)
    manifest_sha256: Sha256 | None = None


class ContainerAccess(Record):
    """How a running container is reached."""

    address: str
    ssh_key: Path
    proxy_command: str


# --- verify ---


class BootPlan(ProgramPlan):
    """A boot of the disk image `disk`, for `user` to log in within `boot_limit_s`; one took
    `expected_s` before."""

    disk: Path
    user: str
    boot_limit_s: Seconds
    expected_s: Seconds = 0.0


class VerifyPlan(BootPlan):
    """What `verify` looks at: the checkout `root` with its tests, and of the build its disk,
    variables and coverage record. `baked` is the disk's record, `features` are what all declared
    CPUs have (GCC's names); the disk is booted `growth_bytes` larger."""

    root: Path
    baked: Disk
    variables: Path
    coverage: Path
    roles: list[str]
    features: list[str]
    growth_bytes: Bytes


class VerifyResult(Record):
    """What the boots and the checks gave, by whichever builder; `hardening` of an image with that
    role."""

    accel: Accel
    boots: list[Boot]
    checks: list[Check]
    hardening: HardeningScan | None = None


# --- compilation ---


class ModulesPlan(TreePlan):
    """Kernel modules to compile from the DKMS `source`, a package or a tarball, and the package
    that they become."""

    source: Path
    source_date_epoch: int
    kernel_release: str
    version: str
    package: str
    title: str
    provides: list[str]
    depends: list[str]
    signed: bool


class ModulesResult(Record):
    """The package, its `modules` and the bytes that it installs; or the compiler's first error, or
    what the machine `lacks`."""

    deb: Path | None
    modules: list[str]
    installed_size: Bytes
    first_error: str
    lacks: str
    compiler: str
    seconds: Seconds


class WheelTests(Record):
    """A framework's own tests: the wheels that they need besides, and pytest's arguments."""

    wheels: list[str]
    arguments: list[str]


class WheelPlan(TreePlan):
    """A wheel to compile from the archive `source` for the CPU `target` and the GPUs `sm`, as its
    recipe says.

    `requires` is the build environment, `runs_with` what the wheel needs to run. `programs` are the
    recipes' folders; `mounts` are folders of this machine and where they are in the tree. Wheels
    are named by their path below the tree's /build, and lie so in `work`.
    """

    name: str
    programs: Path
    mounts: list[tuple[Path, str]]
    target: str
    sm: list[str]
    source: Path
    files: dict[str, str]
    patches: list[Patch]
    environment: dict[str, str]
    settings: dict[str, list[str]]
    library_path: str | None
    jobs: int
    requires: list[str]
    runs_with: list[str]
    tests: WheelTests | None


class WheelResult(Record):
    """The wheel; `seconds` are those of the compilation with `jobs` compilers, `cache` counts
    ccache's hits and misses, `tests` is the closing line of the framework's own tests."""

    wheel: Path
    compiler: str
    tests: str
    seconds: Seconds
    jobs: int
    cache: dict[str, int]
