"""A bake makes layers while the driver's modules compile: who waits for whom, and what the record
says of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from goldenami.core.cache_paths import CachePaths
from goldenami.core.terminal.progress import Progress
from goldenami.image.bake import bake
from goldenami.image.builders.local import LocalBuilder
from goldenami.model.builds import lockfile
from goldenami.model.builds.plans import BakePlan, BakeResult, BakeStep
from support.builds import sample_plan
from support.builds.tools import ROOT


def step(name: str) -> BakeStep:
    return BakeStep(
        name=name, key="0" * 64, view=name, variables=Path("vars"), installs=True, replaces=[]
    )


class Builder(LocalBuilder):
    """Where the base tree is there already; it keeps the names of what it is asked to make."""

    asked: ClassVar[list[str]] = []

    def beside(self, plan: BakePlan, progress: Progress, work: Callable[[], None]) -> BakeResult:
        self.asked.extend(step.name for step in plan.steps)
        (plan.work / "roles-cuda.json").write_text("{}", encoding="utf-8")
        work()
        return BakeResult(layers=["base"])


def test_layers_are_made_beside_the_compilation(tmp_path: Path) -> None:
    lock, digest = lockfile.read(lockfile.path_of(ROOT, "debian-13-ml-cpu"))
    builder, compiled = Builder(ROOT), list[str]()

    def plan(folder: Path, log: Path) -> BakePlan:
        assert folder.is_dir() and log == tmp_path / "bake-layers.log"
        steps = [step(name) for name in ("os_updates", "cuda", "nvidia_driver", "seal")]
        return sample_plan.sample(folder, lock, digest).model_copy(update={"steps": steps})

    made = bake._beside(
        plan,
        2,
        lambda: compiled.append("modules"),
        Progress.of("bake", "x", CachePaths(tmp_path)),
        builder,
        work=tmp_path,
        log=tmp_path / "bake.log",
    )
    assert builder.asked == ["os_updates", "cuda"] and compiled == ["modules"]
    assert made == {"os_updates", "cuda"}, "the base tree was there before"
    assert (tmp_path / "roles-cuda.json").exists(), (
        "the seconds of roles are those of the whole bake"
    )
