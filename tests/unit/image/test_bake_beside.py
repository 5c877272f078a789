"""A bake makes layers while the driver's modules compile: who waits for whom, and what the record
says of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from goldenami.core.cache_paths import CachePaths
from goldenami.core.terminal.progress import Progress
from goldenami.image.bake import bake
from goldenami.image.bake.bake_inputs import BakeInputs
from goldenami.image.builders.local import LocalBuilder
from goldenami.model.builds.plans import BakePlan, BakeResult, BakeStep
from goldenami.model.locked import lockfile
from goldenami.packages.store import Store
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


class Inputs(BakeInputs):
    """Of four steps, whose modules compile at once."""

    compiled: ClassVar[list[str]] = []

    def repository(self, *, tools: bool = False) -> Path:
        return self.root / "repository"

    def plan(self, work: Path, log: Path, packages: Path) -> BakePlan:
        whole = self.build.log("bake")
        assert work.is_dir() and log == whole.with_name(f"{whole.stem}-layers.log")
        steps = [step(name) for name in ("os_updates", "cuda", "nvidia_driver", "seal")]
        plan = sample_plan.sample(work, self.lock, self.lock_sha256)
        return plan.model_copy(update={"steps": steps})

    def compile_again(self, log: Path) -> None:
        assert log == self.build.log("bake")
        self.compiled.append("modules")


def test_layers_are_made_beside_the_compilation(tmp_path: Path) -> None:
    lock, digest = lockfile.read(lockfile.path_of(ROOT, "debian-13-ml-cpu"))
    builder, progress = Builder(ROOT), Progress.of("bake", "x", CachePaths(tmp_path))
    inputs = Inputs(tmp_path, lock, digest, Store(tmp_path / "cache"), progress)
    made = bake._beside(inputs, builder, tmp_path, 2)
    assert builder.asked == ["os_updates", "cuda"] and inputs.compiled == ["modules"]
    assert made == {"os_updates", "cuda"}, "the base tree was there before"
    assert (tmp_path / "roles-cuda.json").exists(), (
        "the seconds of roles are those of the whole bake"
    )
