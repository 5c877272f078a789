"""A copy of the checkout with layers of its own, which a test damages, forgets or fills anew."""

from __future__ import annotations

import subprocess
from pathlib import Path

from goldenami.core import records
from goldenami.core.cache_paths import CachePaths
from goldenami.image.bake import bake_plan, toolchain_digest
from goldenami.local.tree.layers import RECORD, LayerRecord
from goldenami.model.builds.build_records import BakeRecord
from goldenami.model.locked import lockfile

from support.builds import checkout
from support.builds.bakes import IMAGE, build_of_lock, finish, locked

LAYERS = ["base", "os_updates", "frameworks", "instance_store+tools", "kernel"]


class LayerCheckout:
    """A copy of the checkout with layers of its own, at first this machine's; what was downloaded
    is shared, and what was read of code."""

    def __init__(self, folder: Path) -> None:
        self.root = locked(folder / "checkout")
        self.cache = checkout.cache(folder / "cache", built=("modules", "apt", "code"))
        (self.cache / "layers").mkdir()
        layers = [CachePaths.default().layers / key for key in self.keys()]
        if not all((layer / RECORD).exists() for layer in layers):
            # In this machine's cache: the tests beside these need them too, and wait for one who
            # makes them.
            status, output = finish(checkout.golden(self.root, "bake", IMAGE, "--no-verify"))
            assert status == 0, output
        subprocess.run(["cp", "--archive", "--link", *layers, self.cache / "layers"], check=True)

    def keys(self) -> list[str]:
        """The layers' keys, the base tree's first; of the last step none is kept."""
        lock, _ = lockfile.read(lockfile.path_of(self.root, IMAGE))
        found, toolchain = [bake_plan.base_key(lock)], toolchain_digest.digest(self.root)
        for step in lock.steps[:-1]:
            found.append(bake_plan.step_key(lock, step, found[-1], toolchain))
        return found

    def start(self, stage: str, *options: str, **env: str) -> subprocess.Popen[str]:
        return checkout.golden(
            self.root, stage, IMAGE, *options, GOLDEN_CACHE=str(self.cache), **env
        )

    def bake(self, **env: str) -> tuple[str, BakeRecord]:
        """Bake; returns what was said and the record."""
        status, output = finish(self.start("bake", "--no-verify", "--force", **env))
        assert status == 0, output
        return output, records.read(build_of_lock(self.root) / "bake.json", BakeRecord)

    def layers(self) -> dict[str, Path]:
        """The kept layers by the name of their step."""
        return {
            records.read(path, LayerRecord).name: path.parent
            for path in self.cache.glob(f"layers/*/{RECORD}")
        }
