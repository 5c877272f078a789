"""The builder on this machine: roles in containers, a disk, and boots of it in QEMU, all in
namespaces of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from goldenami.core import records, shell
from goldenami.core.errors import BadInput
from goldenami.core.terminal.progress import Progress
from goldenami.local.host import workspace
from goldenami.local.machine import container, ssh
from goldenami.local.sandbox import how_far, namespaces, program
from goldenami.model.builds.build_folder import BuildFolder, ImageFolder
from goldenami.model.builds.build_records import BakeRecord, BuilderKind, VerifyRecord
from goldenami.model.builds.plans import BakePlan, BakeResult, BootPlan, VerifyPlan, VerifyResult
from goldenami.model.locked import lockfile
from goldenami.model.locked.lockfile import Lock

GROWTH_BYTES = 1 << 30
"""Bytes by which the volume is larger than the image, so that a check sees the root grow."""


@dataclass(frozen=True)
class LocalBuilder:
    """The builder of the checkout `root` on this machine."""

    root: Path
    kind: BuilderKind = BuilderKind.LOCAL

    def check_host(self) -> None:
        container.check_host()

    def check_build(self, build: BuildFolder) -> None:
        if not build.disk.exists():
            raise BadInput(
                f"{build.disk} does not exist",
                hint="bake it again: the same lock gives the same disk",
            )

    def built(self, record: BakeRecord) -> bool:
        return record.ami is None

    def beside(self, plan: BakePlan, progress: Progress, work: Callable[[], None]) -> BakeResult:
        return program.beside(
            "goldenami.local.programs.early_layers", plan, BakeResult, progress, work
        )

    def bake(self, lock: Lock, plan: BakePlan, progress: Progress, *, force: bool) -> BakeResult:
        return program.call(
            "goldenami.local.programs.bake_tree",
            plan,
            BakeResult,
            progress,
            look=partial(how_far.of_bake, plan, how_far.expected(lock)),
        )

    def verify(
        self, lock: Lock, build: BuildFolder, work: Path, log: Path, progress: Progress
    ) -> VerifyResult:
        disk = build.read_bake().disk
        assert disk is not None
        plan = VerifyPlan(
            work=work,
            log=log,
            root=self.root,
            disk=build.disk,
            baked=disk,
            variables=build.variables,
            coverage=build.coverage,
            user=lock.base.distribution,
            roles=lock.checked,
            features=lock.hardware.features,
            growth_bytes=GROWTH_BYTES,
            boot_limit_s=ssh.boot_limit_s(),
        )
        return program.call(
            "goldenami.local.programs.boot_disk",
            plan,
            VerifyResult,
            progress,
            look=partial(how_far.of_checks, work),
        )

    def shell(self, image: str) -> int:
        """Boot the newest verified disk of `image` and run an interactive SSH session in it.
        Returns the session's exit status."""
        build = ImageFolder.of(self.root, image).latest
        if build is None:
            raise BadInput(f"{image} has no verified build", hint=f"run `make bake IMAGE={image}`")
        if build.read_bake().disk is None:
            raise BadInput(
                f"{build.path} was baked on EC2: there is no disk to boot", hint="launch its AMI"
            )
        self.check_build(build)
        self.check_host()
        lock, _ = lockfile.read_copy(build.lock)
        with (
            workspace.scratch_in(build.image.path, "shell") as work,
            namespaces.own_cgroup() as cgroup,
        ):
            boots = records.read(build.verify, VerifyRecord).boots
            plan = BootPlan(
                work=work,
                log=work / "log",
                disk=build.disk,
                user=lock.base.distribution,
                boot_limit_s=ssh.boot_limit_s(),
                expected_s=max((boot.seconds_to_ssh for boot in boots), default=0.0),
            )
            argv = program.argv("goldenami.local.programs.open_session", plan)
            return shell.interactive(namespaces.joined_argv(cgroup, argv), env=shell.python_env())
