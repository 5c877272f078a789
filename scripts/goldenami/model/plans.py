"""Plans and results: what one process hands to another, which runs in its own namespaces (`local/programs/`).

A plan is written as `plan.json` into its work folder, a result as `result.json` beside it. Nobody else reads them.
"""

from __future__ import annotations

from pathlib import Path

from goldenami.core.records import Record
from goldenami.model.build_records import Accel, Boot, Check, Seconds, Sha256


class Plan(Record):
    """What every program gets: a work folder of its own, and the log that its tools write to."""

    work: Path
    log: Path


class BootPlan(Plan):
    """A boot of the disk image `disk`, for `user` to log in within `boot_limit_s`."""

    disk: Path
    user: str
    boot_limit_s: Seconds


class VerifyPlan(BootPlan):
    """What `verify` looks at: the checkout `root` with its tests, and of the build its disk, variables and coverage
    record. `features` are what all declared CPUs have (GCC's names); the disk is booted `growth_bytes` larger."""

    root: Path
    disk_sha256: Sha256
    variables: Path
    coverage: Path
    roles: list[str]
    features: list[str]
    growth_bytes: int


class VerifyResult(Record):
    """What the boots and the checks gave, by whichever builder."""

    accel: Accel
    boots: list[Boot]
    checks: list[Check]
