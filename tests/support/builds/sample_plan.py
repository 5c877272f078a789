"""A plan of a bake for tests, without steps and roles."""

from __future__ import annotations

from pathlib import Path

from goldenami.image.bake import bake_plan
from goldenami.model.builds.plans import BakePlan, Tree
from goldenami.model.locked import lockfile
from goldenami.model.locked.lockfile import Lock


def sample(work: Path, lock: Lock, lock_sha256: str) -> BakePlan:
    return BakePlan(
        work=work,
        log=work / "log",
        root=work,
        lock=work / "lock.json",
        image=lock.image,
        build_id=lock_sha256[: lockfile.ID_LENGTH],
        lock_sha256=lock_sha256,
        source_date_epoch=lock.source_date_epoch,
        disk_size_gib=lock.disk_size_gib,
        packages={},
        steps=[],
        tree=Tree(suite=lock.base.release, repository=work / "repo", include=[]),
        base_key="0" * 64,
        layers=work / "layers",
        layers_limit_bytes=0,
        coverage=bake_plan.coverage(lock),
    )
