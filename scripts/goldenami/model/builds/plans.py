"""Records that pass between `golden` and its programs in namespaces of their own
(`local/programs/`). Each program reads `plan.json` in its work folder and writes `result.json`
beside it."""

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
    """The part of every plan: a work folder for the program alone, and the log of its tools."""

    work: Path
    log: Path


class Tree(Record):
    """A root tree to make from a repository's folder: the packages of `include` and the essential
    ones."""

    suite: str
    repository: Path
    include: list[str]
    architecture: str = "amd64"


class TreePlan(ProgramPlan):
    """A plan that needs a base tree, which is kept as the layer `base_key` in `layers`."""

    tree: Tree
    base_key: Sha256
    layers: Path


# --- bake ---


class BakeStep(Record):
    """Roles that run in one container. `key` names its layer, `view` the part of the repository
    that apt sees; `variables` is the file with the roles' variables. `replaces` are dummy packages
    that the step replaces by the real ones."""

    name: str
    key: Sha256
    view: str
    variables: Path
    installs: bool
    replaces: list[str]


class CoverageRequest(Record):
    """Input of the coverage check: folders of a tree, the features that every declared machine has,
    and exceptions.

    `known` is a folder with earlier findings in files, by their content.
    """

    folders: list[str]
    features: list[str]
    sm: list[str]
    allow: list[Allowance]
    known: Path | None = None


class CodePlan(ProgramPlan):
    """A coverage check of one tree."""

    tree: Path
    coverage: CoverageRequest


class BakePlan(TreePlan):
    """A bake of `lock` with the roles of the checkout `root`. `packages` has the lock's versions by
    package."""

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
    """A container image of a part of a lock, to be written to the folder `layout`. `groups` has the
    name of the image's layer for each step. `keeps` are the packages that stay, together with those
    that they need. The other fields are for OCI's configuration; `created` is an ISO 8601 time."""

    layout: Path
    groups: list[str]
    keeps: list[str]
    created: str
    environment: dict[str, str]
    entrypoint: list[str]
    labels: dict[str, str]


class ContainerResult(Record):
    """A container image that was made. `parts` are its packages and wheels, as in `TreeFacts`."""

    digest: Sha256
    layers: list[ContainerLayer]
    parts: dict[str, PartFacts]


class BakeResult(Record):
    """A builder's result: a disk or an AMI. `sizes` has bytes by package, with those of files that
    no package owns under "". `layers` are the layers of a disk that existed before."""

    disk: Disk | None = None
    ami: Ami | None = None
    sizes: dict[str, Bytes] = Field(default_factory=dict)
    layers: list[str] = Field(default_factory=list)
    manifest_sha256: Sha256 | None = None


class ContainerAccess(Record):
    """Access to a running container by SSH."""

    address: str
    ssh_key: Path
    proxy_command: str


# --- verify ---


class BootPlan(ProgramPlan):
    """A boot of the disk image `disk`, in which `user` has to be able to log in within
    `boot_limit_s`. `expected_s` is how long an earlier boot took."""

    disk: Path
    user: str
    boot_limit_s: Seconds
    expected_s: Seconds = 0.0


class VerifyPlan(BootPlan):
    """Input of `verify`: the checkout `root` with its tests, and the build's disk, variables and
    coverage record. `baked` is the disk's record, `features` are those that all declared CPUs have
    (GCC's names). The disk is booted `growth_bytes` larger than it was baked."""

    root: Path
    baked: Disk
    variables: Path
    coverage: Path
    roles: list[str]
    features: list[str]
    growth_bytes: Bytes


class VerifyResult(Record):
    """Results of the boots and checks, by either builder. `hardening` is None for an image without
    that role."""

    accel: Accel
    boots: list[Boot]
    checks: list[Check]
    hardening: HardeningScan | None = None


# --- compilation ---


class ModulesPlan(TreePlan):
    """Kernel modules to compile from the DKMS `source` (a package or a tarball), and to pack as
    `package`."""

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
    """The package, its `modules` and its installed size. If there is no package, `first_error` is
    the compiler's first error, or `lacks` names what this machine lacks."""

    deb: Path | None
    modules: list[str]
    installed_size: Bytes
    first_error: str
    lacks: str
    compiler: str
    seconds: Seconds


class WheelTests(Record):
    """A framework's own tests: the additional wheels that they need, and pytest's arguments."""

    wheels: list[str]
    arguments: list[str]


class WheelPlan(TreePlan):
    """A wheel to compile from the archive `source` for the CPU `target` and the GPUs `sm`, as its
    recipe says.

    `requires` are the wheels of the build environment, `runs_with` those that the wheel needs to
    run. `programs` is the recipes' folder. `mounts` pairs folders of this machine with their paths
    in the tree. Wheels are named by their path below the tree's /build, which is also their path
    in `work`.
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
    """A compiled wheel. `seconds` is the time of the compilation with `jobs` parallel compilers,
    `cache` counts ccache's hits and misses, `tests` is the last line of the framework's own
    tests."""

    wheel: Path
    compiler: str
    tests: str
    seconds: Seconds
    jobs: int
    cache: dict[str, int]
