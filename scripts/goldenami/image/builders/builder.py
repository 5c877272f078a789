"""Where an image is built and booted: on this machine (`local.py`), or in an account (`ec2.py`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from goldenami.core.terminal.progress import Progress
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.build_records import BakeRecord, BuilderKind
from goldenami.model.builds.plans import BakePlan, BakeResult, VerifyResult
from goldenami.model.locked.lockfile import Lock


class Builder(Protocol):
    """What `bake` and `verify` have done by it."""

    @property
    def kind(self) -> BuilderKind:
        """What records call it."""

    def check_host(self) -> None:
        """HostNotReady where this machine cannot do it."""

    def check_build(self, build: BuildFolder) -> None:
        """BadInput where there is nothing left of the build to boot."""

    def built(self, record: BakeRecord) -> bool:
        """Whether it made this build, in the same region."""

    def beside(self, plan: BakePlan, progress: Progress, work: Callable[[], None]) -> BakeResult:
        """Call `work`, and meanwhile make the layers of the plan's steps, where a bake takes
        any."""

    def bake(self, lock: Lock, plan: BakePlan, progress: Progress, *, force: bool) -> BakeResult:
        """Run the roles and seal what comes out; with `force` anew, though it be there already."""

    def verify(
        self, lock: Lock, build: BuildFolder, work: Path, log: Path, progress: Progress
    ) -> VerifyResult:
        """Boot the build and run all checks; evidence goes into the folder `work`."""
