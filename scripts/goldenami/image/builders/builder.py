"""The interface of a builder, which builds and boots an image: on this machine (`local.py`), or in
an account (`ec2.py`)."""

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
    """The work that `bake` and `verify` leave to a builder."""

    @property
    def kind(self) -> BuilderKind:
        """Its name in records."""

    def check_host(self) -> None:
        """Raise HostNotReady if this machine cannot run it."""

    def check_build(self, build: BuildFolder) -> None:
        """Raise BadInput if nothing of the build is left to boot."""

    def built(self, record: BakeRecord) -> bool:
        """Whether this builder made the build, in the same region."""

    def beside(self, plan: BakePlan, progress: Progress, work: Callable[[], None]) -> BakeResult:
        """Call `work`, and meanwhile make the layers of the plan's steps, if this builder uses
        layers."""

    def bake(self, lock: Lock, plan: BakePlan, progress: Progress, *, force: bool) -> BakeResult:
        """Run the roles and seal the result. With `force` anew, even if it exists already."""

    def verify(
        self, lock: Lock, build: BuildFolder, work: Path, log: Path, progress: Progress
    ) -> VerifyResult:
        """Boot the build and run all checks; evidence goes into the folder `work`."""
